"""The manifest of a TensorRT plan: the model's manifest, how the plan was built, and the golden sample.

A plan stays as the library built it, so that the vendor's tools load `model.plan`; the manifest is `model.plan.json`
beside it. The hashes of the plan and of the manifest's fields detect accidental changes; they are no signature.
"""

import base64
import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace
from safetensors.numpy import save as save_safetensors

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.json_decoding import Count, Sha256, convert_json, read_json, shorten_json
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import LARGEST_ENTRY, Golden, decode_golden

SCHEMA_VERSION = 2
SUFFIX = ".plan"
LibraryName = Literal["tensorrt", "tensorrt_rtx"]
LIBRARIES: dict[LibraryName, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # the vendor's names
Hardware = Literal["same-gpu", "same-capability", "ampere-plus"]
HARDWARE: tuple[str, ...] = get_args(Hardware)
DEFAULT_LEVEL = 3  # the libraries' own optimization level

# Printed in commands: without control characters and bidirectional overrides.
_TEXT = r"[^/\\\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
FileName = Annotated[str, Meta(pattern=rf"^{_TEXT}{{1,255}}\Z", description="the name of a file")]
Name = Annotated[str, Meta(pattern=rf"^(?:{_TEXT}|[/\\]){{1,255}}\Z", description="a name of at most 255 characters")]
BatchSize = Annotated[int, Meta(ge=1, description="a whole number from 1 up")]
Capability = Annotated[str, Meta(pattern=r"^\d{1,2}\.\d\Z", description='a compute capability such as "8.9"')]


class BatchProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """The batch sizes that a plan takes, and the one that it is fastest at: min ≤ opt ≤ max."""

    min: BatchSize
    opt: BatchSize
    max: BatchSize

    def __str__(self) -> str:
        return f"{self.min},{self.opt},{self.max}"


class BuildRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """How a plan was built, and what it runs on.

    Attributes:
        library: a key of LIBRARIES, whose runtime loads the plan.
        version: of that library, "11.4.0.106".
        model_file: name of the model file, without its folder.
        batch: the batch sizes of the plan's optimization profile.
        compute_capabilities: of the GPUs that run the plan, such as "8.9"; empty for all that TensorRT-RTX supports.
        gpu: name of the GPU that it was built on; None where none was needed.
        platform: operating system and processor, "linux x86_64".
        optimization_level: of the builder, 0 to 5.
        workspace_mib: limit of a layer's workspace in MiB; None for the library's default.
        version_compatible: whether later versions of the library may load it.
        hardware: one of HARDWARE: the GPUs that may run a plan of TensorRT besides the one it was built on.
        weights_stripped: whether weights are left out and read from `model_file` when the plan is opened.
        layers: number of layers in the plan.
        precisions: number of layers by the type of their first input.
    """

    library: LibraryName
    version: Name
    model_file: FileName
    batch: BatchProfile
    compute_capabilities: tuple[Capability, ...]
    gpu: Name | None
    platform: Name
    optimization_level: Count
    workspace_mib: Count | None
    version_compatible: bool
    hardware: Hardware
    weights_stripped: bool
    layers: Count
    precisions: dict[Name, Count]

    def command(self, plan: Path) -> str:
        """The command that builds such a plan again, with the installed library."""
        rtx = self.library == "tensorrt_rtx"
        flags = [
            (True, ["--batch", str(self.batch)]),
            (rtx, ["--rtx"]),
            *((rtx, ["--compute-capability", capability]) for capability in self.compute_capabilities),
            (self.optimization_level != DEFAULT_LEVEL, ["--optimization-level", str(self.optimization_level)]),
            (self.workspace_mib is not None, ["--workspace", str(self.workspace_mib)]),
            (self.version_compatible, ["--version-compatible"]),
            (self.hardware != HARDWARE[0], ["--hardware", self.hardware]),
            (self.weights_stripped, ["--strip-weights"]),
        ]
        words = [word for used, flag in flags if used for word in flag]
        return shlex.join(["mlzsl-build", self.model_file, *words, "--output", str(plan)])

    def rebuild(self, plan: Path) -> str:
        """The remedy for a plan that cannot run, as the end of a sentence."""
        return f"rebuild with `{self.command(plan)}`"


class PlanManifest(Struct, frozen=True):
    """What a plan is.

    Attributes:
        model: the manifest of the model file that it was built from.
        build: how it was built.
        plan_sha256: of the plan's bytes.
    """

    model: Manifest
    build: BuildRecord
    plan_sha256: str


class _PlanFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON beside a plan; `checksum` is the SHA-256 of the other fields but `golden`, whose hash is in `model`."""

    schema_version: Count
    plan_sha256: Sha256
    build: BuildRecord
    model: dict[str, Any]
    checksum: Sha256
    golden: str  # base64 of a safetensors file


def manifest_path(plan: Path) -> Path:
    """`model.plan.json` for `model.plan`."""
    return plan.with_name(plan.name + ".json")


def write_plan(path: Path, plan: bytes, model: Manifest, build: BuildRecord, golden: Golden) -> PlanManifest:
    """Write a plan and its manifest atomically, the manifest last.

    Raises:
        FailureError: a file cannot be written.
    """
    manifest = PlanManifest(model, build, hashlib.sha256(plan).hexdigest())
    with written_atomically(path) as temporary:
        temporary.write_bytes(plan)
    write_plan_manifest(path, manifest, golden)
    return manifest


def write_plan_manifest(path: Path, manifest: PlanManifest, golden: Golden) -> None:
    """Write the manifest of the plan at `path`, in place of an earlier one.

    Raises:
        FailureError: the file cannot be written.
    """
    sample = save_safetensors({"images": golden.images, "scores": golden.scores})
    fields = {
        "schema_version": SCHEMA_VERSION,
        "plan_sha256": manifest.plan_sha256,
        "build": msgspec.to_builtins(manifest.build),
        "model": msgspec.to_builtins(manifest.model),
    }
    record = fields | {"checksum": _checksum(fields), "golden": base64.b64encode(sample).decode()}
    with written_atomically(manifest_path(path)) as temporary:
        temporary.write_text(json.dumps(record, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def change_plan_manifest(path: Path, change: Callable[[Manifest], Manifest]) -> PlanManifest:
    """Change the model's manifest within a plan's manifest; plan and golden sample stay.

    Args:
        path: the plan.
        change: from the model's manifest to the new one.

    Returns:
        The manifest as written.

    Raises:
        UsageError: as `read_plan_manifest`.
        FailureError: the file cannot be written.
    """
    manifest, golden = _read_with_golden(path)
    changed = replace(manifest, model=change(manifest.model))
    write_plan_manifest(path, changed, golden)
    return changed


def read_plan_manifest(path: Path) -> PlanManifest:
    """Read the manifest of a plan, and check that both belong together.

    Raises:
        UsageError: plan or manifest is missing, damaged, changed, or another's; the sentence has the build command.
    """
    return read_plan(path)[0]


def read_plan_golden(path: Path) -> Golden:
    """Read the golden sample of a plan: images uint8 [n, S, S, 3] and scores float32 [n, L].

    Raises:
        UsageError: as `read_plan_manifest`.
    """
    return _read_with_golden(path)[1]


def read_plan(path: Path) -> tuple[PlanManifest, bytes]:
    """Read a plan and its manifest: the bytes are those that were checked. Raises as `read_plan_manifest`."""
    manifest, _ = _read_file(path)
    return manifest, _plan_bytes(path, manifest)


def _read_with_golden(path: Path) -> tuple[PlanManifest, Golden]:
    manifest, encoded = _read_file(path)
    _plan_bytes(path, manifest)
    return manifest, decode_golden(encoded, manifest.model, str(manifest_path(path)), manifest.build.rebuild(path))


def _plan_bytes(path: Path, manifest: PlanManifest) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}).") from error
    if hashlib.sha256(plan).hexdigest() != manifest.plan_sha256:
        raise UsageError(
            f"{path}: is not the plan of {manifest_path(path)} (its SHA-256 differs): one of the two was changed, "
            f"damaged or swapped; {manifest.build.rebuild(path)}."
        )
    return plan


def _read_file(path: Path) -> tuple[PlanManifest, str]:
    """The manifest beside a plan, and the golden sample in base64."""
    command = f"`{shlex.join(['mlzsl-build', path.with_suffix('.onnx').name, '--output', str(path)])}`"
    if not path.is_file():
        raise UsageError(f"{path}: no such plan; build it with {command}.")
    file = manifest_path(path)
    where, remedy = str(file), f"rebuild with {command}"
    if not file.is_file():
        raise UsageError(
            f"{path}: has no manifest, {where} is missing; copy it along with the plan, or rebuild both with {command}."
        )
    record = read_json(file, dict[str, Any], remedy, LARGEST_ENTRY)
    version = record.get("schema_version")
    if version == 1:  # named its checksum "seal"
        record = {"checksum" if name == "seal" else name: value for name, value in record.items()}
    elif version != SCHEMA_VERSION:
        raise UsageError(
            f"{where}: has schema version {shorten_json(version)}, and this mlzsl reads version {SCHEMA_VERSION}; "
            f"{remedy}."
        )
    fields = {name: value for name, value in record.items() if name not in ("checksum", "golden")}
    if record.get("checksum") != _checksum(fields):
        raise UsageError(f"{where}: was changed after it was written; {remedy}.")
    found = convert_json(record, _PlanFile, where, remedy)
    batch = found.build.batch
    if not batch.min <= batch.opt <= batch.max:
        raise UsageError(f"{where}: build.batch is {batch}, expected min ≤ opt ≤ max; {remedy}.")
    return PlanManifest(Manifest.from_record(found.model, where), found.build, found.plan_sha256), found.golden


def _checksum(fields: dict[str, Any]) -> str:
    """SHA-256 of the fields, independent of the layout of their JSON."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""What lies beside a compiled plan: the model's manifest, how the plan was built, and the golden sample.

A plan is native code in a form of its own, so nothing is written into it: `model.plan` stays loadable by the vendor's
tools, and `model.plan.json` says what it is. The JSON holds the plan's SHA-256, so that neither fits another partner,
and a seal over itself. As in model files the hashes guard against mishaps; they are no signature.
"""

import base64
import binascii
import dataclasses
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_safetensors

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import LARGEST_ENTRY, Golden, decode_golden
from mlzsl.engines.artifact.plan_record import BuildRecord, UnfitRecordError, read_build_record

SCHEMA_VERSION = 1
SUFFIX = ".plan"


@dataclass(frozen=True)
class PlanManifest:
    """What a plan is.

    Attributes:
        model: the manifest of the model file that it was built from.
        build: how it was built.
        plan_sha256: of the plan's bytes.
    """

    model: Manifest
    build: BuildRecord
    plan_sha256: str


def manifest_path(plan: Path) -> Path:
    """`model.plan.json` for `model.plan`."""
    return plan.with_name(plan.name + ".json")


def write_plan(path: Path, plan: bytes, model: Manifest, build: BuildRecord, golden: Golden) -> PlanManifest:
    """Write a plan and its manifest, each whole or not at all; the manifest last, so that it never fits half a plan.

    Raises:
        FailureError: the file system refuses.
    """
    manifest = PlanManifest(model, build, hashlib.sha256(plan).hexdigest())
    with written_atomically(path) as temporary:
        temporary.write_bytes(plan)
    write_plan_manifest(path, manifest, golden)
    return manifest


def write_plan_manifest(path: Path, manifest: PlanManifest, golden: Golden) -> None:
    """Write the manifest of the plan at `path`, in place of what is there.

    Raises:
        FailureError: the file system refuses.
    """
    sample = save_safetensors({"images": golden.images, "scores": golden.scores})
    record = {
        "schema_version": SCHEMA_VERSION,
        "plan_sha256": manifest.plan_sha256,
        "build": dataclasses.asdict(manifest.build),
        "model": json.loads(manifest.model.to_json()),
    }
    sealed = record | {"seal": _seal(record), "golden": base64.b64encode(sample).decode()}
    with written_atomically(manifest_path(path)) as temporary:
        temporary.write_text(json.dumps(sealed, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def change_plan_manifest(path: Path, change: Callable[[Manifest], Manifest]) -> PlanManifest:
    """Change what a plan's manifest says of its model, such as by a certificate; plan and golden sample stay.

    Args:
        path: the plan.
        change: from the model's manifest to the new one.

    Returns:
        The manifest as written.

    Raises:
        UsageError: as `read_plan_manifest`.
        FailureError: the file system refuses.
    """
    manifest, golden = _read_with_golden(path)
    changed = dataclasses.replace(manifest, model=change(manifest.model))
    write_plan_manifest(path, changed, golden)
    return changed


def read_plan_manifest(path: Path) -> PlanManifest:
    """Read the manifest of a plan, after checking that both belong together.

    Raises:
        UsageError: plan or manifest is missing, damaged, changed, or another's; the sentence says how to rebuild.
    """
    return read_plan(path)[0]


def read_plan_golden(path: Path) -> Golden:
    """Read the golden sample of a plan: images uint8 [n, S, S, 3] and scores float32 [n, L].

    Raises:
        UsageError: as `read_plan_manifest`.
    """
    return _read_with_golden(path)[1]


def _read_with_golden(path: Path) -> tuple[PlanManifest, Golden]:
    manifest, record = _read_record(path)
    _plan_bytes(path, manifest)
    where = str(manifest_path(path))
    try:
        sample = base64.b64decode(_text(record.get("golden")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{where}: its golden sample is not base64; {manifest.build.rebuild(path)}.") from error
    if hashlib.sha256(sample).hexdigest() != manifest.model.golden_sha256:
        raise UsageError(f"{where}: its golden sample is not the model's; {manifest.build.rebuild(path)}.")
    return manifest, decode_golden(sample, manifest.model, where)


def read_plan(path: Path) -> tuple[PlanManifest, bytes]:
    """Read a plan and its manifest: the bytes are those that were checked. Raises as `read_plan_manifest`."""
    manifest, _ = _read_record(path)
    return manifest, _plan_bytes(path, manifest)


def _plan_bytes(path: Path, manifest: PlanManifest) -> bytes:
    try:
        plan = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(plan).hexdigest() != manifest.plan_sha256:
        raise UsageError(
            f"{path}: is not the plan that {manifest_path(path)} was written for (its SHA-256 differs): one of the two "
            f"was changed, damaged or swapped; {manifest.build.rebuild(path)}."
        )
    return plan


def _read_record(path: Path) -> tuple[PlanManifest, dict[str, Any]]:
    """The manifest beside a plan, and the whole record that it stands in."""
    if not path.is_file():
        raise UsageError(f"{path}: no plan is there; build one with `{_command(path)}`.")
    where = manifest_path(path)
    if not where.is_file():
        raise UsageError(
            f"{path}: has no manifest, {where} is missing; copy it along with the plan, or rebuild both with "
            f"`{_command(path)}`."
        )
    try:
        if where.stat().st_size > LARGEST_ENTRY:
            raise UsageError(f"{where}: has more than {LARGEST_ENTRY >> 20} MiB; rebuild with `{_command(path)}`.")
        record = json.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not a plan's manifest in JSON; rebuild with `{_command(path)}`.") from error
    try:
        return _manifest(record, where), record
    except UnfitRecordError as unfit:
        raise UsageError(f"{where}: is unfit: {unfit}; rebuild with `{_command(path)}`.") from unfit


def _command(path: Path) -> str:
    return shlex.join(["mlzsl-build", path.with_suffix(".onnx").name, "--output", str(path)])


def _manifest(record: object, where: Path) -> PlanManifest:
    if not isinstance(record, dict) or not isinstance(record.get("build"), dict):
        raise UnfitRecordError("it holds no build record")
    if record.get("schema_version") != SCHEMA_VERSION:
        raise UnfitRecordError(f"its schema version is not {SCHEMA_VERSION}, the one that this mlzsl reads")
    fields = {key: value for key, value in record.items() if key not in ("seal", "golden")}
    if record.get("seal") != _seal(fields):
        raise UnfitRecordError("it was changed after it was written")
    if not re.fullmatch(r"[0-9a-f]{64}", _text(record.get("plan_sha256"))):
        raise UnfitRecordError("plan_sha256 is not a SHA-256")
    model = Manifest.from_json(json.dumps(record.get("model")), str(where))
    return PlanManifest(model, read_build_record(record["build"]), record["plan_sha256"])


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seal(record: dict[str, Any]) -> str:
    """SHA-256 of the record's fields, however their JSON is laid out."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

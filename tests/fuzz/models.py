"""Model files, manifests of models and plans, and calibration records.

Hashes of what was changed are computed again, so that the parser reads on.
"""

import base64
import functools
import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from fuzz.harness import Parser, expect
from fuzz.mutations import encoded_json, mutate_bytes, mutate_json, mutate_safetensors
from planrecord import RECORD as BUILD
from tinymodel import write_tiny_model

from mlzsl.calibration.ranges import Record, read_record
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import (
    CHECKSUM,
    GOLDEN,
    MANIFEST,
    METADATA_PROPS,
    Golden,
    read_golden,
    read_model_file,
)
from mlzsl.engines.artifact.plan_manifest import (
    PlanManifest,
    manifest_path,
    read_plan_golden,
    read_plan_manifest,
    write_plan,
)
from mlzsl.engines.artifact.protobuf import encode_field, fields_of

DATA = Path(__file__).parents[1] / "compatibility" / "data"


@functools.cache
def model_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder) / "model.onnx")
        return (Path(folder) / "model.onnx").read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- model files -----------------------------------------------------------------------------------------------------


def parts(content: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The fields of a model file without our own entries, and the values of those by key."""
    view = memoryview(content)
    network, entries = [], {}
    for field in fields_of(view, 0, len(view), 1000):
        inner = list(fields_of(view, field.body, field.end, 16)) if field.number == METADATA_PROPS else []
        texts = {each.number: bytes(view[each.body : each.end]) for each in inner}
        key = texts.get(1, b"").replace(b"mlzsl.seal", CHECKSUM)
        if key in (MANIFEST, CHECKSUM, GOLDEN):
            entries[key] = texts.get(2, b"")
        else:
            network.append(bytes(view[field.start : field.end]))
    return network, entries


def mutate_model_file(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change fields of the file, its manifest, its golden sample, or bytes; hashes are right again, but for a third."""
    if random.random() < 0.15:
        return mutate_bytes(random, content, others)
    network, entries = parts(content)
    manifest, golden = json.loads(entries[MANIFEST]), base64.b64decode(entries[GOLDEN])
    kind = random.randrange(5)
    if kind == 0:
        at = random.randrange(len(network))
        network[at : at + random.randrange(2)] = random.choice(
            ([mutate_bytes(random, network[at])], network[at : at + 1] * 2, [])
        )
    elif kind == 1:
        golden = mutate_safetensors(random, golden)
    if random.random() < 0.7:
        manifest |= {"network_sha256": sha256(b"".join(network)), "golden_sha256": sha256(golden)}
    text = encoded_json(random, mutate_json(random, manifest)) if kind in (2, 3) else json.dumps(manifest).encode()
    entries = {MANIFEST: text, CHECKSUM: sha256(text).encode(), GOLDEN: base64.b64encode(golden)}
    fields = [
        encode_field(METADATA_PROPS, encode_field(1, key) + encode_field(2, value)) for key, value in entries.items()
    ]
    if kind == 4:
        fields = random.choice((fields * 2, fields[1:], fields[::-1], [*fields[:2], mutate_bytes(random, fields[2])]))
    return b"".join(network + fields)


def check_model(content: bytes, result: tuple[Manifest, Golden]) -> None:
    """As many labels as the manifest in the file has, and as many scores for each image of the golden sample."""
    manifest, golden = result
    document = json.loads(parts(content)[1][MANIFEST])
    expect([label.name for label in manifest.labels], [label["name"] for label in document["labels"]], "labels")
    expect(golden.scores.shape, (len(golden.images), len(manifest.labels)), "scores of the golden sample")


MODEL_FILES = Parser(
    "model-files",
    ".onnx",
    "it is a protobuf message with a network, a manifest and its checksum",
    lambda: [model_file(), (DATA / "model.onnx").read_bytes()],
    mutate_model_file,
    read_model_file,
    lambda content, result, error: (
        not (
            error and any(text in str(error) for text in ("is not an ONNX file", "the model has", "was changed after"))
        )
    ),
    check_model,
)


# ---- manifests -------------------------------------------------------------------------------------------------------


def manifests() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_tiny_model(Path(folder) / "model.onnx").manifest
    old = json.loads((DATA / "model.plan.json").read_bytes())["model"]
    return [manifest.to_json().encode(), json.dumps(old).encode()]


def check_manifest(content: bytes, manifest: Manifest) -> None:
    document = json.loads(content)
    expect([label.name for label in manifest.labels], [label["name"] for label in document["labels"]], "labels")
    expect(len(manifest.certificates), len(document.get("certificates", ())), "certificates")
    expect(Manifest.from_json(manifest.to_json(), "again"), manifest, "the manifest written and read again")


MANIFESTS = Parser(
    "manifests",
    ".json",
    "it is an object in JSON",
    manifests,
    lambda random, content, others: encoded_json(random, mutate_json(random, json.loads(content))),
    lambda path: Manifest.from_json(path.read_bytes(), str(path)),
    lambda content, result, error: not (error and ("is not JSON" in str(error) or "manifest: it is" in str(error))),
    check_manifest,
)


# ---- plans -----------------------------------------------------------------------------------------------------------

PLAN = b"the bytes of a plan"


def plan_manifests() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        model, plan = Path(folder) / "model.onnx", Path(folder) / "model.plan"
        manifest = write_tiny_model(model).manifest
        write_plan(plan, PLAN, manifest, BUILD, read_golden(model))
        content = manifest_path(plan).read_bytes()
    old = json.loads((DATA / "model.plan.json").read_bytes()) | {"plan_sha256": sha256(PLAN)}
    return [content, sealed(old, "seal")]


def sealed(document: Any, checksum: str = "checksum") -> bytes:
    """A plan's manifest with the checksum of its other fields."""
    if isinstance(document, dict):
        fields = {name: value for name, value in document.items() if name not in (checksum, "golden")}
        document[checksum] = sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode())
    return json.dumps(document).encode()


def mutate_plan_manifest(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    document = json.loads(content)
    part = random.choice(("", "", "model", "build"))
    changed = mutate_json(random, document[part] if part else document)
    try:
        value = json.loads(changed)
        return sealed(document | {part: value} if part else value, "seal" if "seal" in document else "checksum")
    except (ValueError, RecursionError):
        return encoded_json(random, changed)


def parse_plan(path: Path) -> tuple[PlanManifest, Golden]:
    plan = path.with_name("model.plan")
    plan.write_bytes(PLAN)
    path.replace(manifest_path(plan))
    return read_plan_manifest(plan), read_plan_golden(plan)


def check_plan(content: bytes, result: tuple[PlanManifest, Golden]) -> None:
    manifest, golden = result
    document = json.loads(content)
    expect(
        [label.name for label in manifest.model.labels],
        [each["name"] for each in document["model"]["labels"]],
        "labels",
    )
    expect(golden.scores.shape, (len(golden.images), len(manifest.model.labels)), "scores of the golden sample")


PLANS = Parser(
    "plans",
    ".json",
    "it is an object in JSON of a known version with the checksum of its fields",
    plan_manifests,
    mutate_plan_manifest,
    parse_plan,
    lambda content, result, error: (
        not (
            error
            and any(text in str(error) for text in ("is not JSON", "json: it is", "schema version", "was changed"))
        )
    ),
    check_plan,
)


# ---- calibration records ---------------------------------------------------------------------------------------------


def check_calibration(content: bytes, record: Record) -> None:
    ranges = {name: tuple(map(float, pair)) for name, pair in json.loads(content)["ranges"].items()}
    expect(record.ranges, ranges, "ranges")


CALIBRATION_RECORDS = Parser(
    "calibration-records",
    ".json",
    "it is an object in JSON",
    lambda: [(DATA / "model.int8.calibration.json").read_bytes()],
    lambda random, content, others: encoded_json(random, mutate_json(random, json.loads(content))),
    read_record,
    lambda content, result, error: not (error and ("is not JSON" in str(error) or "json: it is" in str(error))),
    check_calibration,
)

"""A plan and its manifest belong together, or are refused with the remedy. Needs no library and no GPU."""

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from planrecord import RECORD
from tinymodel import TinyModel

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.modelfile import read_golden
from mlzsl.engines.artifact.plan_manifest import (
    BatchProfile,
    PlanManifest,
    change_plan_manifest,
    manifest_path,
    read_plan,
    read_plan_golden,
    read_plan_manifest,
    write_plan,
)
from mlzsl.engines.tensorrt.cli import main

PLAN = bytes(range(256)) * 40


@pytest.fixture
def plan(tmp_path: Path, tiny_model: TinyModel) -> Path:
    write(tmp_path / "model.plan", tiny_model)
    return tmp_path / "model.plan"


def write(path: Path, model: TinyModel, plan: bytes = PLAN, **changes: object) -> PlanManifest:
    record = replace(RECORD, **changes)
    return write_plan(path, plan, model.manifest, record, read_golden(model.path))


def refused(path: Path, *words: str) -> str:
    """The error of reading a plan, which contains `words`."""
    with pytest.raises(UsageError) as caught:
        read_plan(path)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "mlzsl-build" in sentence, "says how to rebuild"
    assert "\n" not in sentence
    return sentence


def test_a_plan_is_read_as_it_was_written(plan: Path, tiny_model: TinyModel) -> None:
    manifest, found = read_plan(plan)
    assert found == PLAN == plan.read_bytes(), "nothing is put into the plan itself"
    assert manifest == PlanManifest(tiny_model.manifest, RECORD, hashlib.sha256(PLAN).hexdigest())
    golden = read_golden(tiny_model.path)
    np.testing.assert_array_equal(read_plan_golden(plan).images, golden.images)
    np.testing.assert_array_equal(read_plan_golden(plan).scores, golden.scores)


def test_a_changed_manifest_still_matches_its_plan(plan: Path, tiny_model: TinyModel) -> None:
    changed = change_plan_manifest(plan, lambda model: replace(model, graph={"certified": True}))
    manifest, found = read_plan(plan)
    assert found == PLAN
    assert manifest == changed
    assert manifest.model == replace(tiny_model.manifest, graph={"certified": True})
    np.testing.assert_array_equal(read_plan_golden(plan).scores, read_golden(tiny_model.path).scores)


@pytest.mark.parametrize("place", [0, 17, len(PLAN) // 2, len(PLAN) - 1])
def test_a_flipped_bit_in_a_plan_is_refused(plan: Path, place: int) -> None:
    changed = bytearray(PLAN)
    changed[place] ^= 1
    plan.write_bytes(changed)
    refused(plan, "model.plan", "SHA-256", "changed")
    with pytest.raises(UsageError, match="SHA-256"):
        read_plan_golden(plan)


@pytest.mark.parametrize("changed", [PLAN[:-1], PLAN + b"\0", b""])
def test_a_truncated_or_extended_plan_is_refused(plan: Path, changed: bytes) -> None:
    plan.write_bytes(changed)
    refused(plan, "SHA-256")


def test_swapped_manifests_are_refused(plan: Path, tmp_path: Path, tiny_model: TinyModel) -> None:
    other = tmp_path / "other.plan"
    write(other, tiny_model, PLAN[::-1], version="11.3.0.99")
    aside = tmp_path / "aside"
    shutil.move(manifest_path(plan), aside)
    shutil.move(manifest_path(other), manifest_path(plan))
    shutil.move(aside, manifest_path(other))
    refused(plan, "model.plan.json", "swapped")
    refused(other, "other.plan.json", "swapped")


def test_a_missing_plan_or_manifest_is_refused(plan: Path) -> None:
    refused(plan.with_name("none.plan"), "none.plan", "no such plan")
    manifest_path(plan).unlink()
    refused(plan, "model.plan.json is missing")


def edited(plan: Path, change: str) -> None:
    """Edit the manifest of a plan: `change` is Python code on `record`."""
    record = json.loads(manifest_path(plan).read_text())
    exec(change, {"record": record})
    manifest_path(plan).write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change",
    [
        'record["model"]["labels"][0]["name"] = "wolf"',
        'record["model"]["preprocessing"]["size"] = 16',
        'record["build"]["batch"]["max"] = 64',
        'record["build"]["version"] = "11.4.0.107"',
        'record["plan_sha256"] = "0" * 64',
        'record["checksum"] = "0" * 64',
        'del record["checksum"]',
        'record["more"] = 1',
    ],
)
def test_an_edited_plan_manifest_is_refused(plan: Path, change: str) -> None:
    edited(plan, change)
    refused(plan, "model.plan.json", "changed after it was written")


def test_the_layout_of_the_json_does_not_matter(plan: Path) -> None:
    before = read_plan_manifest(plan)
    record = json.loads(manifest_path(plan).read_text())
    manifest_path(plan).write_text(json.dumps(dict(reversed(record.items())), indent=8, sort_keys=False))
    assert read_plan_manifest(plan) == before


@pytest.mark.parametrize("golden", ["!", "", "AAAA", None, 7])
def test_a_wrong_golden_sample_is_refused(plan: Path, golden: object) -> None:
    record = json.loads(manifest_path(plan).read_text()) | {"golden": golden}
    manifest_path(plan).write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"model\.plan\.json: .*golden.*mlzsl-build"):
        read_plan_golden(plan)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"build": []}', "[" * 100_000, '{"build": {}}', "\xff"])
def test_a_file_that_is_not_a_manifest_is_refused(plan: Path, text: str) -> None:
    manifest_path(plan).write_bytes(text.encode("latin-1"))
    refused(plan, "model.plan.json")


@pytest.mark.parametrize(
    "field",
    [
        {"library": "tensorflow"},
        {"library": []},
        {"version": "11\n4"},
        {"model_file": "\x1b[2Jmodel.onnx"},
        {"model_file": "x" * 10_000},
        {"model_file": "../model.onnx"},
        {"model_file": "model\u202exnno.onnx"},
        {"gpu": "NVIDIA\u202eL4"},
        {"gpu": ""},
        {"batch": BatchProfile(0, 1, 1)},
        {"batch": BatchProfile(1, 8, 4)},
        {"batch": BatchProfile(1, 2.0, 4)},
        {"compute_capabilities": ("SM89",)},
        {"compute_capabilities": (8.9,)},
        {"gpu": 7},
        {"optimization_level": True},
        {"workspace_mib": -1},
        {"version_compatible": 1},
        {"hardware": "any"},
        {"precisions": {"fp32": "many"}},
        {"precisions": [1]},
    ],
    ids=str,
)
def test_a_build_record_with_a_wrong_field_is_refused(plan: Path, tiny_model: TinyModel, field: dict) -> None:
    write(plan, tiny_model, **field)
    refused(plan, "model.plan.json", f"build.{next(iter(field))}")


def test_the_command_in_the_sentence_is_a_valid_command(plan: Path, tiny_model: TinyModel) -> None:
    every_option = {
        "library": "tensorrt_rtx",
        "compute_capabilities": ("8.6", "12.0"),
        "optimization_level": 5,
        "workspace_mib": 512,
        "version_compatible": True,
        "hardware": "ampere-plus",
        "weights_stripped": True,
        "model_file": "my model.onnx",
    }
    write(plan, tiny_model, **every_option)
    plan.write_bytes(b"another")
    program, *words = shlex.split(refused(plan).split("`")[1])
    context = main.make_context(program, words)
    assert (program, context.params["rtx"], context.params["batch"]) == ("mlzsl-build", True, "1,8,32")
    assert context.params["models"] == (Path("my model.onnx"),)
    assert context.params["output"] == plan
    assert context.params["compute_capabilities"] == ("8.6", "12.0")
    assert (context.params["optimization_level"], context.params["workspace_mib"]) == (5, 512)
    assert context.params["version_compatible"]
    assert context.params["strip_weights"]
    assert context.params["hardware"] == "ampere-plus"

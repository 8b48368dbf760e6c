"""`mlzsl-verify`: correct engines pass, others end with exit code 1 and what exceeds its tolerance."""

import hashlib
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tinymodel import LABELS, manifest, network, random_images, reference_scores, write_tiny_model

from mlzsl.engines.artifact.modelfile import write_model_file
from mlzsl.engines.opening import BACKENDS
from mlzsl.runtime.verify.cli import main


def verify(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """model.onnx exported from checkpoint.safetensors, and photos/ with 20 photos and a broken one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"weights")
    write_tiny_model(tmp_path / "model.onnx", sources={"checkpoint": hashlib.sha256(b"weights").hexdigest()})
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(random_images(20)):
        Image.fromarray(image).save(tmp_path / f"photos/{index:02}.png")
    (tmp_path / "photos/broken.jpg").write_bytes(b"")
    return tmp_path


@pytest.fixture
def pytorch(monkeypatch):
    """Replaces mlzsl.export.reference by the formulas of the tiny network; `.off` is added to every score."""
    reference = SimpleNamespace(off=0.0, calls=[])

    def reference_of(checkpoint, manifest, images, embeddings=None):
        reference.calls.append((checkpoint, len(manifest.labels), embeddings))
        for batch in images:
            yield (reference_scores(batch) + reference.off).astype(np.float32)

    module = ModuleType("mlzsl.export.reference")
    module.reference_scores = reference_of
    original = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: module if name == "mlzsl.export.reference" else original(name)
    )
    return reference


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_correct_engine_passes_with_no_photos_and_no_pytorch(here, backend):
    result = verify("--backend", backend)
    assert result.exit_code == 0, result.output
    assert "largest difference" in result.stdout
    assert result.stdout.count(" ok\n") == 8
    assert "exceeded" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_engine_with_other_scores_fails_with_the_difference(here):
    images = random_images(3, seed=5)
    wrong = np.clip(reference_scores(images) + 0.001, 0, 1).astype(np.float32)
    write_model_file(here / "wrong.onnx", network(), manifest(), images, wrong)
    result = verify("wrong.onnx")
    assert result.exit_code == 1
    assert (
        "wrong.onnx: exceeds its tolerances: golden sample: largest difference is 1.0e-03 where at most 1.0e-05 is "
        "allowed, and 1 more, on openvino" in result.stderr
    )
    assert "exceeded" in result.stdout
    assert verify("wrong.onnx", "--tolerance", "0.01", "--mean-tolerance", "0.01").exit_code == 0


def test_json_has_every_number(here):
    report = json.loads(verify("--json").stdout)
    assert report["passed"] is True
    assert report["execution"]["backend"] == "openvino"
    golden, invariance = report["checks"]
    assert (golden["photos"], invariance["photos"]) == (3, 3)
    found = {entry["name"]: entry for entry in golden["measurements"]}
    assert 0 <= found["mean difference"]["value"] <= found["largest difference"]["value"] < 1e-5
    assert found["largest difference"]["at_most"] == 1e-5
    assert found["top-3 agreement"]["value"] == 100
    assert {entry["name"] for entry in invariance["measurements"]} >= {
        "other batch size", "other position in the batch", "other neighbours", "other run", "other number in flight",
    }  # fmt: skip
    assert all(entry["passed"] for check in report["checks"] for entry in check["measurements"])
    assert sorted(entry["label"] for entry in report["labels"]) == sorted(label.name for label in LABELS)


def test_quiet_prints_nothing(here):
    result = verify("--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_against_a_checkpoint_on_photos(here, pytorch):
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    photos = report["checks"][2]
    assert (photos["name"], photos["photos"], report["unreadable"]) == ("photos", 20, 1)
    assert report["reference"] == "PyTorch, checkpoint.safetensors"
    assert report["reference_sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert pytorch.calls == [(Path("checkpoint.safetensors"), 6, None)]


def test_the_hash_of_the_photos_is_that_of_their_pixels_for_any_batch_size(here, pytorch):
    expected = hashlib.sha256(random_images(20).tobytes()).hexdigest()
    report = json.loads(verify("--against", "checkpoint.safetensors", "--photos", "photos", "--json").stdout)
    assert report["checks"][2]["data_sha256"] == expected


def test_against_a_checkpoint_with_other_scores(here, pytorch):
    pytorch.off = 0.01
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos")
    assert result.exit_code == 1
    assert "photos: largest difference is 1.0e-02 where at most 1.0e-05 is allowed" in result.stderr


def test_nan_never_passes(here, pytorch):
    pytorch.off = float("nan")
    assert verify("--against", "checkpoint.safetensors", "--photos", "photos").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.onnx"], "nowhere.onnx: no such model file; make one with mlzsl-export"),
        (["--against", "checkpoint.safetensors"], "needs photos to compare on; name them with --photos"),
        (["--photos", "photos"], "--photos: has no effect without --against"),
        (
            ["--against", "nowhere.safetensors", "--photos", "photos"],
            "nowhere.safetensors: no such file; name the checkpoint",
        ),
        (["--labels-json", "labels.json"], "--labels-json: has no effect without --against"),
        (["--max-drop", "1"], "--max-drop: has no effect without --labels-json"),
        (["--min-top-agreement", "1"], "--min-top-agreement: has no effect without --against"),
        (
            ["--against", "model.onnx", "--photos", "photos", "--embeddings", "taxonomy"],
            "--embeddings: has no effect with a model file as --against",
        ),
        (
            ["--against", "model.onnx", "--photos", "photos", "--photos", "photos", "--labels-json", "labels.json"],
            "--labels-json labels.json: needs one folder of photos, found 2 --photos",
        ),
        (["--engine", "nowhere.onnx"], "nowhere.onnx: no such model file"),
        (
            ["nowhere.onnx", "--against", "other.safetensors", "--photos", "elsewhere"],
            "elsewhere: no such file or folder",
        ),
        (["--against", "other.safetensors", "--photos", "photos"], "was exported from a checkpoint with"),
        (["--against", "checkpoint.safetensors", "--photos", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_code_2(here, pytorch, arguments, expected):
    (here / "other.safetensors").write_bytes(b"other weights")
    result = verify(*arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert result.stderr.startswith("mlzsl-verify: error: ")


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_without_a_package_of_the_extra_train_the_extra_is_named(here, package):
    program = f"import sys; sys.modules[{package!r}] = None; from mlzsl.runtime.verify.cli import main; main()"
    arguments = ["model.onnx", "--against", "checkpoint.safetensors", "--photos", "photos"]
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert result.returncode == 2, result.stderr
    assert "--against checkpoint.safetensors: comparing with PyTorch needs the extra train" in result.stderr
    assert "pip install 'mlzsl[train]'" in result.stderr


def test_no_readable_photo_is_a_failure(here, pytorch):
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos/broken.jpg")
    assert result.exit_code == 1
    assert "the only photo could not be read: " in result.stderr

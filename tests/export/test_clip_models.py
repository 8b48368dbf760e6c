"""CLIP models from training to engines, with small random towers: the path, not the accuracy."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors import safe_open
from smallclip import SIZE, small_clip

from mlzsl.cli.main import main
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.export.exporter import export_model
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.embeddings import open_embeddings

pytestmark = pytest.mark.slow


def mlzsl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generate_scenes(folder, 40, seed=5, size=64, quiet=True)
    return folder


def train(photos: Path, folder: Path, architecture: str, weights: Path, model: str, *flags: str) -> Result:
    return mlzsl(
        *("train", "--data", photos, "--labels", "coco80", "--model", model, "--backbone", f"clip:{architecture}"),
        *("--backbone-weights", weights, "--cache", folder / "cache", "-o", folder / "checkpoint.safetensors", *flags),
    )


@pytest.mark.parametrize(
    ("model", "architecture", "flags"),
    [
        ("zero-shot", "small-vit", ()),
        ("zero-shot", "small-sigmoid", ()),
        ("evidence", "small-vit", ("--pooling", "global", "--embeddings", "clip:small-vit")),
        ("RGCN-PosVAE", "small-resnet", ("--epochs", "1", "--embeddings", "clip:small-resnet")),
    ],
)
def test_trains_exports_verifies_and_builds(
    model: str, architecture: str, flags: tuple[str, ...], photos: Path, tmp_path: Path
) -> None:
    _, weights = small_clip(architecture, tmp_path)
    checkpoint, exported = tmp_path / "checkpoint.safetensors", tmp_path / "model.onnx"
    trained = train(photos, tmp_path, architecture, weights, model, *flags)
    assert trained.exit_code == 0, trained.output
    with safe_open(checkpoint, framework="np") as file:
        assert not any("text" in name or "token" in name for name in file.keys())  # noqa: SIM118
    result = mlzsl("export", checkpoint, "-o", exported, "--json")
    assert result.exit_code == 0, result.output
    sheet = json.loads(result.stdout)
    assert sheet["largest_difference"] <= 1e-5
    if model == "zero-shot":
        assert sheet["folded"] == 24 * 80  # one linear layer
    manifest = read_manifest(exported)
    assert (manifest.backbone, manifest.model) == (f"clip:{architecture}", model)
    assert manifest.graph["embeddings"]["name"] == f"clip:{architecture}"
    verified = mlzsl("verify", exported, "--against", checkpoint, "--photos", photos / "images")
    assert verified.exit_code == 0, verified.output
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    built = mlzsl("build", exported, "--rtx", "-o", tmp_path / "model.plan")
    assert built.exit_code == 0, built.output


def test_zero_shot_gives_open_clips_scores_for_labels_of_any_kind(photos: Path, tmp_path: Path) -> None:
    _, weights = small_clip("small-sigmoid", tmp_path)
    trained = train(photos, tmp_path, "small-sigmoid", weights, "zero-shot")
    assert trained.exit_code == 0, trained.output
    labels = LabelSet("pets", ("small dog", "cat on a sofa"), ("dog.n.01", None))
    exported = export_model(tmp_path / "checkpoint.safetensors", labels, tmp_path / "model.onnx").path
    images, _ = read_golden(exported)
    scores = open_engine(exported, backend="onnxruntime").scores(images)
    import torch

    x = open_backbone("clip:small-sigmoid", weights, quiet=True)(torch.from_numpy(images))[0]
    texts = open_embeddings(f"clip:small-sigmoid:{weights}").embed(labels, "target").vectors
    model, _ = small_clip("small-sigmoid", tmp_path)
    with torch.no_grad():
        logits = model.logit_scale.exp() * x @ torch.from_numpy(texts).T + model.logit_bias
    assert images.shape[1] == SIZE
    assert np.abs(scores - logits.sigmoid().numpy()).max() <= 1e-5


def test_a_moved_weights_file_is_named_at_export(photos: Path, tmp_path: Path) -> None:
    _, weights = small_clip("small-vit", tmp_path)
    trained = train(photos, tmp_path, "small-vit", weights, "zero-shot")
    assert trained.exit_code == 0, trained.output
    checkpoint, moved = tmp_path / "checkpoint.safetensors", tmp_path / "moved.safetensors"
    weights.rename(moved)
    exported = tmp_path / "model.onnx"
    lost = mlzsl("export", checkpoint, "-o", exported)
    assert lost.exit_code == 2
    assert "say where they are with --embeddings" in lost.stderr
    _, others = small_clip("small-vit", tmp_path, seed=1)
    refused = mlzsl("export", checkpoint, "-o", exported, "--embeddings", f"clip:small-vit:{others}")
    assert refused.exit_code == 2
    assert "but the checkpoint was trained with clip:small-vit" in refused.stderr
    found = mlzsl("export", checkpoint, "-o", exported, "--embeddings", f"clip:small-vit:{moved}")
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("architecture", ["small-vit", "small-sigmoid"])
def test_it_needs_no_photos(architecture: str, tmp_path: Path) -> None:
    _, weights = small_clip(architecture, tmp_path)
    clip = ("--model", "zero-shot", "--backbone", f"clip:{architecture}", "--backbone-weights", weights)
    (tmp_path / "labels.txt").write_text("coffee cup\nflower in a garden\ncat\n")
    labels = ("--labels", tmp_path / "labels.txt")
    checkpoint, files = tmp_path / "checkpoint.safetensors", [tmp_path / "trained.onnx", tmp_path / "direct.onnx"]
    for command in (
        ("train", *clip, *labels, "-o", checkpoint),
        ("export", checkpoint, "-o", files[0]),
        ("export", *clip, *labels, "-o", files[1]),
    ):
        result = mlzsl(*command)
        assert result.exit_code == 0, result.output
    (images, golden), (_, others) = map(read_golden, files)
    assert np.array_equal(golden, others)
    assert golden.shape == (len(images), 3)
    refused = mlzsl("export", "--model", "zero-shot", *labels, "-o", files[1])
    assert refused.exit_code == 2
    assert "needs a CLIP model, but --backbone is efficientnet-lite0" in refused.stderr


def test_table1_has_a_row_of_zero_shot_with_a_clip_backbone_only(photos: Path, tmp_path: Path) -> None:
    _, weights = small_clip("small-vit", tmp_path)
    command = (
        *("experiment", "table1", "--data", photos, "--cache", tmp_path / "cache", "-o", tmp_path / "results"),
        *("--seeds", "1", "--resamples", "0", "--backbone", "clip:small-vit", "--backbone-weights", weights),
    )
    result = mlzsl(*command, "--models", "visual-semantic,zero-shot", "--epochs", "1", "--embeddings", "taxonomy")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "results/table1.md").read_text()
    assert "| zero-shot | 0." in text
    assert "zero-shot takes labels from the backbone's own text tower" in text
    refused = mlzsl(*command, "--models", "zero-shot", "--backbone", "resnet18")
    assert refused.exit_code == 2
    assert "needs a CLIP model, but --backbone is resnet18" in refused.stderr

"""Every model from PyTorch to the engines: folded exactly, exported, verified, and used for tagging."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from smallgraph import CONFIGS, fill, small_batch, small_graph, small_model

from mlzsl.cli.main import main
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.export.cost_sheet import multiply_adds
from mlzsl.export.exporter import export_model
from mlzsl.export.folding.fold import FOLDINGS, fold
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.backbones.resnets import SmallResNet
from mlzsl.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.models.registry import MODELS, create_model, settings_of

SIZE, EXTERNALS = 32, 30


def test_every_model_can_be_folded() -> None:
    assert FOLDINGS.keys() == MODELS.keys()


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_folded_and_unfolded_scores_equal_the_model(name: str, density: float) -> None:
    graph, model, (features, logits) = small_graph(7, 20, density), small_model(name, 0.6), small_batch(name=name)
    probabilities = graph.external_probabilities(logits.double())
    expected = model.double()(features.double(), probabilities, graph.double())
    model.float()
    assert expected.std() > 0.02, "scores that hardly vary prove nothing"
    for head in (fold(model, graph), unfolded_head(model, graph)):
        scores = head(features, logits)
        assert scores.dtype == torch.float32
        assert (scores - expected).abs().max() <= 1e-5
        alone = torch.cat([head(x[None], p[None]) for x, p in zip(features, logits, strict=True)])
        assert (scores - alone).abs().max() <= 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_folding_adds_no_multiply_adds_and_does_not_change_the_model(name: str) -> None:
    graph, model, (features, logits) = small_graph(7, 20), small_model(name), small_batch(1, name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = multiply_adds(fold(model, graph), features, logits)
    assert 0 < folded <= multiply_adds(unfolded_head(model, graph), features, logits)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def part_of(name: str, step: int) -> LabelSet:
    whole = load_label_set(name)
    return LabelSet(name, whole.labels[::step], whole.synsets[::step])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generate_scenes(folder, 6, seed=5, size=64, quiet=True)
    return folder / "images"


@pytest.fixture(scope="module", params=[name for name in MODELS if not MODELS[name].needs_clip])  # test_clip has it
def exported_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A model's name, and a folder with its checkpoint and the model file for a few labels."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    labels, external, embeddings = (
        part_of("coco80", 10),
        part_of("imagenet1k", 1000 // EXTERNALS),
        open_embeddings("taxonomy"),
    )
    torch.manual_seed(0)
    pooling = MODELS[name].pooling
    backbone = Backbone("small", SmallResNet(len(external)), external, Preprocessing(size=SIZE), pooling)
    widths = {
        "feature_dim": backbone.feature_dim,
        "embedding_dim": embeddings.source.dimension,
        "backbone_classes": len(external),
    }
    needed = settings_of(name)
    model = create_model(name, CONFIGS[name] | {key: width for key, width in widths.items() if key in needed})
    if name == "evidence":  # is fitted, not initialized at random
        fill(model, 0.3)
    checkpoint = Checkpoint(model, backbone, labels, labels.labels[::2], embeddings.source, 0.5, {})
    save_checkpoint(folder / "checkpoint.safetensors", checkpoint)
    exported = export_model(folder / "checkpoint.safetensors", None, folder / "model.onnx")
    assert exported.cost.largest_difference <= 1e-5
    return name, folder


def test_checkpoint_and_manifest_name_the_model(exported_model: tuple[str, Path]) -> None:
    name, folder = exported_model
    loaded = load_checkpoint(folder / "checkpoint.safetensors").model
    assert type(loaded) is MODELS[name]
    assert not loaded.training
    manifest = read_manifest(folder / "model.onnx")
    assert manifest.model == name
    assert [label.seen for label in manifest.labels] == [True, False] * 4


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_engines_give_the_reference_scores(exported_model: tuple[str, Path], backend: str) -> None:
    _, folder = exported_model
    images, golden = read_golden(folder / "model.onnx")
    engine = open_engine(folder / "model.onnx", backend=backend, threads=1)
    together = engine.scores(images)
    alone = np.concatenate([engine.scores(images[i : i + 1]) for i in range(len(images))])
    assert np.abs(together - golden).max() <= 1e-5
    assert np.abs(together - alone).max() <= 1e-5


def test_it_tags_and_verifies(exported_model: tuple[str, Path], photos: Path) -> None:
    _, folder = exported_model
    model = str(folder / "model.onnx")
    tags = folder / "tags.jsonl"
    tagged = CliRunner().invoke(main, ["infer", str(photos), "--engine", model, "--top-k", "3", "-o", str(tags)])
    assert tagged.exit_code == 0, tagged.output
    assert [len(json.loads(line)["tags"]) for line in tags.read_text().splitlines()] == [3] * 6
    against = str(folder / "checkpoint.safetensors")
    verified = CliRunner().invoke(main, ["verify", model, "--against", against, "--photos", str(photos)])
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize("name", MODELS)
def test_unfolded_heads_can_be_traced_for_any_batch(name: str) -> None:
    model, graph, (features, logits) = small_model(name), small_graph(), small_batch(name=name)
    batch = torch.export.Dim("N")
    program = torch.export.export(
        unfolded_head(model, graph), (features, logits), dynamic_shapes=({0: batch}, {0: batch})
    )
    expected = model(features, graph.external_probabilities(logits), graph)
    torch.testing.assert_close(program.module()(features[:3], logits[:3]), expected[:3], rtol=0, atol=1e-5)

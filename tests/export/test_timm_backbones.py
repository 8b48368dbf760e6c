"""Models of timm from training to engines, with random weights: the path, not the accuracy."""

from pathlib import Path

import pytest
import timm
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from mlzsl.cli.main import main
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.train.datasets.synthetic.scenes import generate_scenes

pytestmark = pytest.mark.slow

NAMES = ("vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_100")


def weights_of(name: str) -> dict[str, torch.Tensor]:
    """Random weights; batch norms have the statistics of random images, or outputs would hardly vary."""
    torch.manual_seed(0)
    network = timm.create_model(name).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean
    with torch.no_grad():
        network(torch.randn(16, 3, 224, 224))
    return network.state_dict()


def mlzsl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generate_scenes(folder, 40, seed=5, size=64, quiet=True)
    return folder


@pytest.mark.parametrize("model", ["evidence", "RGCN-PosVAE"])
@pytest.mark.parametrize("name", NAMES)
def test_trains_exports_verifies_and_builds(name: str, model: str, photos: Path, tmp_path: Path) -> None:
    save_file(weights_of(name), tmp_path / "weights.safetensors")
    checkpoint, exported = tmp_path / "checkpoint.safetensors", tmp_path / "model.onnx"
    train = (
        *("train", "--data", photos, "--labels", "coco80", "--model", model, "--backbone", f"timm:{name}"),
        *("--backbone-weights", tmp_path / "weights.safetensors", "--cache", tmp_path / "cache", "-o", checkpoint),
        *(("--epochs", "1") if model == "RGCN-PosVAE" else ()),
    )
    if model == "evidence":
        refused = mlzsl(*train)
        assert refused.exit_code == 2
        assert "has no logits at spatial locations" in refused.stderr
        train = (*train, "--pooling", "global")
    for command in (train, ("export", checkpoint, "-o", exported)):
        result = mlzsl(*command)
        assert result.exit_code == 0, result.output
    manifest = read_manifest(exported)
    assert manifest.backbone == f"timm:{name}"
    assert manifest.preprocessing["interpolation"] == "bicubic"
    verified = mlzsl("verify", exported, "--against", checkpoint, "--photos", photos / "images")
    assert verified.exit_code == 0, verified.output
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs the extra rtx")
    built = mlzsl("build", exported, "--rtx", "-o", tmp_path / "model.plan")
    assert built.exit_code == 0, built.output

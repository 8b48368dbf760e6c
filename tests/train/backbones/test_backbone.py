"""The frozen backbone: equal to torchvision, any format of weights, one clear error for each defect."""

import json
import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.decoding import load_image
from mlzsl.imaging.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from mlzsl.train.backbones.backbone import DENSE, Backbone, dense_log_probabilities
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.backbones.resnets import SmallResNet

KIT_WEIGHTS = {
    "resnet18": "weights/resnet18-pqf-760595e9.pth",
    "resnet50": "weights/resnet50-pqf-large-653fb605.pth",
}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A ResNet-18's tensors, random, with random BatchNorm statistics."""
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    for name, values in network.named_buffers():
        if name.endswith("running_mean"):
            values.normal_(0, 0.1)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
    return network.state_dict()


@pytest.fixture(scope="module")
def weights(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state, path)
    return path


def some_images(count: int = 5, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(seed)).byte()


def small_backbone(classes: int = 7) -> Backbone:
    torch.manual_seed(0)
    names = tuple(f"class {index}" for index in range(classes))
    synsets = tuple(f"class.n.{index:02d}" for index in range(classes))
    return Backbone("small", SmallResNet(classes), LabelSet("seven", names, synsets), Preprocessing(size=64))


def test_features_and_logits_equal_torchvision_on_normalized_images(weights: Path, state: dict[str, Tensor]) -> None:
    peer = torchvision.models.resnet18()
    peer.load_state_dict(state)
    peer = peer.double().eval()
    seen: list[Tensor] = []
    peer.avgpool.register_forward_hook(lambda module, given, pooled: seen.append(pooled.flatten(1)))
    images = some_images()
    normalize = torchvision.transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)
    with torch.no_grad():
        expected = peer(normalize(images.permute(0, 3, 1, 2).double() / 255))
    features, logits = open_backbone("resnet18", weights)(images)
    assert features.dtype == logits.dtype == torch.float32
    assert features.shape == (5, 512)
    assert logits.shape == (5, 1000)
    torch.testing.assert_close(features.double(), seen[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [32, 64, 97])
def test_outputs_do_not_depend_on_the_batch(weights: Path, size: int) -> None:
    backbone = open_backbone("resnet18", weights)
    images = some_images(count=9, size=size)
    together = backbone(images)
    for alone in (backbone(images[4:5]), backbone(images[2:5]), backbone(images.flip(0)[:5])):
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(part[-1], whole[4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_takes_torchvisions_state_dict_of_every_architecture(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = open_backbone(name, tmp_path / "weights.pth", image_size=320)
    assert backbone.name == name
    assert backbone.feature_dim == network.fc.in_features
    assert backbone.external == load_label_set("imagenet1k")
    assert backbone.preprocessing == Preprocessing(size=320)
    assert set(backbone.network.state_dict()) == set(network.state_dict())


def test_the_file_format_does_not_matter(
    weights: Path, state: dict[str, Tensor], tmp_path: Path, small_files: dict[str, Path]
) -> None:
    first = open_backbone("resnet18", weights)
    for path in small_files.values():
        other = open_backbone("resnet18", path)
        assert other.weights_sha256() == first.weights_sha256(), path.name
        assert torch.equal(other(some_images())[1], first(some_images())[1])


@pytest.fixture(scope="module")
def small_files(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same tensors in other files: safetensors, another order, without counters, channels last."""
    folder = tmp_path_factory.mktemp("files")
    backwards = dict(reversed(state.items()))
    uncounted = {name: values for name, values in state.items() if "num_batches" not in name}
    channels_last = {
        name: values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
        for name, values in state.items()
    }
    save_file(state, folder / "plain.safetensors")
    for name, tensors in (("backwards", backwards), ("uncounted", uncounted), ("last", channels_last)):
        torch.save(tensors, folder / f"{name}.pth")
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_other_widths_become_float32(dtype: torch.dtype, state: dict[str, Tensor], tmp_path: Path) -> None:
    cast = {name: values.to(dtype) if values.is_floating_point() else values for name, values in state.items()}
    save_file(cast, tmp_path / "cast.safetensors")
    backbone = open_backbone("resnet18", tmp_path / "cast.safetensors")
    assert backbone.network.conv1.weight.dtype == torch.float32
    assert torch.equal(backbone.network.conv1.weight, cast["conv1.weight"].float())


def test_other_weights_have_another_hash(weights: Path, state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = state | {"fc.bias": state["fc.bias"] + 1e-7}
    torch.save(changed, tmp_path / "changed.pth")
    before, after = (open_backbone("resnet18", path) for path in (weights, tmp_path / "changed.pth"))
    assert before.weights_sha256() != after.weights_sha256()


def test_stays_frozen_and_in_evaluation_mode(weights: Path) -> None:
    backbone = open_backbone("resnet18", weights)
    model = torch.nn.Sequential(backbone).train()
    assert model.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    before = backbone.weights_sha256()
    backbone(some_images())
    assert backbone.weights_sha256() == before


def test_opening_draws_no_random_numbers(weights: Path) -> None:
    torch.manual_seed(5)
    open_backbone("resnet18", weights)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_is_restored_from_its_configuration_and_tensors() -> None:
    backbone = small_backbone()
    config = json.loads(json.dumps(backbone.config()))
    tensors = {name: values.clone() for name, values in backbone.state_dict().items()}
    again = Backbone.from_config(config, tensors)
    assert (again.name, again.external, again.preprocessing) == ("small", backbone.external, Preprocessing(size=64))
    assert again.feature_dim == backbone.feature_dim == 256
    assert again.weights_sha256() == backbone.weights_sha256()
    assert torch.equal(again(some_images())[1], backbone(some_images())[1])


@pytest.mark.parametrize(("height", "width"), [(4, 3), (1, 1)])
def test_dense_log_probabilities_are_a_power_mean_of_softmaxes_over_locations(height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(2, 5, height, width, generator=generator, dtype=torch.float64)
    classifier = torch.nn.Linear(5, 7, dtype=torch.float64)
    expected = torch.zeros(2, 7, dtype=torch.float64)
    for i in range(2):
        for row in range(height):
            for column in range(width):
                around = maps[i, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean(dim=(1, 2))
                expected[i] += classifier(around).softmax(dim=0) ** 3 / (height * width)
    torch.testing.assert_close(dense_log_probabilities(classifier, maps).exp(), expected ** (1 / 3))


def test_dense_pooling_appends_to_the_features_of_global_average_pooling() -> None:
    backbone = small_backbone()
    both = Backbone.from_config(
        json.loads(json.dumps(backbone.with_pooling(DENSE).config())), dict(backbone.state_dict())
    )
    images = some_images()
    (x, logits), (features, same_logits) = backbone(images), both(images)
    assert (backbone.num_features, both.num_features) == (256, 256 + 7)
    assert features.shape == (len(images), 256 + 7)
    assert torch.equal(features[:, :256], x)
    assert torch.equal(same_logits, logits)
    assert (features[:, 256:] <= 0).all()
    assert both.weights_sha256() == backbone.weights_sha256()


def test_the_small_network_has_the_stated_size() -> None:
    backbone = small_backbone(classes=100)
    multiply_adds = 0

    def count(module: Any, given: Any, maps: Tensor) -> None:
        nonlocal multiply_adds
        multiply_adds += maps[0].numel() * module.weight[0].numel()

    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    backbone(some_images(count=1, size=96))
    assert 61.5e6 < multiply_adds < 62.5e6
    assert sum(parameter.numel() for parameter in backbone.parameters()) < 1.35e6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda config, tensors: config.update(name="resnet152"), "unknown backbone 'resnet152'"),
        (
            lambda config, tensors: config.update(pooling="corners"),
            r'configuration: pooling is "corners", not',
        ),
        (lambda config, tensors: config.pop("external"), "configuration: it lacks external"),
        (lambda config, tensors: config.pop("preprocessing"), "configuration: it lacks preprocessing"),
        (lambda config, tensors: config.update(preprocessing=64), "preprocessing is 64, not an object"),
        (lambda config, tensors: config["preprocessing"].update(fit="pad"), 'preprocessing: fit is "pad", not'),
        (lambda config, tensors: config["external"].update(labels=3), "external.labels is 3, not a list"),
        (lambda config, tensors: config["external"].update(labels=["one"], synsets=["one.n.01"]), "another shape"),
        (lambda config, tensors: tensors.pop("network.fc.bias"), r"1 tensor missing \(fc.bias\)"),
        (lambda config, tensors: tensors["network.fc.bias"].fill_(torch.nan), "with NaN or infinity"),
    ],
    ids=[
        "architecture",
        "pooling",
        "external",
        "preprocessing",
        "number",
        "resize",
        "labels",
        "classes",
        "missing",
        "nan",
    ],
)
def test_an_invalid_configuration_is_refused(change: Callable[[Any, Any], Any], sentence: str) -> None:
    backbone = small_backbone()
    config = json.loads(json.dumps(backbone.config()))
    tensors = {name: values.clone() for name, values in backbone.state_dict().items()}
    change(config, tensors)
    with pytest.raises(UsageError, match=sentence):
        Backbone.from_config(config, tensors)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("conv1.weight"), r"1 tensor missing \(conv1.weight\)"),
        (
            lambda s: [s.pop(f"layer{i}.0.conv1.weight") for i in (1, 2, 3, 4)],
            r"4 tensors missing \(layer1.*, layer4\.0.*\)",
        ),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 tensor unexpected \(extra\)"),
        (
            lambda s: s.update({"fc.weight": torch.zeros(10, 512)}),
            r"fc.weight \[10, 512\] instead of \[1000, 512\]",
        ),
        (lambda s: s.update({"fc.bias": torch.zeros(1000, dtype=torch.int64)}), "int64 instead of torch.float32"),
        (lambda s: s.update({"fc.bias": torch.full((1000,), torch.inf)}), r"with NaN or infinity \(fc.bias\)"),
    ],
    ids=["missing", "many missing", "unexpected", "shape", "type", "infinite"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_another_network_are_refused(
    change: Callable[[Any], Any], sentence: str, suffix: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    changed = dict(state)
    change(changed)
    path = tmp_path / f"changed{suffix}"
    (torch.save if suffix == ".pth" else save_file)(changed, path)
    with pytest.raises(UsageError, match=sentence) as refusal:
        open_backbone("resnet18", path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "expected the 122 tensors of resnet18 with 1000 classes" in str(refusal.value)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("this must never be printed",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (Evil(), "would run code"),
        ({"epoch": 3, "state_dict": {"conv1.weight": torch.zeros(1)}}, "a dictionary of epoch, state_dict, expected"),
        ([torch.zeros(3)], "an object of type list, expected a state dict"),
        ({}, "contains nothing, expected a state dict"),
        ({1: torch.zeros(3)}, "expected a state dict"),
        ({"a": torch.zeros(3).to_sparse()}, "expected a state dict"),
    ],
    ids=["code", "training state", "list", "empty", "numbers for names", "sparse"],
)
def test_files_without_a_state_dict_are_refused(
    content: Any, sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(UsageError, match=sentence) as refusal:
        open_backbone("resnet18", path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
    assert "never be printed" not in capfd.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "text", "random", "pickle", "cut", "turned"])
def test_damaged_files_are_refused(damage: str, suffix: str, tmp_path: Path) -> None:
    tensors = {"conv1.weight": torch.ones(64, 3, 7, 7)}
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(tensors, path)
    good = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"<html>404 Not Found</html>\n" * 20,
            "random": np.random.default_rng(0).bytes(10_000),
            "pickle": pickle.dumps({"conv1.weight": Evil()}),
            "cut": good[: len(good) // 2],
            "turned": good[::-1],
        }[damage]
    )
    with pytest.raises(UsageError) as refusal:
        open_backbone("resnet18", path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def test_a_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.pth: no such weights file"):
        open_backbone("resnet18", tmp_path / "gone.pth")
    with pytest.raises(UsageError, match="no such weights file"):
        open_backbone("resnet18", tmp_path)


def test_unknown_names_and_the_small_backbone_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown backbone 'vgg'; expected one of small, resnet18"):
        open_backbone("vgg")
    with pytest.raises(UsageError, match="pretrains it itself"):
        open_backbone("small")


@pytest.mark.parametrize(
    "failure",
    [urllib.error.URLError("no route to host"), TimeoutError("timed out"), RuntimeError("invalid hash value")],
    ids=lambda failure: type(failure).__name__,
)
def test_a_failed_download_points_to_backbone_weights(failure: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        assert kwargs["weights_only"]
        assert kwargs["check_hash"]
        raise failure

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(FailureError, match=r"resnet18-f37072fd\.pth: .* with --backbone-weights"):
        open_backbone("resnet18")


def test_downloaded_weights_are_the_first_published_ones(
    state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def serve(url: str, **kwargs: Any) -> dict[str, Tensor]:
        asked.append(url)
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", serve)
    backbone = open_backbone("resnet18", quiet=True)
    assert asked == [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url]
    assert torch.equal(backbone.network.fc.bias, state["fc.bias"])


@pytest.mark.kit
@pytest.mark.parametrize(("name", "least"), [("resnet18", 0.65), ("resnet50", 0.7)])
def test_real_weights_recognize_real_photos(name: str, least: float, kit: Path) -> None:
    backbone = open_backbone(name, kit / KIT_WEIGHTS[name])
    folder = kit / "imagenet_val1300"
    classes: dict[str, tuple[int, str]] = json.loads((folder / "labels.json").read_text())
    chosen = sorted(classes)[::10]  # 130 photos; the authors state 66.7 % and 72.2 %
    images = np.stack([load_image(next(folder.rglob(file)), backbone.preprocessing) for file in chosen])
    with torch.inference_mode():
        guesses = torch.cat([backbone(batch)[1].argmax(1) for batch in torch.from_numpy(images).split(26)])
    targets = torch.tensor([classes[file][0] for file in chosen])
    assert (guesses == targets).double().mean() > least

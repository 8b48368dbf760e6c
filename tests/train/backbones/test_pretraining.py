"""The demo's backbone: classifies generated objects, is reproducible, and is trained once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.backbones import pretraining
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.backbones.pretraining import PretrainingConfig, external_label_set, pretrain_small_backbone
from mlzsl.train.datasets.synthetic.scenes import external_classes, generate_single_objects

TINY = PretrainingConfig(tiles=192, held_out=32, epochs=1, size=64)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[PretrainingConfig]:
    """One entry per training that is not loaded from the cache."""
    made: list[PretrainingConfig] = []
    train_really = pretraining._pretrained

    def counting(config: PretrainingConfig, quiet: bool) -> tuple[Backbone, float]:
        made.append(config)
        return train_really(config, quiet)

    monkeypatch.setattr(pretraining, "_pretrained", counting)
    return made


def test_logits_are_the_drawn_imagenet_classes_in_order() -> None:
    external, imagenet = external_label_set(), load_label_set("imagenet1k")
    assert len(external) == len(external_classes())
    for logit, index in enumerate(external_classes()):
        assert external.labels[logit] == imagenet.labels[index]
        assert external.synsets[logit] == imagenet.synsets[index]


def test_is_trained_once_and_then_loaded_from_the_cache(tmp_path: Path, trainings: list[PretrainingConfig]) -> None:
    first = pretrain_small_backbone(tmp_path, TINY, quiet=True)
    second = pretrain_small_backbone(tmp_path, TINY, quiet=True)
    assert trainings == [TINY]
    assert second.weights_sha256() == first.weights_sha256()
    assert (second.external, second.preprocessing) == (external_label_set(), first.preprocessing)
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_is_trained_again_if_settings_change_or_the_file_is_damaged(
    tmp_path: Path, trainings: list[PretrainingConfig]
) -> None:
    first = pretrain_small_backbone(tmp_path, TINY, quiet=True)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1000])
    again = pretrain_small_backbone(tmp_path, TINY, quiet=True)
    assert again.weights_sha256() == first.weights_sha256()
    other = pretrain_small_backbone(tmp_path, replace(TINY, seed=1), quiet=True)
    assert other.weights_sha256() != first.weights_sha256()
    assert trainings == [TINY, TINY, replace(TINY, seed=1)]


def test_is_trained_again_with_another_version_of_what_draws_its_images(
    tmp_path: Path, trainings: list[PretrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain_small_backbone(tmp_path, TINY, quiet=True)
    monkeypatch.setattr(pretraining, "drawing_versions", lambda: {"qtawesome": "99.0"})
    pretrain_small_backbone(tmp_path, TINY, quiet=True)
    assert trainings == [TINY, TINY]


def test_does_not_change_the_default_random_generator(tmp_path: Path) -> None:
    torch.manual_seed(5)
    pretrain_small_backbone(tmp_path, TINY, quiet=True)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_reports_the_accuracy_on_held_out_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = pretrain_small_backbone(tmp_path, TINY)
    pictures, classes = generate_single_objects(TINY.held_out, TINY.seed + 1, TINY.tile)
    guesses = backbone(torch.from_numpy(pictures))[1].argmax(dim=1).numpy()
    assert f"top-1 {np.mean(guesses == classes):.1%} on 32 held-out images" in capsys.readouterr().err


def test_augmentation_translates_and_flips_and_nothing_else() -> None:
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (40, 12, 12, 3)).byte()
    varied = pretraining._augment(pictures, shift=2)
    assert varied.dtype == torch.uint8
    mirrored = 0
    for picture, found in zip(pictures, varied, strict=True):
        padded = torch.nn.functional.pad(picture.permute(2, 0, 1).float(), (2, 2, 2, 2), mode="replicate")
        windows = [
            padded[:, row : row + 12, column : column + 12].permute(1, 2, 0).byte()
            for row in range(5)
            for column in range(5)
        ]
        straight = any(torch.equal(found, window) for window in windows)
        turned = any(torch.equal(found, window.flip(1)) for window in windows)
        assert straight != turned
        mirrored += turned
    assert 10 < mirrored < 30


def test_tiles_are_arranged_row_by_row() -> None:
    pictures = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 3, 3, 3)
    images = pretraining._grid(pictures, grid=2)
    assert images.shape == (2, 6, 6, 3)
    for image, numbers in zip(images, ([[0, 1], [2, 3]], [[4, 5], [6, 7]]), strict=True):
        assert image[::3, ::3, 0].tolist() == numbers
        assert image[2::3, 2::3, 2].tolist() == numbers


@pytest.mark.slow
def test_learns_to_classify_the_drawn_classes(tmp_path: Path) -> None:
    config = PretrainingConfig(tiles=3_200, epochs=8)
    backbone = pretrain_small_backbone(tmp_path, config, quiet=True)
    pictures, classes = generate_single_objects(500, 7, config.tile)
    with torch.inference_mode():
        guesses = backbone(torch.from_numpy(pictures))[1].argmax(dim=1).numpy()
    assert np.mean(guesses == classes) > 20 / len(external_classes())

"""Features equal the backbone's outputs and are cached until an input changes."""

import errno
import hashlib
import os
import signal
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.graph.labels.sets import LabelSet
from mlzsl.imaging import TransientReadError, UnreadableImage, load_image
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import DENSE, Backbone
from mlzsl.train.backbones.resnets import SmallResNet
from mlzsl.train.datasets.source import Source
from mlzsl.train.extraction import features as features_module
from mlzsl.train.extraction.features import Features, extract, extract_parts

PHOTOS = 11


def make_backbone(seed: int = 0, size: int = 64) -> Backbone:
    torch.manual_seed(seed)
    names = tuple(f"class {index}" for index in range(5))
    external = LabelSet("five", names, tuple(f"class.n.{index:02d}" for index in range(5)))
    return Backbone("small", SmallResNet(5), external, Preprocessing(size=size))


@pytest.fixture
def photos(tmp_path: Path) -> PhotoSet:
    """Eleven noisy photos of different shapes."""
    rng = np.random.default_rng(0)
    paths = []
    for index in range(PHOTOS):
        path = tmp_path / "photos" / f"{index:02d}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, (90 + index, 70), interpolation=cv2.INTER_CUBIC))
        paths.append(path)
    return PhotoSet(tuple(paths), tuple(frozenset({"dog"}) for _ in paths), "noise")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def extractions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per extraction that is not loaded from the cache."""
    made: list[int] = []
    extract_really = features_module._extract

    def counting(backbone: Backbone, photos: PhotoSet, batch_size: int, quiet: bool) -> Features:
        made.append(len(photos.paths))
        return extract_really(backbone, photos, batch_size, quiet)

    monkeypatch.setattr(features_module, "_extract", counting)
    return made


def assert_same(found: Features, expected: Features, tolerance: float = 0.0) -> None:
    np.testing.assert_allclose(found.features, expected.features, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=tolerance, atol=tolerance)


def test_features_equal_the_backbone_on_each_photo_alone(photos: PhotoSet, cache: Path) -> None:
    backbone = make_backbone().with_pooling(DENSE)
    found = extract(backbone, photos, cache, batch_size=4, quiet=True)
    assert found.features.shape == (PHOTOS, 256 + 5)
    assert found.logits.shape == (PHOTOS, 5)
    assert found.features.dtype == found.logits.dtype == np.float32
    for row, path in enumerate(photos.paths):
        features, logits = backbone(torch.tensor(load_image(path, backbone.preprocessing))[None])
        np.testing.assert_allclose(found.features[row], features[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.logits[row], logits[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, PHOTOS, 100])
def test_features_do_not_depend_on_the_batch_size(batch_size: int, photos: PhotoSet, tmp_path: Path) -> None:
    backbone = make_backbone()
    expected = extract(backbone, photos, tmp_path / "first", batch_size=5, quiet=True)
    found = extract(backbone, photos, tmp_path / "second", batch_size=batch_size, quiet=True)
    assert_same(found, expected, tolerance=1e-5)


def test_are_extracted_once_for_the_same_backbone_and_photos(
    photos: PhotoSet, cache: Path, extractions: list[int]
) -> None:
    first = extract(make_backbone(), photos, cache, quiet=True)
    second = extract(make_backbone(), photos, cache, batch_size=3, quiet=True)
    assert extractions == [PHOTOS]
    assert_same(second, first)


def test_one_extraction_serves_models_of_either_pooling(photos: PhotoSet, cache: Path, extractions: list[int]) -> None:
    pooled = make_backbone()
    dense = pooled.with_pooling(DENSE)
    for_pooled, for_dense = (extract(each, photos, cache, quiet=True).for_backbone(each) for each in (pooled, dense))
    assert extractions == [PHOTOS]
    assert_same(for_dense, features_module._extract(dense, photos, 32, True))
    assert_same(for_pooled, features_module._extract(pooled, photos, 32, True))


def test_features_of_very_many_classes_are_extracted_only_for_models_that_read_them(
    photos: PhotoSet, cache: Path, extractions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "MOST_DENSE_CLASSES", 4)
    pooled = make_backbone()
    assert extract(pooled, photos, cache, quiet=True).features.shape == (PHOTOS, 256)
    for_dense = extract(pooled.with_pooling(DENSE), photos, cache, quiet=True)
    assert for_dense.features.shape == (PHOTOS, 256 + 5)
    assert extractions == [PHOTOS, PHOTOS]
    assert_same(extract(pooled, photos, cache, quiet=True).for_backbone(pooled), for_dense.for_backbone(pooled))
    assert extractions == [PHOTOS, PHOTOS]  # x is a part of the dense features


def test_photos_are_not_extracted_again_for_another_split(
    photos: PhotoSet, cache: Path, extractions: list[int]
) -> None:
    backbone, source = make_backbone(), Source(photos)
    splits = [source.split(share, seed) for share, seed in ((0.2, 0), (0.2, 1), (0.5, 0))] + list(photos.folds(3, 0))
    for split in splits:
        for part, found in zip(split, extract_parts(backbone, source, split, cache, quiet=True), strict=True):
            alone = features_module._extract(backbone.with_pooling(DENSE), part, 32, True)
            assert_same(found, alone, tolerance=1e-5)
    assert extractions.count(PHOTOS) == 1

    extractions.clear()
    own_split = Source(*splits[0])
    assert_same(extract_parts(backbone, own_split, splits[0], cache)[1], extract(backbone, splits[0][1], cache))
    assert extractions == [9, 2]


@pytest.mark.parametrize("library", ["torch", "timm", "PIL"])
def test_are_extracted_again_with_another_version_of_a_library(
    library: str, photos: PhotoSet, cache: Path, extractions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(make_backbone(), photos, cache, quiet=True)
    if library == "PIL":
        monkeypatch.setattr("PIL.__version__", "99.0")
    else:
        versions = features_module.version
        monkeypatch.setattr(features_module, "version", lambda name: "99.0" if name == library else versions(name))
    extract(make_backbone(), photos, cache, quiet=True)
    assert extractions == [PHOTOS, PHOTOS]


def test_are_extracted_again_when_an_input_changes(photos: PhotoSet, cache: Path, extractions: list[int]) -> None:
    extract(make_backbone(), photos, cache, quiet=True)
    extract(make_backbone(seed=1), photos, cache, quiet=True)  # other weights
    extract(make_backbone(size=96), photos, cache, quiet=True)  # another preprocessing
    fewer = PhotoSet(photos.paths[1:], photos.labels[1:], photos.name)
    extract(make_backbone(), fewer, cache, quiet=True)
    backwards = PhotoSet(photos.paths[::-1], photos.labels, photos.name)
    turned = extract(make_backbone(), backwards, cache, quiet=True)
    assert extractions == [PHOTOS, PHOTOS, PHOTOS, PHOTOS - 1, PHOTOS]
    assert_same(turned, Features(*_backwards(extract(make_backbone(), photos, cache, quiet=True))), tolerance=1e-5)
    assert len(extractions) == 5  # the first ones are still there


def _backwards(features: Features) -> tuple[np.ndarray, np.ndarray]:
    return features.features[::-1], features.logits[::-1]


@pytest.mark.parametrize("damage", ["empty", "cut", "one bit", "text"])
def test_a_damaged_cache_is_replaced(damage: str, photos: PhotoSet, cache: Path, extractions: list[int]) -> None:
    expected = extract(make_backbone(), photos, cache, quiet=True)
    (path,) = cache.iterdir()
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[-5] ^= 0x10
    path.write_bytes({"empty": b"", "cut": good[:-100], "one bit": bytes(flipped), "text": b"hello"}[damage])
    assert_same(extract(make_backbone(), photos, cache, quiet=True), expected)
    assert extractions == [PHOTOS, PHOTOS]
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(good).digest()


def test_all_unreadable_photos_are_reported_at_once_and_nothing_is_cached(photos: PhotoSet, cache: Path) -> None:
    photos.paths[2].write_bytes(b"not an image")
    photos.paths[9].write_bytes(b"")
    with pytest.raises(UsageError, match=r"2 of 11 training photos cannot be read") as refusal:
        extract(make_backbone(), photos, cache, batch_size=2, quiet=True)
    for photo in (photos.paths[2], photos.paths[9]):
        assert str(photo) in str(refusal.value)
    assert "labels.json" in str(refusal.value)
    assert not cache.exists() or not list(cache.iterdir())


def test_many_unreadable_photos_are_counted(photos: PhotoSet, cache: Path) -> None:
    for path in photos.paths:
        path.write_bytes(b"not an image")
    with pytest.raises(UsageError, match=r"11 of 11 training photos .* and 6 more"):
        extract(make_backbone(), photos, cache, quiet=True)


def test_photos_that_the_machine_failed_to_read_are_not_called_unreadable(
    photos: PhotoSet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, _: object) -> np.ndarray:
        raise TransientReadError("Stale file handle") if path == photos.paths[4] else UnreadableImage("damaged")

    monkeypatch.setattr(features_module, "load_image", load)
    with pytest.raises(FailureError, match=r"04\.png: could not be read: Stale file handle\. Try again\.$"):
        extract(make_backbone(), photos, cache, quiet=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers do not share the patched function")
def test_a_worker_that_is_killed_is_a_failure_of_the_machine(
    photos: PhotoSet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "load_image", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(FailureError, match=r"^a process that decodes photos was killed; check free memory"):
        extract(make_backbone(), photos, cache, quiet=True)


def test_photos_whose_content_the_machine_fails_to_read_are_not_called_unreadable(
    photos: PhotoSet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    monkeypatch.setattr("mlzsl.imaging.photoset.sha256_of_file", Mock(side_effect=gone))
    with pytest.raises(FailureError, match=rf"png: could not be read: {os.strerror(errno.ESTALE)}\. Try again\.$"):
        extract(make_backbone(), photos, cache, quiet=True)


def test_a_missing_photo_is_reported(photos: PhotoSet, cache: Path) -> None:
    photos.paths[3].unlink()
    with pytest.raises(UsageError, match=r"03\.png: the photo cannot be read \(No such file"):
        extract(make_backbone(), photos, cache, quiet=True)


def test_progress_is_in_photos(photos: PhotoSet, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extract(make_backbone(), photos, cache)
    assert "extracting features: 11/11 photos" in capsys.readouterr().err

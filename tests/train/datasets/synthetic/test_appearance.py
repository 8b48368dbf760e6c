"""Appearance by hypernym, contrast with the background, and backdrops of any size."""

import numpy as np
import pytest

from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.datasets.synthetic.appearance import (
    ANY,
    APPEARANCES,
    BACKDROPS,
    SURFACES,
    Appearance,
    appearance_of,
    draw_backdrop,
    paint,
)
from mlzsl.train.datasets.synthetic.drawings import EXTERNALS, TARGETS
from mlzsl.train.datasets.synthetic.scenes import SCENE_TYPES


def test_unseen_labels_share_the_appearance_of_their_hypernym() -> None:
    assert appearance_of("bicycle.n.01") is appearance_of("motorcycle.n.01") is appearance_of("mountain_bike.n.01")
    assert appearance_of("fork.n.01") is appearance_of("bottle.n.01")
    assert appearance_of("bird.n.01") is not appearance_of("boat.n.01")


def test_most_classes_have_an_appearance_of_their_own() -> None:
    for name, table in (("coco80", TARGETS), ("imagenet1k", EXTERNALS)):
        labels = load_label_set(name)
        appearances = [appearance_of(labels.synsets[labels.labels.index(label)]) for label in table]
        assert all(appearance.surface in SURFACES for appearance in appearances)
        assert np.mean([appearance.palettes != (ANY,) for appearance in appearances]) > 0.75


@pytest.mark.parametrize("kinds", [kinds for kinds, _ in APPEARANCES])
def test_every_listed_hypernym_is_a_synset(kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        appearance_of(kind)


def test_objects_contrast_with_the_background() -> None:
    generator = np.random.default_rng(0)
    contrasts = []
    for _ in range(300):
        background = generator.uniform(0, 255, 3)
        painted = paint(12, 16, Appearance((ANY,)), background, generator)
        assert painted.shape == (12, 16, 3)
        assert painted.min() >= 0
        assert painted.max() <= 255
        contrasts.append(np.abs(painted.mean(axis=(0, 1)) - background).sum())
    assert np.mean(np.array(contrasts) > 120) > 0.95


@pytest.mark.parametrize("surface", sorted(SURFACES))
def test_a_surface_has_any_size(surface: str) -> None:
    for height, width in ((8, 6), (33, 17), (64, 128)):
        assert SURFACES[surface](height, width, np.random.default_rng(1)).shape == (height, width)


@pytest.mark.parametrize("name", BACKDROPS)
def test_a_backdrop_depends_on_the_seed_alone(name: str) -> None:
    one, same, other = (draw_backdrop(name, 40, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one.shape == (40, 40, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_every_scene_type_has_a_backdrop_and_known_labels() -> None:
    assert {name for name, _ in SCENE_TYPES} == set(BACKDROPS)
    assert {label.replace("_", " ") for _, labels in SCENE_TYPES for label in labels.split()} <= set(TARGETS)

"""Things of a kind look alike, stand out from what lies behind them, and every backdrop can be drawn at any size."""

import numpy as np
import pytest

from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.datasets.synthetic.appearance import ANY, FINISHES, LOOKS, Look, look_of, paint
from mlzsl.train.datasets.synthetic.backdrops import BACKDROP_NAMES, draw_backdrop
from mlzsl.train.datasets.synthetic.drawings import EXTERNALS, TARGETS
from mlzsl.train.datasets.synthetic.scenes import PLACES


def test_unseen_labels_look_like_their_kind() -> None:
    assert look_of("bicycle.n.01") is look_of("motorcycle.n.01") is look_of("mountain_bike.n.01")
    assert look_of("fork.n.01") is look_of("bottle.n.01")
    assert look_of("bird.n.01") is not look_of("boat.n.01")


def test_every_class_has_a_look_and_most_have_one_of_their_kind() -> None:
    for name, table in (("coco80", TARGETS), ("imagenet1k", EXTERNALS)):
        labels = load_label_set(name)
        looks = [look_of(labels.synsets[labels.labels.index(label)]) for label in table]
        assert all(look.finish in FINISHES for look in looks)
        assert np.mean([look.palettes != (ANY,) for look in looks]) > 0.75


@pytest.mark.parametrize("kinds", [kinds for kinds, _ in LOOKS])
def test_every_kind_is_a_synset(kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        look_of(kind)


def test_a_thing_mostly_stands_out_from_its_background() -> None:
    generator = np.random.default_rng(0)
    contrasts = []
    for _ in range(300):
        ground = generator.uniform(0, 255, 3)
        surface = paint(12, 16, Look((ANY,)), ground, generator)
        assert surface.shape == (12, 16, 3)
        assert surface.min() >= 0
        assert surface.max() <= 255
        contrasts.append(np.abs(surface.mean(axis=(0, 1)) - ground).sum())
    assert np.mean(np.array(contrasts) > 120) > 0.95


@pytest.mark.parametrize("finish", sorted(FINISHES))
def test_a_finish_covers_any_size(finish: str) -> None:
    for height, width in ((8, 6), (33, 17), (64, 128)):
        assert FINISHES[finish](height, width, np.random.default_rng(1)).shape == (height, width)


@pytest.mark.parametrize("name", BACKDROP_NAMES)
def test_a_backdrop_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    one, same, other = (draw_backdrop(name, 40, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert one.shape == (40, 40, 3)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_every_place_has_its_backdrop() -> None:
    assert {place for place, _ in PLACES} == set(BACKDROP_NAMES)
    assert {label.replace("_", " ") for _, usual in PLACES for label in usual.split()} <= set(TARGETS)

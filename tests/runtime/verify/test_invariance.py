"""An image's scores depend on nothing else: an engine that violates this in one condition is detected."""

import numpy as np
import pytest

from mlzsl.engines.opening import BACKENDS, open_engine
from mlzsl.runtime.verify.verify import variations, verify

THRESHOLDS = np.full(6, 0.5, np.float32)
OFF = np.float32(1e-3)


class Altered:
    """A correct engine with an error added to its scores, of size `how(images, call, crowd)`, [n] or a number."""

    def __init__(self, engine, how) -> None:
        self.engine, self.how, self.call = engine, how, 0
        self.manifest, self.execution, self.in_flight = engine.manifest, engine.execution, 2

    def run(self, batches):
        batches = list(batches)
        for batch in batches:
            yield self._scores(batch, len(batches))

    def scores(self, images):
        return self._scores(images, 1)

    def _scores(self, images, crowd):
        self.call += 1
        off = np.broadcast_to(self.how(images, self.call, crowd), len(images))
        return self.engine.scores(images) + OFF * off[:, None].astype(np.float32)


def whole_and_more(images, call, crowd):
    return crowd == 3 and len(images) == 3 and (images[0] != images[1]).any()


CONDITIONS = {
    "batch size": lambda images, call, crowd: len(images) == 1,
    "position in the batch": lambda images, call, crowd: (
        len(images) == 3 and (np.arange(3) > 0) * (images[0].mean() > 140)
    ),
    "neighbours": lambda images, call, crowd: len(images) == 3 and not images[-1].any(),
    "run": lambda images, call, crowd: crowd == 1 and call > 1 and len(images) == 3,
    "number in flight": whole_and_more,
}


@pytest.fixture
def engine(tiny_model):
    opened = open_engine(tiny_model.path, backend="onnxruntime", threads=1)
    yield opened
    opened.close()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_scores_that_depend_on_it_are_found(engine, tiny_model, condition):
    found = {
        one.changed: one for one in variations(Altered(engine, CONDITIONS[condition]), tiny_model.images, THRESHOLDS)
    }
    assert found[condition].largest == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_correct_engine_gives_an_image_the_same_scores_in_every_condition(tiny_model, backend):
    opened = open_engine(tiny_model.path, backend=backend)
    found = {one.changed: one for one in variations(opened, tiny_model.images, THRESHOLDS)}
    opened.close()
    assert set(found) == set(CONDITIONS)
    assert all(one.largest < 1e-6 and one.flipped == 0 for one in found.values())
    assert found["run"].largest == found["number in flight"].largest == 0


def test_tags_that_change_are_counted(engine, tiny_model):
    scores = engine.scores(tiny_model.images)
    threshold = scores + OFF / 2  # of image 0: reached only where its scores are off
    altered = Altered(engine, CONDITIONS["run"])
    found = {one.changed: one for one in variations(altered, tiny_model.images[:1].repeat(3, 0), threshold[0])}
    assert found["run"].flipped == found["run"].decisions == 3 * 3 * 6


def test_nan_is_not_equal(engine, tiny_model):
    altered = Altered(engine, lambda images, call, crowd: np.nan if len(images) == 1 else 0)
    found = {one.changed: one for one in variations(altered, tiny_model.images, THRESHOLDS)}
    assert np.isnan(found["batch size"].largest)


def test_an_engine_that_is_not_invariant_does_not_pass(engine, tiny_model):
    verification = verify(Altered(engine, CONDITIONS["batch size"]), tiny_model.path)
    assert not verification.passed
    assert [(check.name, found.name) for check, found in verification.exceeded] == [("invariance", "other batch size")]


def test_one_image_is_enough(engine, tiny_model):
    assert all(
        one.largest == 0 for one in variations(engine, tiny_model.images[:1], THRESHOLDS) if one.changed == "run"
    )

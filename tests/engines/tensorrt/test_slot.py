"""A slot returns each batch its own scores, with and without CUDA graphs. The host emulates CUDA here."""

from collections.abc import Callable

import numpy as np
import pytest
from hostcuda import Context, HostCuda, HostStream
from tinymodel import LABELS, SIZE, random_images, reference_scores

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.plan_manifest import BatchProfile
from mlzsl.engines.tensorrt.batches import scored_in_order
from mlzsl.engines.tensorrt.slot import MOST_GRAPHS, PlanSlot


def make_slot(
    batch: BatchProfile,
    graphs: bool = True,
    make_context: Callable[[object], Context | None] = lambda activation: Context(),
    activation_bytes: int = 64,
) -> tuple[PlanSlot, HostStream]:
    stream = HostCuda().stream()
    return PlanSlot(stream, make_context, batch, SIZE, len(LABELS), activation_bytes, graphs), stream


def scored(slot: PlanSlot, images: np.ndarray) -> np.ndarray:
    slot.start(images)
    return slot.finish()


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "calls"])
@pytest.mark.parametrize("smallest", [1, 3])
def test_scores_equal_the_formulas_for_any_sequence_of_batches(graphs: bool, smallest: int) -> None:
    slot, stream = make_slot(BatchProfile(smallest, 4, 8), graphs)
    for seed, count in enumerate([8, 1, 2, 8, 8, 1, 1, 3, 8, 2, 2, 2, 5, 1, 8]):
        images = random_images(count, seed)
        np.testing.assert_allclose(scored(slot, images), reference_scores(images), atol=1e-6, rtol=0)
    assert (stream.launched > 0) == graphs


def test_a_batch_size_is_captured_as_a_graph_at_its_second_batch() -> None:
    slot, stream = make_slot(BatchProfile(1, 4, 8))
    for launched in (0, 1, 2, 3):
        scored(slot, random_images(4))
        assert stream.launched == launched
    scored(slot, random_images(5))
    assert stream.launched == 3, "a size that comes once is not captured"


def test_the_number_of_graphs_is_limited() -> None:
    contexts = []

    def make_context(activation: object) -> Context:
        contexts.append(Context())
        return contexts[-1]

    slot, _ = make_slot(BatchProfile(1, 8, 16), make_context=make_context)
    for _ in range(3):
        for count in range(1, 17):
            images = random_images(count, count)
            np.testing.assert_allclose(scored(slot, images), reference_scores(images), atol=1e-6, rtol=0)
    assert len(contexts) == 1 + MOST_GRAPHS


def test_scores_are_read_after_the_batch_is_done() -> None:
    slot, stream = make_slot(BatchProfile(1, 4, 4))
    slot.start(random_images(4))
    assert stream.queue, "starting only queues"
    images = random_images(2, 9)
    slot.finish()
    kept = scored(slot, images)
    scored(slot, random_images(2, 10))
    np.testing.assert_allclose(kept, reference_scores(images), atol=1e-6, rtol=0)


def test_contexts_of_a_slot_share_its_activation_memory() -> None:
    memory: list[object] = []

    def make_context(activation: object) -> Context:
        memory.append(activation)
        return Context()

    slot, _ = make_slot(BatchProfile(1, 4, 4), make_context=make_context)
    for _ in range(3):
        scored(slot, random_images(4))
    assert len(memory) == 2
    assert memory[0] is memory[1] is not None
    make_slot(BatchProfile(1, 4, 4), make_context=make_context, activation_bytes=0)
    assert memory[-1] is None


def test_several_slots_score_batches_larger_than_the_plan_takes_in_order() -> None:
    batch = BatchProfile(2, 4, 8)
    slots = [make_slot(batch)[0] for _ in range(3)]
    batches = [random_images(1 + 13 * i % 31, i) for i in range(20)]
    results = list(scored_in_order(batches, slots, batch.max, lambda images: images))
    for images, scores in zip(batches, results, strict=True):
        np.testing.assert_allclose(scores, reference_scores(images), atol=1e-6, rtol=0)


def test_a_refused_batch_and_too_little_memory_are_errors() -> None:
    slot, _ = make_slot(BatchProfile(1, 4, 8), make_context=lambda activation: Context(largest=4))
    with pytest.raises(FailureError, match="batch of 8"):
        slot.start(random_images(8))
    with pytest.raises(FailureError, match="memory"):
        make_slot(BatchProfile(1, 4, 8), make_context=lambda activation: None)


def test_closing_waits_and_frees_the_stream() -> None:
    slot, stream = make_slot(BatchProfile(1, 4, 8))
    slot.start(random_images(3))
    slot.close()
    assert stream.closed
    assert not stream.queue

"""What more labels cost: an engine's time for a photo, fitted to models of several label sets.

It grows with the number of labels L as a + b L + c L²: the backbone, the nodes of the class graph, the pairs of them.
"""

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import progress
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine
from mlzsl.runtime.bench.load import Load, measure_loads


@dataclass(frozen=True)
class LabelCost:
    """An engine's time for a photo at a number of labels.

    Attributes:
        labels: how many.
        seconds: for a photo.
        from_labels: the numbers of labels that it was fitted to.
        outside: whether `labels` lies outside of them.
    """

    labels: int
    seconds: float
    from_labels: tuple[int, ...]
    outside: bool


def cost_of_labels(seconds: Mapping[int, float], labels: int) -> LabelCost:
    """Fit an engine's time for a photo to its number of labels: a line through two, a parabola through three or more.

    Args:
        seconds: by number of labels.
        labels: the number to predict for.

    Raises:
        UsageError: that number was not measured, and there are not two others; or the fit gives no positive time.
    """
    known = tuple(sorted(seconds))
    if labels in seconds:
        return LabelCost(labels, seconds[labels], (labels,), outside=False)
    if len(known) < 2:
        raise UsageError(
            f"--labels {labels}: the model has {known[0]}, and one number does not tell what others cost; name MODELs "
            "with fewer and more labels as well, from `mlzsl-export --labels`."
        )
    coefficients = np.polynomial.polynomial.polyfit(known, [seconds[count] for count in known], min(2, len(known) - 1))
    predicted = float(np.polynomial.polynomial.polyval(labels, coefficients))
    if predicted <= 0:
        raise UsageError(
            f"--labels {labels}: the times measured at {', '.join(map(str, known))} labels foretell none for it (other "
            "work on the machine?); measure again, or name MODELs whose labels are nearer."
        )
    return LabelCost(labels, predicted, known, not known[0] <= labels <= known[-1])


def measure_label_cost(
    models: Sequence[Path],
    labels: int,
    batch_size: int,
    repeats: int,
    seconds: float,
    quiet: bool = False,
    **engine: Any,
) -> tuple[LabelCost, float]:
    """Measure models of several label sets in turns, and predict what another number of labels costs.

    Args:
        models: model files that differ in their labels only.
        labels: the number to predict for.
        batch_size: pictures a batch, as many in flight as the engine runs by itself.
        repeats, seconds: as for `measure_loads`.
        quiet: show no progress.
        engine: as `open_engine` takes it.

    Returns:
        The cost, and how many times as long as with the first model a photo takes.

    Raises:
        UsageError: as `open_engine` and `cost_of_labels`, or the models differ in more than labels.
    """
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(contextlib.closing(open_engine(model, **engine))) for model in models]
        _check_alike(models, opened)
        times: dict[int, list[float]] = {len(each.manifest.labels): [] for each in opened}
        with progress("measuring labels", repeats * len(opened), "turns", quiet) as bar:
            for _ in range(repeats):
                for each in opened:
                    [turn] = measure_loads(each, [Load(batch_size, each.in_flight)], 1, seconds, quiet=True)
                    times[len(each.manifest.labels)].append(1 / turn.photos_per_second.median)
                    bar.advance(note=f"{len(each.manifest.labels):,} labels")
    medians = {count: statistics.median(taken) for count, taken in times.items()}
    cost = cost_of_labels(medians, labels)
    return cost, cost.seconds / medians[len(opened[0].manifest.labels)]


def _check_alike(models: Sequence[Path], engines: Sequence[Engine]) -> None:
    def kind(engine: Engine) -> str:
        manifest, execution = engine.manifest, engine.execution
        return (
            f"{manifest.model} on {manifest.backbone} at {manifest.image_size} px, {execution.backend} "
            f"{execution.precision}"
        )

    seen: dict[int, Path] = {}
    for model, engine in zip(models, engines, strict=True):
        if kind(engine) != kind(engines[0]):
            raise UsageError(
                f"{model}: is {kind(engine)}, and {models[0]} {kind(engines[0])}; with --labels the MODELs differ in "
                "their labels only."
            )
        count = len(engine.manifest.labels)
        if count in seen:
            raise UsageError(f"{model}: has {count} labels, as many as {seen[count]}; name one of them.")
        seen[count] = model

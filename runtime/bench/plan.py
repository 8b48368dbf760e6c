"""Predicts the pipeline's rate on more cores, or with more labels, from measurements on this machine.

- A stage on n cores runs n / (1 + σ (n - 1)) times as fast as on one (Amdahl, 1967); σ, the serial fraction, is fitted
  to the measurements.
- Decoding and an engine on the CPU share the cores: their times per photo add up. An engine on a GPU runs in parallel
  with decoding: the slower one limits.
- An engine's time per photo grows with the number of labels L as a + b L + c L²: the backbone, the nodes of the class
  graph, the pairs of them.
"""

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import progress
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine
from mlzsl.runtime.bench.benchmark import Settings
from mlzsl.runtime.bench.load import Load, Spread, measure_loads
from mlzsl.runtime.bench.stages import DECODE, ENGINE, Stages, measure_on_cores, shared_rate
from mlzsl.runtime.report import rate, table


def plan_model(
    models: Sequence[Path],
    paths: Sequence[str],
    cores: Sequence[int],
    labels: int | None,
    settings: Settings,
    quiet: bool = False,
    **engine: Any,
) -> tuple[list["Prediction"], "LabelCost | None"]:
    """Measure on this machine and predict.

    Args:
        models: the model file; with `labels`, more model files that differ in their labels only.
        paths: image files.
        cores: the numbers of cores to predict for.
        labels: the number of labels to predict for; None for that of the model.
        settings: batch size, repeats, and seconds of a repeat.
        quiet: show no progress.
        engine: device, backend and precision, as `open_engine` takes them.

    Raises:
        UsageError, FailureError: as `measure_on_cores` and `measure_label_cost`.
    """
    if labels is None and len(models) > 1:
        raise UsageError(f"plan takes one MODEL, not {len(models)}; several are for --labels, which needs their cost.")
    cost, slowdown = None, 1.0
    if labels is not None:
        cost, slowdown = measure_label_cost(models, labels, settings, quiet, **engine)
    measured = measure_on_cores(models[0], paths, settings.repeats, settings.batch_size, quiet, **engine)
    on_cpu = all(stages.of_shared is not None for stages in measured.values())
    return plan(measured, cores, on_cpu, slowdown), cost


@dataclass(frozen=True)
class Scaling:
    """How a stage's rate grows with the number of cores.

    Attributes:
        single: photos per second on one core.
        serial: σ, the serial fraction, at least 0: no stage is predicted to scale faster than linearly.
    """

    single: float
    serial: float

    def at(self, cores: int) -> float:
        """Photos per second on `cores` cores."""
        return self.single * cores / (1 + self.serial * (cores - 1))


def fit_scaling(rates: Mapping[int, float]) -> Scaling:
    """Fit a stage's rates by number of cores, one of them 1; without another, the stage scales linearly."""
    single = rates[1]
    fractions = [(cores * single / rate - 1) / (cores - 1) for cores, rate in rates.items() if cores > 1]
    return Scaling(single, max(0.0, statistics.median(fractions)) if fractions else 0.0)


@dataclass(frozen=True)
class Prediction:
    """The pipeline on a number of cores.

    Attributes:
        cores: how many.
        decode, engine, pipeline: photos per second, predicted.
        limiting: DECODE or ENGINE, the slower one.
        from_cores: the numbers of cores whose measurements it was predicted from.
        measured: the pipeline's rate as measured on this number of cores; None where it was not.
        relative_error: how far the prediction exceeds the measurement, as a fraction of it.
    """

    cores: int
    decode: float
    engine: float
    pipeline: float
    limiting: str
    from_cores: tuple[int, ...]
    measured: Spread | None
    relative_error: float | None


def plan(measured: Mapping[int, Stages], cores: Sequence[int], on_cpu: bool, slowdown: float = 1.0) -> list[Prediction]:
    """Predict the pipeline's rate.

    Where it was measured, it is predicted from fewer cores only, so that the two can be compared.

    Args:
        measured: the stages by number of cores, one of them 1.
        cores: the numbers to predict for; those that were measured are added.
        on_cpu: whether the engine runs on the cores that decode.
        slowdown: by what factor another number of labels slows the engine; 1 for none. With another factor there is
            no measurement to compare with.
    """
    predictions = []
    for count in sorted({*cores, *measured}):
        comparable = count in measured and slowdown == 1
        known = {few: stages for few, stages in measured.items() if not comparable or few < count or few == count == 1}
        decode = fit_scaling({few: stages.decode.median for few, stages in known.items()}).at(count)
        engine_rates = {few: stages.engine.median / slowdown for few, stages in known.items()}
        engine = fit_scaling(engine_rates).at(count) if on_cpu else engine_rates[max(engine_rates)]
        pipeline = shared_rate(decode, engine) if on_cpu else min(decode, engine)
        limiting = DECODE if decode < engine else ENGINE
        found = measured[count].pipeline if comparable else None
        error = None if found is None else pipeline / found.median - 1
        predictions.append(Prediction(count, decode, engine, pipeline, limiting, tuple(sorted(known)), found, error))
    return predictions


# ---- labels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelCost:
    """An engine's time per photo at a number of labels.

    Attributes:
        labels: how many.
        seconds: per photo.
        from_labels: the numbers of labels that it was fitted to.
        extrapolated: whether `labels` lies outside their range.
    """

    labels: int
    seconds: float
    from_labels: tuple[int, ...]
    extrapolated: bool


def cost_of_labels(seconds: Mapping[int, float], labels: int) -> LabelCost:
    """Fit an engine's time per photo to its number of labels: a line through two, a parabola through three or more.

    Args:
        seconds: per photo, by number of labels.
        labels: the number to predict for.

    Raises:
        UsageError: that number was not measured, and there are not two others; or the fit gives no positive time.
    """
    known = tuple(sorted(seconds))
    if labels in seconds:
        return LabelCost(labels, seconds[labels], (labels,), extrapolated=False)
    if len(known) < 2:
        raise UsageError(
            f"--labels {labels}: only a model with {known[0]} labels is named, and a fit needs two or more; add MODELs "
            "with fewer and more labels, from `mlzsl-export --labels`."
        )
    coefficients = np.polynomial.polynomial.polyfit(known, [seconds[count] for count in known], min(2, len(known) - 1))
    predicted = float(np.polynomial.polynomial.polyval(labels, coefficients))
    if predicted <= 0:
        raise UsageError(
            f"--labels {labels}: the times measured at {', '.join(map(str, known))} labels predict a negative one; "
            "measure again on an idle machine, or name MODELs with a nearer number of labels."
        )
    return LabelCost(labels, predicted, known, not known[0] <= labels <= known[-1])


def measure_label_cost(
    models: Sequence[Path], labels: int, settings: Settings, quiet: bool = False, **engine: Any
) -> tuple[LabelCost, float]:
    """Measure models with different label sets, interleaved, and predict the cost of another number of labels.

    Args:
        models: model files that differ in their labels only.
        labels: the number to predict for.
        settings: batch size, repeats, and seconds of a repeat; as many batches in flight as the engine runs at once.
        quiet: show no progress.
        engine: as `open_engine` takes it.

    Returns:
        The cost, and by what factor it exceeds that of the first model.

    Raises:
        UsageError: the models differ in more than their labels, or as `cost_of_labels`.
    """
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(contextlib.closing(open_engine(model, **engine))) for model in models]
        by_labels = _by_number_of_labels(models, engines)
        times: dict[int, list[float]] = {count: [] for count in by_labels}
        with progress("measuring labels", settings.repeats * len(engines), "repeats", quiet) as bar:
            for _ in range(settings.repeats):
                for count, each in by_labels.items():
                    load = Load(settings.batch_size, each.in_flight)
                    [result] = measure_loads(each, [load], 1, settings.seconds, quiet=True)
                    times[count].append(1 / result.photos_per_second.median)
                    bar.advance(note=f"{count:,} labels")
    medians = {count: statistics.median(taken) for count, taken in times.items()}
    cost = cost_of_labels(medians, labels)
    return cost, cost.seconds / next(iter(medians.values()))


def _by_number_of_labels(models: Sequence[Path], engines: Sequence[Engine]) -> dict[int, Engine]:
    """The engines by their number of labels, in the order of the models.

    Raises:
        UsageError: the models differ in more than their labels.
    """

    kinds = [
        f"{engine.manifest.model} on {engine.manifest.backbone} at {engine.manifest.image_size} px, "
        f"{engine.execution.backend} {engine.execution.precision}"
        for engine in engines
    ]
    found: dict[int, Engine] = {}
    for model, engine, kind in zip(models, engines, kinds, strict=True):
        if kind != kinds[0]:
            raise UsageError(
                f"{model}: is {kind}, but {models[0]} is {kinds[0]}; with --labels, the MODELs may differ in their "
                "labels only."
            )
        count = len(engine.manifest.labels)
        if found.setdefault(count, engine) is not engine:
            raise UsageError(f"{model}: has {count} labels, as many as another MODEL; name one of them.")
    return found


# ---- report ---------------------------------------------------------------------------------------------------------


def report_plan(predictions: Sequence[Prediction], cost: LabelCost | None) -> Iterator[Table | str]:
    """A row for each number of cores, with the measured rate where there is one."""
    if cost is not None:
        models = ", ".join(f"{count:,}" for count in cost.from_labels)
        line = f"with {cost.labels:,} labels the engine takes {1000 * cost.seconds:.2f} ms per photo, from models with "
        yield line + models + ("; extrapolated beyond these" if cost.extrapolated else "")
    rows = (
        (
            f"{row.cores:,}",
            *map(rate, (row.decode, row.engine, row.pipeline)),
            "" if row.measured is None else rate(row.measured.median),
            "" if row.relative_error is None else f"{row.relative_error:+.0%}",
            row.limiting.split()[0],
            f"{', '.join(map(str, row.from_cores))} core{'s' if row.from_cores != (1,) else ''}",
        )
        for row in predictions
    )
    headings = ("cores", "decode", "engine", "pipeline", "measured", "error", "limits", "predicted from")
    yield table(headings, rows, left=())
    yield "photos/s; measured rates are predicted from fewer cores, which shows how far off plans are"

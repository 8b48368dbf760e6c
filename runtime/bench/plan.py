"""What more cores will bring: the pipeline's rate, predicted from the rates of its stages.

- A stage on n cores runs n / (1 + σ (n - 1)) times as fast as on one (Amdahl, 1967); σ, the share that does not run in
  parallel, is fitted to what was measured.
- Decoding and an engine on the CPU share the cores: their times for a photo add up. An engine on a GPU runs beside the
  decoding: the slower one counts.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlzsl.cli.errors import UsageError
from mlzsl.runtime.bench.benchmark import Settings
from mlzsl.runtime.bench.cores import measure_on_cores
from mlzsl.runtime.bench.labels import LabelCost, measure_label_cost
from mlzsl.runtime.bench.stages import DECODE, ENGINE, Stages, shared_rate
from mlzsl.runtime.bench.statistics import Spread


def plan_model(
    models: Sequence[Path],
    paths: Sequence[str],
    cores: Sequence[int],
    labels: int | None,
    settings: Settings,
    quiet: bool = False,
    **engine: Any,
) -> tuple[list["Planned"], LabelCost | None]:
    """Measure on this machine and predict.

    Args:
        models: the model file; with `labels` others beside it that differ in their labels only.
        paths: image files.
        cores: the numbers to plan for.
        labels: how many labels there will be; None for those of the model.
        settings: batch size, repeats, and seconds of a turn.
        quiet: show no progress.
        engine: device, backend and precision, as `open_engine` takes them.

    Raises:
        UsageError, FailureError: as `measure_on_cores` and `measure_label_cost`.
    """
    if labels is None and len(models) > 1:
        raise UsageError(f"--plan: takes one MODEL, not {len(models)}; several tell what --labels L costs.")
    cost, slowdown = None, 1.0
    if labels is not None:
        cost, slowdown = measure_label_cost(
            models, labels, settings.batch_size, settings.repeats, settings.seconds, quiet, **engine
        )
    measured = measure_on_cores(models[0], paths, settings.repeats, settings.batch_size, quiet, **engine)
    on_cpu = all(stages.of_shared is not None for stages in measured.values())
    return plan(measured, cores, on_cpu, slowdown), cost


@dataclass(frozen=True)
class Scaling:
    """How a stage's rate grows with the cores.

    Attributes:
        single: photos a second on one core.
        serial: σ, at least 0: nothing is foretold to grow faster than the cores do.
    """

    single: float
    serial: float

    def at(self, cores: int) -> float:
        """Photos a second on so many cores."""
        return self.single * cores / (1 + self.serial * (cores - 1))


def fit_scaling(rates: Mapping[int, float]) -> Scaling:
    """Fit a stage's rates on some numbers of cores, one of them 1; a single one is taken to grow as the cores do."""
    single = rates[1]
    shares = [(cores * single / rate - 1) / (cores - 1) for cores, rate in rates.items() if cores > 1]
    return Scaling(single, max(0.0, statistics.median(shares)) if shares else 0.0)


@dataclass(frozen=True)
class Planned:
    """What a number of cores will reach.

    Attributes:
        cores: how many.
        decode, engine, pipeline: photos a second, predicted.
        limiting: DECODE or ENGINE, the slower one.
        from_cores: the numbers of cores whose stages it was predicted from.
        measured: the pipeline's rate as measured on so many cores; None where it was not.
    """

    cores: int
    decode: float
    engine: float
    pipeline: float
    limiting: str
    from_cores: tuple[int, ...]
    measured: Spread | None

    @property
    def off(self) -> float | None:
        """By what share the prediction is above what was measured."""
        return None if self.measured is None else self.pipeline / self.measured.median - 1


def plan(measured: Mapping[int, Stages], cores: Sequence[int], on_cpu: bool, slowdown: float = 1.0) -> list[Planned]:
    """Predict the pipeline's rate.

    Where it was measured the prediction is made from fewer cores only, so that the two can be held against each other.

    Args:
        measured: the stages on numbers of cores, one of them 1.
        cores: the numbers to plan for; those that were measured come in as well.
        on_cpu: whether the engine runs on the cores that decode.
        slowdown: how many times as long as measured the engine will take for a photo, as other labels make it; what
            was measured is then left out.
    """
    rows = []
    for count in sorted({*cores, *measured}):
        known = {few: stages for few, stages in measured.items() if few < count or few == count == 1}
        if count not in measured or slowdown != 1:
            known = dict(measured)
        decode = fit_scaling({few: stages.decode.median for few, stages in known.items()}).at(count)
        engine_rates = {few: stages.engine.median / slowdown for few, stages in known.items()}
        engine = fit_scaling(engine_rates).at(count) if on_cpu else engine_rates[max(engine_rates)]
        rows.append(
            Planned(
                count,
                decode,
                engine,
                shared_rate(decode, engine) if on_cpu else min(decode, engine),
                DECODE if decode < engine else ENGINE,
                tuple(sorted(known)),
                measured[count].pipeline if count in measured and slowdown == 1 else None,
            )
        )
    return rows

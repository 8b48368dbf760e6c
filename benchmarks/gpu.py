"""How fast is a network on a GPU by precision and batch, beside PyTorch and ONNX Runtime? Measured for gpu.sh.

Each command prints what it found as JSON; gpu.sh runs them one after the other and gpu_record.py makes the record.
`--device cpu` goes the same ways with what a CPU has: no plans, no CUDA graphs, bfloat16 in place of float16.

    python benchmarks/gpu.py throughput bench/resnet50-coco80 [--batches 1,8,32,128] [--repeats 5] [--seconds 1]
    python benchmarks/gpu.py ablation bench/resnet50-coco80
    python benchmarks/gpu.py busy bench/resnet50-coco80.fp16.plan --photos PHOTOS
"""

import contextlib
import gc
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from gpu_inputs import as_json, asked_of_nvidia, gpu_index
from gpu_ways import PRECISIONS, Files, Resident, Way, fp32_scorer, openers, side_stream

from mlzsl.cli.errors import reason_of
from mlzsl.cli.progress import log, progress
from mlzsl.engines.artifact.modelfile import Images, read_manifest
from mlzsl.engines.engine import Engine, available_cpus
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tensorrt.engine import IN_FLIGHT, open_plan
from mlzsl.imaging.finding import find_images
from mlzsl.runtime import Tagger
from mlzsl.runtime.bench.load import MIN_BATCHES, Load, measure_loads, random_images
from mlzsl.runtime.bench.statistics import spread

WARM_UP = 3 * IN_FLIGHT  # each slot of a plan captures its graph on the second batch of a size
WINDOW = 10.0  # seconds over which the GPU is watched


def numbers(context: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    """Read "1,8,32"."""
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,8,32.") from error


DEVICE = click.option("--device", default="cuda", type=click.Choice(["cuda", "cpu"]))
BATCHES = click.option("--batches", default="1,8,32,128", callback=numbers, help="Pictures a batch, each measured.")
REPEATS = click.option("--repeats", default=5, help="Turns.")
SECONDS = click.option("--seconds", default=1.0, help="How long a turn of each way lasts, about.")
STEM = click.argument("stem", type=click.Path(path_type=Path))


@click.group()
def main() -> None:
    """The measurements of gpu.sh."""


def measured_network(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments of a command that measures one network's files."""
    for add in (SECONDS, REPEATS, BATCHES, DEVICE, STEM):
        function = add(function)
    return function


@main.command()
@measured_network
def throughput(stem: Path, device: str, batches: tuple[int, ...], repeats: int, seconds: float) -> None:
    """Photos a second of each way and batch size, copies to and from the device included and not, in turns."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # the fp32 scores that the others are held against
    files, threads = Files(stem), available_cpus()
    size = read_manifest(files.model("fp32")).image_size
    absent: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    with side_stream(device), contextlib.ExitStack() as stack:
        scorer = fp32_scorer(files, device, threads)
        right = {
            batch: scorer(torch.from_numpy(random_images(batch, size)).to(device)).cpu().numpy() for batch in batches
        }
        del scorer
        ways = []
        for name, opener in openers(files, device, threads).items():
            log(f"opening {name}")
            with listed(absent, name):
                ways.append(opener(stack))
        for batch in sorted(batches):
            found += in_turns(ways, random_images(batch, size), right[batch], device, repeats, seconds, absent)
    as_json(
        {
            "network": stem.name,
            "device": device,
            "repeats": repeats,
            "scores_range": float(np.ptp(right[max(batches)])),
            "ways": found,
            "absent": absent,
        }
    )


def in_turns(
    ways: Sequence[Way],
    images: Images,
    right: np.ndarray,
    device: str,
    repeats: int,
    seconds: float,
    absent: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Both rates of each way, one a round, on batches of one size; what fails is listed as absent."""
    pictures = torch.from_numpy(images).to(device)
    jobs: list[tuple[Way, Resident, float, int, int]] = []
    for way in ways:
        log(f"warming up {way.name}, batch {len(images)}")
        with listed(absent, way.name, len(images)):
            way.copied(images, WARM_UP)
            resident = way.resident(pictures)
            resident_seconds(resident, WARM_UP, device)
            # The last run is held against what is right on both ways: a wrong result must not pass for a fast one.
            on_device = resident.run().float().cpu().numpy()
            differs = float(max(np.abs(way.scores(images) - right).max(), np.abs(on_device - right).max()))
            copies = repetitions(copied_seconds(way, images, MIN_BATCHES) / MIN_BATCHES, seconds)
            stays = repetitions(resident_seconds(resident, MIN_BATCHES, device) / MIN_BATCHES, seconds)
            jobs.append((way, resident, differs, copies, stays))
    rates: dict[str, dict[str, list[float]]] = {way.name: {"copied": [], "resident": []} for way, *_ in jobs}
    with progress(f"batch {len(images)}", repeats * len(jobs), "turns") as bar:
        for _ in range(repeats):
            for way, resident, _, copies, stays in jobs:
                taken = rates[way.name]
                taken["copied"].append(len(images) * copies / copied_seconds(way, images, copies))
                taken["resident"].append(len(images) * stays / resident_seconds(resident, stays, device))
                bar.advance(note=way.name)
    jobs_done = [
        {"way": way.name, "batch": len(images), "differs": differs, **rates[way.name]} for way, _, differs, *_ in jobs
    ]
    jobs.clear()
    gc.collect()  # contexts, graphs and their memory
    if device == "cuda":
        torch.cuda.empty_cache()  # which the libraries beside PyTorch cannot use
    return jobs_done


def copied_seconds(way: Way, images: Images, count: int) -> float:
    """From host memory to host memory, so many batches."""
    started = time.perf_counter()
    way.copied(images, count)
    return time.perf_counter() - started


def resident_seconds(resident: Resident, count: int, device: str) -> float:
    """On the device, so many batches; by CUDA's own events where there is a GPU."""
    if device == "cpu":
        started = time.perf_counter()
        for _ in range(count):
            resident.run()
        return time.perf_counter() - started
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(count):
        resident.run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def repetitions(each: float, seconds: float) -> int:
    """Batches of a turn."""
    return max(MIN_BATCHES, math.ceil(seconds / each))


@contextlib.contextmanager
def listed(absent: list[dict[str, Any]], name: str, batch: int | None = None) -> Iterator[None]:
    """Let one way fail, whatever its library raises, without ending the others."""
    try:
        yield
    except Exception as error:
        absent.append({"way": name, "batch": batch, "reason": reason_of(error)})
        log(f"{name} does not run: {reason_of(error)}")


@main.command()
@measured_network
def ablation(stem: Path, device: str, batches: tuple[int, ...], repeats: int, seconds: float) -> None:
    """Each plan with CUDA graphs and without, 1 to 3 batches in flight; on a CPU, ONNX Runtime's fp32 engine."""
    files, found = Files(stem), []
    absent: list[dict[str, Any]] = []
    for precision in PRECISIONS if device == "cuda" else ("fp32",):
        with listed(absent, precision), contextlib.ExitStack() as stack:
            engines = ablation_engines(files, precision, device)
            for engine in engines.values():
                stack.callback(engine.close)
            found += ablate(engines, precision, batches, repeats, seconds)
    as_json({"network": stem.name, "device": device, "repeats": repeats, "loads": found, "absent": absent})


def ablation_engines(files: Files, precision: str, device: str) -> dict[str, Engine]:
    """By what the record calls it."""
    if device == "cpu":
        return {"no": open_engine(files.model(precision), "cpu", "onnxruntime")}
    plan = files.plan(precision)
    return {name: open_plan(plan, graphs=graphs) for name, graphs in (("yes", True), ("no", False))}


def ablate(
    engines: dict[str, Engine], precision: str, batches: Sequence[int], repeats: int, seconds: float
) -> list[dict[str, Any]]:
    """Every engine under every load, the engines in turns; the first turn only warms up."""
    most = min(engine.in_flight for engine in engines.values())
    loads = [Load(batch, count) for batch in batches for count in range(1, min(most, IN_FLIGHT) + 1)]
    rates: dict[tuple[str, Load], list[float]] = {(name, load): [] for name in engines for load in loads}
    latencies: dict[tuple[str, Load], list[float]] = {key: [] for key in rates}
    for name, engine in engines.items():
        log(f"warming up {precision}, CUDA graphs: {name}")
        warm_up(engine, batches)
    with progress(f"ablation of {precision}", repeats * len(engines), "turns") as bar:
        for _ in range(repeats):
            for name, engine in engines.items():
                for measured in measure_loads(engine, loads, 1, seconds, quiet=True):
                    rates[name, measured.load].append(measured.photos_per_second.median)
                    latencies[name, measured.load].append(measured.latency.p50)
                bar.advance(note=f"CUDA graphs: {name}")
    return [
        {
            "precision": precision,
            "graphs": name,
            "batch": load.batch_size,
            "in_flight": load.in_flight,
            "photos_per_second": rates[name, load],
            "p50_seconds": latencies[name, load],
        }
        for name, load in rates
    ]


def warm_up(engine: Engine, batches: Sequence[int]) -> None:
    """Let every slot capture its graphs."""
    for batch in batches:
        images = random_images(batch, engine.manifest.image_size)
        for _ in engine.run([images] * WARM_UP):
            pass


@main.command()
@click.argument("engine", type=click.Path(path_type=Path))
@DEVICE
@click.option("--photos", required=True)
@click.option("--batch", default=32)
@click.option("--count", default=2048)
def busy(engine: Path, device: str, photos: str, batch: int, count: int) -> None:
    """How busy the GPU is, as the driver counts it, while photos on disk become tags."""
    paths = list(islice(find_images([photos]), count))
    backend = "onnxruntime" if device == "cpu" else None  # a CPU rehearses every precision there
    with Tagger.open(engine, device, backend, batch_size=batch) as tagger:
        tag_for(tagger, paths, 0)  # warms up, and brings the files into memory
        with watched_gpu() as samples:
            rate = tag_for(tagger, paths, WINDOW if device == "cuda" else 0)
    as_json(
        {
            "engine": engine.name,
            "photos_per_second": rate,
            "gpu_busy_percent": asdict(spread(samples)) if samples else None,
            "samples": len(samples),
        }
    )


def tag_for(tagger: Tagger, paths: Sequence[str], seconds: float) -> float:
    """Tag the photos again and again, once at least; photos a second."""
    started, tagged = time.perf_counter(), 0
    while not tagged or time.perf_counter() - started < seconds:
        for _ in tagger.tag(paths):
            tagged += 1
    return tagged / (time.perf_counter() - started)


@contextlib.contextmanager
def watched_gpu() -> Iterator[list[float]]:
    """Percent of the time in which a kernel ran, asked of nvidia-smi again and again; nothing where there is none."""
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            told = asked_of_nvidia("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", gpu_index())
            if told.isdigit():
                samples.append(float(told))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()

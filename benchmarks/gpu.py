"""How fast is a network on a GPU by precision and batch size, compared with PyTorch and ONNX Runtime?

Each command prints its measurements as JSON; gpu.sh runs all of them and gpu_record.py writes the record.
`--device cpu` measures what a CPU has: no plans, no CUDA graphs, bfloat16 instead of float16.

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
from gpu_runners import PRECISIONS, DeviceBatch, Files, Runner, fp32_scorer, openers, side_stream

from mlzsl.cli.errors import reason_of
from mlzsl.cli.progress import log, progress
from mlzsl.engines.artifact.modelfile import Images, read_manifest
from mlzsl.engines.engine import Engine, available_cpus
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tensorrt.engine import IN_FLIGHT, open_plan
from mlzsl.imaging.finding import find_images
from mlzsl.runtime import Tagger
from mlzsl.runtime.bench.load import MIN_BATCHES, Load, measure_loads, random_images, spread

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
    """Photos a second of each runner and batch size, with and without transfers, the runners interleaved."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # the fp32 scores that the others are compared with
    files, threads = Files(stem), available_cpus()
    size = read_manifest(files.model("fp32")).image_size
    skipped: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    with side_stream(device), contextlib.ExitStack() as stack:
        scorer = fp32_scorer(files, device, threads)
        right = {
            batch: scorer(torch.from_numpy(random_images(batch, size)).to(device)).cpu().numpy() for batch in batches
        }
        del scorer
        runners = []
        for name, opener in openers(files, device, threads).items():
            log(f"opening {name}")
            with listed(skipped, name):
                runners.append(opener(stack))
        for batch in sorted(batches):
            found += interleaved(runners, random_images(batch, size), right[batch], device, repeats, seconds, skipped)
    as_json(
        {
            "network": stem.name,
            "device": device,
            "repeats": repeats,
            "scores_range": float(np.ptp(right[max(batches)])),
            "runners": found,
            "skipped": skipped,
        }
    )


def interleaved(
    runners: Sequence[Runner],
    images: Images,
    right: np.ndarray,
    device: str,
    repeats: int,
    seconds: float,
    skipped: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Both rates of each runner, one a repeat, on batches of one size; what fails is listed as skipped."""
    device_images = torch.from_numpy(images).to(device)
    jobs: list[tuple[Runner, DeviceBatch, float, int, int]] = []
    for runner in runners:
        log(f"warming up {runner.name}, batch {len(images)}")
        with listed(skipped, runner.name, len(images)):
            runner.with_transfers(images, WARM_UP)
            on_device = runner.on_device(device_images)
            device_seconds(on_device, WARM_UP, device)
            # Both results are compared with the reference: a wrong result must not pass for a fast one.
            device_scores = on_device.run().float().cpu().numpy()
            differs = float(max(np.abs(runner.scores(images) - right).max(), np.abs(device_scores - right).max()))
            copies = repetitions(transfer_seconds(runner, images, MIN_BATCHES) / MIN_BATCHES, seconds)
            stays = repetitions(device_seconds(on_device, MIN_BATCHES, device) / MIN_BATCHES, seconds)
            jobs.append((runner, on_device, differs, copies, stays))
    rates: dict[str, dict[str, list[float]]] = {
        runner.name: {"with_transfers": [], "without_transfers": []} for runner, *_ in jobs
    }
    with progress(f"batch {len(images)}", repeats * len(jobs), "repeats") as bar:
        for _ in range(repeats):
            for runner, on_device, _, copies, stays in jobs:
                taken = rates[runner.name]
                taken["with_transfers"].append(len(images) * copies / transfer_seconds(runner, images, copies))
                taken["without_transfers"].append(len(images) * stays / device_seconds(on_device, stays, device))
                bar.advance(note=runner.name)
    jobs_done = [
        {"runner": runner.name, "batch": len(images), "differs": differs, **rates[runner.name]}
        for runner, _, differs, *_ in jobs
    ]
    jobs.clear()
    gc.collect()  # contexts, graphs and their memory
    if device == "cuda":
        torch.cuda.empty_cache()  # which the libraries beside PyTorch cannot use
    return jobs_done


def transfer_seconds(runner: Runner, images: Images, count: int) -> float:
    """Seconds for so many batches from host memory to host memory."""
    started = time.perf_counter()
    runner.with_transfers(images, count)
    return time.perf_counter() - started


def device_seconds(on_device: DeviceBatch, count: int, device: str) -> float:
    """Seconds for so many batches on the device; by CUDA events where there is a GPU."""
    if device == "cpu":
        started = time.perf_counter()
        for _ in range(count):
            on_device.run()
        return time.perf_counter() - started
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(count):
        on_device.run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def repetitions(each: float, seconds: float) -> int:
    """Batches of a repeat."""
    return max(MIN_BATCHES, math.ceil(seconds / each))


@contextlib.contextmanager
def listed(skipped: list[dict[str, Any]], name: str, batch: int | None = None) -> Iterator[None]:
    """Let one runner fail, whatever its library raises, without ending the others."""
    try:
        yield
    except Exception as error:
        skipped.append({"runner": name, "batch": batch, "reason": reason_of(error)})
        log(f"{name} does not run: {reason_of(error)}")


@main.command()
@measured_network
def ablation(stem: Path, device: str, batches: tuple[int, ...], repeats: int, seconds: float) -> None:
    """Each plan with CUDA graphs and without, 1 to 3 batches in flight; on a CPU, ONNX Runtime's fp32 engine."""
    files, found = Files(stem), []
    skipped: list[dict[str, Any]] = []
    for precision in PRECISIONS if device == "cuda" else ("fp32",):
        with listed(skipped, precision), contextlib.ExitStack() as stack:
            engines = ablation_engines(files, precision, device)
            for engine in engines.values():
                stack.callback(engine.close)
            found += ablate(engines, precision, batches, repeats, seconds)
    as_json({"network": stem.name, "device": device, "repeats": repeats, "loads": found, "skipped": skipped})


def ablation_engines(files: Files, precision: str, device: str) -> dict[str, Engine]:
    """The engines by their name in the record."""
    if device == "cpu":
        return {"no": open_engine(files.model(precision), "cpu", "onnxruntime")}
    plan = files.plan(precision)
    return {name: open_plan(plan, graphs=graphs) for name, graphs in (("yes", True), ("no", False))}


def ablate(
    engines: dict[str, Engine], precision: str, batches: Sequence[int], repeats: int, seconds: float
) -> list[dict[str, Any]]:
    """Every engine under every load, the engines interleaved; a first repeat only warms up."""
    most = min(engine.in_flight for engine in engines.values())
    loads = [Load(batch, count) for batch in batches for count in range(1, min(most, IN_FLIGHT) + 1)]
    rates: dict[tuple[str, Load], list[float]] = {(name, load): [] for name in engines for load in loads}
    latencies: dict[tuple[str, Load], list[float]] = {key: [] for key in rates}
    for name, engine in engines.items():
        log(f"warming up {precision}, CUDA graphs: {name}")
        warm_up(engine, batches)
    with progress(f"ablation of {precision}", repeats * len(engines), "repeats") as bar:
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
    """GPU utilization, as the driver reports it, while photos on disk are tagged."""
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
    """Percent of the time in which a kernel ran, polled from nvidia-smi; empty without it."""
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            answer = asked_of_nvidia("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", gpu_index())
            if answer.isdigit():
                samples.append(float(answer))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        done.set()
        watcher.join()


if __name__ == "__main__":
    main()

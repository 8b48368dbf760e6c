"""Compares mlzsl with baselines written without it: the same photos and weights, interleaved, in one run.

The baselines decode with Pillow at full size and use the library's default settings. PyTorch is imported only if a
checkpoint is named.
"""

import collections
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.optional import import_optional
from mlzsl.cli.progress import progress
from mlzsl.cli.text import none_readable
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores, read_manifest
from mlzsl.engines.artifact.plan_manifest import SUFFIX, read_plan_manifest
from mlzsl.engines.engine import available_cpus, failing_as
from mlzsl.engines.openvino import shared_core
from mlzsl.runtime.bench.benchmark import check_models
from mlzsl.runtime.bench.load import Clock, Spread, ratios, spread
from mlzsl.runtime.report import rate, table
from mlzsl.runtime.tagging.pipeline import ReadableBatches
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.verify.reference import check_checkpoint

PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
REFERENCES = ("PyTorch eager fp32, DataLoader", "ONNX Runtime fp32, Pillow")  # the first that runs is the reference


@dataclass(frozen=True)
class Baseline:
    """One way from photos to scores.

    Attributes:
        name: for the report.
        tag: scores image files, from reading them on; keeps nothing.
        scores: uint8 [n, S, S, 3] -> float32 [n, L].
    """

    name: str
    tag: Callable[[Sequence[str]], None]
    scores: Callable[[Images], Scores]


@dataclass(frozen=True)
class Skipped:
    """A baseline that does not run here, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What the baselines run, and on what.

    Attributes:
        models: model files for mlzsl; everything else is compared with the first.
        checkpoint: that the first was exported from; None leaves PyTorch out.
        embeddings: where the training's embeddings are now; None for where they were.
        batch_size: photos per batch, for all.
        device: "cpu" or "cuda".
        backend, precision, threads: of mlzsl, as `open_engine` takes them. `precision` applies to fp32 files; the
            others run the precision that they state. All baselines use the same number of threads.
    """

    models: tuple[Path, ...]
    checkpoint: Path | None
    embeddings: str | None
    batch_size: int
    device: str = "cpu"
    backend: str | None = None
    precision: str | None = None
    threads: int | None = None

    def check_files(self) -> None:
        """Refuse, before photos are decoded, files that cannot be compared.

        Raises:
            UsageError: a model or the checkpoint is missing, or the checkpoint is not the first model's.
        """
        check_models(self.models)
        if self.checkpoint is not None:
            if not self.checkpoint.is_file():
                raise UsageError(f"--checkpoint {self.checkpoint}: no such file; name a checkpoint of mlzsl-train.")
            check_checkpoint("--checkpoint", self.checkpoint, self.models[0], first_manifest(self))


def open_baselines(comparison: Comparison) -> tuple[list[Baseline], list[Skipped]]:
    """Open every baseline that runs here, the first model in mlzsl first.

    Raises:
        UsageError: the first model does not run, or as `Comparison.check_files`.
    """
    comparison.check_files()
    baselines, skipped = [_mlzsl(comparison, comparison.models[0])], []
    openers: list[tuple[str, Callable[[], Baseline]]] = [
        *((f"mlzsl {model.name}", lambda model=model: _mlzsl(comparison, model)) for model in comparison.models[1:]),
        *((name, lambda name=name, opener=opener: opener(name, comparison)) for name, opener in OTHERS.items()),
    ]
    for name, opener in openers:
        try:
            baselines.append(opener())
        except UsageError as error:
            skipped.append(Skipped(name, str(error)))
    if not any(model.suffix.lower() == SUFFIX for model in comparison.models):
        reason = f"no {SUFFIX} is named; make one with `mlzsl-build {comparison.models[0]}`."
        skipped.append(Skipped("TensorRT", reason))
    return baselines, skipped


def first_manifest(comparison: Comparison) -> Manifest:
    """The manifest of the first model."""
    model = comparison.models[0]
    return read_plan_manifest(model).model if model.suffix.lower() == SUFFIX else read_manifest(model)


@dataclass(frozen=True)
class BaselineResult:
    """How one baseline performed.

    Attributes:
        name: of the baseline.
        photos_per_second: from files to scores.
        speedup: the first baseline's rate over this one's, within each repeat.
        difference: largest difference of a score from the reference, on the same decoded images.
    """

    name: str
    photos_per_second: Spread
    speedup: Spread
    difference: float


@dataclass(frozen=True)
class ComparisonResult:
    """A whole comparison.

    Attributes:
        photos: how many in each repeat.
        batch_size: photos per batch.
        repeats: measurements of each baseline.
        reference: the baseline whose scores the others' are compared with.
        baselines: the results, in order.
        skipped: what did not run, and why.
    """

    photos: int
    batch_size: int
    repeats: int
    reference: str
    baselines: tuple[BaselineResult, ...]
    skipped: tuple[Skipped, ...]


def compare_on_photos(
    comparison: Comparison, paths: Sequence[str], repeats: int, quiet: bool = False
) -> ComparisonResult:
    """Open every baseline that runs here and compare them on photos; unreadable ones are left out.

    Raises:
        UsageError: as `open_baselines`.
        FailureError: not one photo can be read.
    """
    baselines, skipped = open_baselines(comparison)
    batches = ReadableBatches(paths, first_manifest(comparison), comparison.batch_size, comparison.threads)
    first = next(images := batches.images(), None)
    if first is None:
        raise FailureError(f"{none_readable(len(paths), batches.first_error)}; nothing was compared.")
    collections.deque(images, maxlen=0)  # find the unreadable photos in the rest
    return compare(baselines, skipped, batches.readable(paths), first, comparison.batch_size, repeats, quiet)


def compare(
    baselines: Sequence[Baseline],
    skipped: Sequence[Skipped],
    paths: Sequence[str],
    images: Images,
    batch_size: int,
    repeats: int,
    quiet: bool = False,
    clock: Clock = time.perf_counter,
) -> ComparisonResult:
    """Run every baseline on all photos, `repeats` times, interleaved, after a warm-up of each.

    Args:
        baselines: at least one; the others are compared with the first.
        skipped: what does not run.
        paths: readable image files, at least one.
        images: some of them decoded, uint8 [n, S, S, 3].
        batch_size: photos per batch of the baselines.
        repeats: measurements of each.
        quiet: show no progress.
        clock: returns seconds, from any start.
    """
    warm_up = list(paths[: batch_size + len(paths) % batch_size])  # both sizes of batches
    rates: list[list[float]] = [[] for _ in baselines]
    with progress("comparing", (repeats + 1) * len(baselines), "runs", quiet) as bar:
        for repeat in range(repeats + 1):
            for baseline, measured in zip(baselines, rates, strict=True):
                start = clock()
                with failing_as(baseline.name, (OSError,), "leave out photos that Pillow alone cannot read"):
                    baseline.tag(paths if repeat else warm_up)
                if repeat:
                    measured.append(len(paths) / (clock() - start))
                bar.advance(note=baseline.name)
    reference = next((found for name in REFERENCES for found in baselines if found.name == name), baselines[0])
    expected = reference.scores(images)
    results = tuple(
        BaselineResult(
            baseline.name,
            spread(measured),
            ratios(rates[0], measured),
            float(np.abs(baseline.scores(images) - expected).max()),
        )
        for baseline, measured in zip(baselines, rates, strict=True)
    )
    return ComparisonResult(len(paths), batch_size, repeats, reference.name, results, tuple(skipped))


def report_comparison(result: ComparisonResult, targets: dict[str, float] | None = None) -> Iterator[Table | str]:
    """A row for each baseline, and why others did not run; `targets` are the intended speed-ups by baseline."""
    photos = f"{result.photos:,} photos in batches of {result.batch_size}"
    yield f"From files to scores: {photos}, median of {result.repeats} interleaved repeats"
    rows = (
        (
            found.name,
            rate(found.photos_per_second.median),
            f"{found.speedup.median:.2f}",
            f"{found.speedup.low:.2f}–{found.speedup.high:.2f}",
            "" if found.name == result.reference else f"{found.difference:.0e}",
            *([f"≥ {targets[found.name]:g}"] if targets and found.name in targets else []),
        )
        for found in result.baselines
    )
    yield table(("", "photos/s", "speed-up", "range", "difference", *(["target"] if targets else [])), rows)
    yield f"speed-up: rate of the first over this one's; difference: largest of a score from {result.reference}"
    yield from (f"skipped: {skipped.name}: {skipped.reason}" for skipped in result.skipped)


# ---- baselines ------------------------------------------------------------------------------------------------------


def _mlzsl(comparison: Comparison, model: Path) -> Baseline:
    """The whole pipeline, tags included."""
    stated = model.suffix.lower() != ".onnx" or read_manifest(model).precision != "fp32"
    tagger = Tagger.open(
        model,
        comparison.device,
        comparison.backend,
        None if stated else comparison.precision,
        batch_size=comparison.batch_size,
        threads=comparison.threads,
    )

    def tag(paths: Sequence[str]) -> None:
        for _ in tagger.tag(paths):
            pass

    execution = tagger.execution
    return Baseline(f"mlzsl {model.name}, {execution.backend} {execution.precision}", tag, tagger.engine.scores)


def _fp32_file(comparison: Comparison) -> Path:
    for model in comparison.models:
        if model.suffix.lower() == ".onnx" and read_manifest(model).precision == "fp32":
            return model
    raise UsageError("no fp32 .onnx file is named; add the one that the others were made from.")


def _onnxruntime(name: str, comparison: Comparison) -> Baseline:
    """The fp32 file in ONNX Runtime, one batch at a time."""
    model = _fp32_file(comparison)
    extra = "gpu" if comparison.device == "cuda" else "cpu"
    onnxruntime = import_optional("onnxruntime", f"onnxruntime is not installed; run `pip install 'mlzsl[{extra}]'`.")
    if PROVIDER[comparison.device] not in onnxruntime.get_available_providers():
        raise UsageError(f"the installed onnxruntime has no {PROVIDER[comparison.device]}; install the extra gpu.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = comparison.threads or available_cpus()
    session = onnxruntime.InferenceSession(str(model), options, providers=[PROVIDER[comparison.device]])
    return _plain(name, comparison, model, lambda images: session.run(["scores"], {"images": images})[0])


def _openvino(name: str, comparison: Comparison) -> Baseline:
    """The fp32 file in OpenVINO, one batch at a time, all cores on each."""
    if comparison.device != "cpu":
        raise UsageError("runs on the CPU only, found --device cuda.")
    model = _fp32_file(comparison)
    core = shared_core(import_optional("openvino", "openvino is not installed; run `pip install 'mlzsl[cpu]'`."))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(comparison.threads or available_cpus()),
    }
    compiled = core.compile_model(str(model), "CPU", settings)
    return _plain(name, comparison, model, lambda images: np.array(compiled([images])[0]))


def _pytorch(name: str, opener: str, comparison: Comparison) -> Baseline:
    if comparison.checkpoint is None:
        raise UsageError(f"no checkpoint is named; name that of {comparison.models[0]} with --checkpoint.")
    missing = "the extra train is not installed or lacks a package; run `pip install 'mlzsl[train]'`."
    baseline = import_optional("mlzsl.export.baseline", missing)
    manifest = first_manifest(comparison)
    opened = getattr(baseline, opener)(
        comparison.checkpoint,
        manifest,
        comparison.embeddings,
        comparison.device,
        comparison.batch_size,
        comparison.threads or available_cpus(),
    )
    return Baseline(name, opened.tag, opened.scores)


OTHERS: dict[str, Callable[[str, Comparison], Baseline]] = {
    "PyTorch eager fp32, DataLoader": lambda name, comparison: _pytorch(name, "open_eager", comparison),
    "torch.compile bf16, DataLoader": lambda name, comparison: _pytorch(name, "open_compiled", comparison),
    "ONNX Runtime fp32, Pillow": _onnxruntime,
    "OpenVINO fp32, Pillow": _openvino,
}


def _plain(name: str, comparison: Comparison, model: Path, scores: Callable[[Images], Scores]) -> Baseline:
    """A plain loop: decode a batch with Pillow, run it."""
    size = read_manifest(model).image_size

    def tag(paths: Sequence[str]) -> None:
        for start in range(0, len(paths), comparison.batch_size):
            scores(np.stack([_decoded(path, size) for path in paths[start : start + comparison.batch_size]]))

    return Baseline(name, tag, scores)


def _decoded(path: str, size: int) -> Images:
    """A photo decoded at full size, then squashed: uint8 [S, S, 3]."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))

"""fp32 model file + photos -> a model file of another precision, with what it costs."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from mlzsl.calibration.conversion import behind_weights, body_of, lowered, lowered_layers
from mlzsl.calibration.drop import Drop
from mlzsl.calibration.gauge import Gauge
from mlzsl.calibration.network import Network, load_network
from mlzsl.calibration.photos import Sample, sample_photos
from mlzsl.calibration.qdq import PLACEMENTS, layers_of, points_of, quantized
from mlzsl.calibration.ranges import collect_ranges
from mlzsl.calibration.record import SUFFIX, Record, check_record, read_record, write_record
from mlzsl.calibration.rounding import Steps
from mlzsl.calibration.sensitivity import Limits, Sensitivity, Step, climb, rank_layers, take_step
from mlzsl.calibration.settings import QUANTIZED, Settings, check_settings, default_output
from mlzsl.calibration.weights import rounded_weights
from mlzsl.calibration.writing import write_calibrated
from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_manifest


@dataclass(frozen=True)
class Calibrated:
    """What a calibration made.

    Attributes:
        path: the model file.
        manifest: as written into it.
        record: the calibration record beside it, None for fp16 and bf16.
        layers: how many layers can be quantized.
        ladder: what was tried, the last step is what was written; empty where nothing could be measured.
        ranked: the layers, the one to keep first in front, where they had to be ranked.
        drop: of what was written, None where nothing could be measured.
        seconds: it took.
    """

    path: Path
    manifest: Manifest
    record: Path | None
    layers: int
    ladder: tuple[Step, ...]
    ranked: tuple[Sensitivity, ...]
    drop: Drop | None
    seconds: float

    def to_json(self) -> dict[str, object]:
        """What was made, for machines."""
        return {
            "model": str(self.path),
            "precision": self.manifest.precision,
            "quantized_for": self.manifest.quantized_for,
            "record": None if self.record is None else str(self.record),
            "layers": self.layers,
            "ladder": [step.to_json() for step in self.ladder],
            "ranked": [asdict(entry) for entry in self.ranked],
            "drop": None if self.drop is None else self.drop.to_json(),
            "seconds": round(self.seconds, 2),
        }


def calibrate(
    model: Path,
    photos: Sequence[str],
    settings: Settings,
    output: Path | None = None,
    check: str | None = None,
    record: Path | None = None,
    quiet: bool = False,
) -> Calibrated:
    """Write an fp32 model file in another precision.

    Labels, preprocessing and golden sample stay: whoever runs the file can hold it against the PyTorch reference.

    Args:
        model: an fp32 file that `mlzsl-export` wrote.
        photos: files, folders or patterns; INT8 and FP8 need them, or a record.
        settings: what to do.
        output: where to; None for `default_output`.
        check: photos to measure the drop on; None takes those of `photos` that do not calibrate.
        record: ranges of an earlier calibration of the same model to use again.
        quiet: say nothing.

    Raises:
        UsageError: the model is not fp32, the photos or the record are unfit, or settings contradict each other.
        FailureError: the network does not stand the precision, or the limits cannot be kept.
    """
    started = time.perf_counter()
    manifest = read_manifest(model)
    output = output or default_output(model, settings)
    check_settings(model, manifest, output, photos, settings, check, record)
    network = load_network(model)
    sample = None
    if photos:
        count = settings.count if settings.precision in QUANTIZED else 0
        sample = sample_photos(
            photos, check, manifest, count, settings.check_count, settings.seed, settings.threads, quiet
        )
    job = _Job(model, manifest, network, sample, settings, output, record, quiet)
    made = _quantize(job) if settings.precision in QUANTIZED else _halve(job)
    written = write_calibrated(output, made.network, model, settings, made.sources)
    seconds = time.perf_counter() - started
    return Calibrated(output, written, made.record, made.layers, made.ladder, made.ranked, made.drop, seconds)


@dataclass(frozen=True)
class _Job:
    """The arguments of `calibrate`, read; `sample` is None where there are no photos."""

    model: Path
    manifest: Manifest
    network: Network
    sample: Sample | None
    settings: Settings
    output: Path
    record: Path | None
    quiet: bool


@dataclass(frozen=True)
class _Made:
    """A network, and what `Calibrated` and its manifest say of it."""

    network: onnx.ModelProto
    drop: Drop | None
    sources: dict[str, str]
    record: Path | None = None
    layers: int = 0
    ladder: tuple[Step, ...] = ()
    ranked: tuple[Sensitivity, ...] = ()


def _halve(job: _Job) -> _Made:
    network, settings = job.network, job.settings
    # bf16's 8 bits would tie many scores of the head, which is small: it stays in fp32.
    nodes = body_of(network) if settings.precision == "bf16" else behind_weights(network)
    made = lowered(network, settings.precision, nodes)
    if job.sample is None:
        return _Made(made, None, {})
    gauge = Gauge.of(network, job.model, job.sample.check, settings, job.quiet)
    return _Made(made, gauge.drop(made), {})


def _quantize(job: _Job) -> _Made:
    network, settings, sample = job.network, job.settings, job.sample
    layers = layers_of(network)
    if not layers:
        raise UsageError(f"{job.model}: has no convolution that could be quantized; use --precision fp16.")
    assert settings.quantized_for is not None
    placement = PLACEMENTS[settings.precision, settings.quantized_for]
    found = _ranges(job, layers)

    weights: dict[str, Steps] = {}
    if sample is not None:
        photos = sample.calibration
        weights = rounded_weights(network, layers, found.ranges, placement, photos, settings.threads, job.quiet)

    def alone(chosen: Sequence[str]) -> onnx.ModelProto:
        return quantized(network, chosen, found.ranges, placement, weights)

    def quantize(chosen: Sequence[str]) -> onnx.ModelProto:
        made, kept = alone(chosen), set(layers) - set(chosen)
        return lowered_layers(Network(made), kept, placement.kept) if kept and placement.kept else made

    steps: list[Step] = []
    ranked: list[Sensitivity] = []
    if sample is not None:
        gauge = Gauge.of(network, job.model, sample.check, settings, job.quiet)
        limits = Limits(settings.max_drop, settings.min_agreement)
        steps.append(take_step(network, layers, (), quantize, gauge.drop))
        if not limits.kept_by(steps[0].drop):
            ranked = rank_layers(network, layers, alone, sample.calibration, settings.threads, job.quiet)
            climb(network, ranked, quantize, gauge.drop, limits, steps, placement.kept is not None)
    kept = steps[-1].kept if steps else ()
    path = job.output.with_suffix(SUFFIX)
    write_record(path, found)
    return _Made(
        quantize([layer for layer in layers if layer not in kept]),
        steps[-1].drop if steps else None,
        {"calibration": sha256_of_file(path)},
        path,
        len(layers),
        tuple(steps),
        tuple(ranked),
    )


def _ranges(job: _Job, layers: Sequence[str]) -> Record:
    """The ranges of every tensor that any placement stands pairs on: an earlier record's, or new ones."""
    network, settings = job.network, job.settings
    tensors = sorted({
        source for placement in PLACEMENTS.values() for source in points_of(network, layers, placement).values()
    })  # fmt: skip
    if job.record is not None:
        found = read_record(job.record)
        asked: dict[str, object] = {"method": settings.method}
        if job.sample is not None:
            asked |= {"photos": len(job.sample.calibration), "data_sha256": job.sample.calibration.sha256()}
        check_record(job.record, found, job.model, job.manifest, asked, tensors)
        return found
    assert job.sample is not None
    photos = job.sample.calibration
    runs = len(photos) * (1 if settings.method == "minmax" else 2)
    with progress("calibrating", runs, "photos", job.quiet) as bar:
        ranges = collect_ranges(network, tensors, settings.method, photos.batches, bar, settings.threads)
    return Record(
        model_sha256=job.manifest.network_sha256,
        preprocessing=job.manifest.preprocessing,
        method=settings.method,
        photos=len(photos),
        seed=settings.seed,
        data_sha256=photos.sha256(),
        ranges=ranges,
    )

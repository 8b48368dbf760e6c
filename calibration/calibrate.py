"""Calibration from start to end: an fp32 model file and photos in, a model file of another precision out."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx

from mlzsl.calibration.accuracy import AccuracyDrop, Evaluator
from mlzsl.calibration.conversion import (
    backbone_nodes,
    convert_layers,
    convert_precision,
    nodes_from_first_weights,
)
from mlzsl.calibration.mixed_precision import (
    Candidate,
    LayerSensitivity,
    quantized_share,
    rank_layers,
    search_mixed_precision,
)
from mlzsl.calibration.network import Network, load_network, write_network
from mlzsl.calibration.photos import Sample, sample_photos
from mlzsl.calibration.qdq import LARGEST, QDQ_SCHEMES, insert_qdq, layers_of, quantized_tensors, scaled_weights
from mlzsl.calibration.ranges import SUFFIX, Record, check_record, collect_ranges, read_record, write_record
from mlzsl.calibration.settings import QUANTIZED, Settings, check_settings, default_output
from mlzsl.calibration.weight_rounding import Floats, Rounded, gptq_weights
from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.cli.progress import progress
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_manifest


@dataclass(frozen=True)
class Calibrated:
    """The result of a calibration.

    Attributes:
        path: the model file.
        manifest: as written into it.
        seconds: duration.
        drop: accuracy drop of the file, None where nothing was measured.
        record: the calibration record beside it, None for fp16 and bf16.
        layers: number of layers that can be quantized.
        candidates: those that were measured, the last one is in the file; empty where nothing was measured.
        ranked: the layers by sensitivity, where they had to be ranked.
    """

    path: Path
    manifest: Manifest
    seconds: float
    accuracy_drop: AccuracyDrop | None
    record: Path | None = None
    layers: int = 0
    candidates: Sequence[Candidate] = ()
    ranked: Sequence[LayerSensitivity] = ()

    def to_json(self) -> dict[str, object]:
        """The result for `--json`."""
        return {
            "model": str(self.path),
            "precision": self.manifest.precision,
            "quantized_for": self.manifest.quantized_for,
            "record": None if self.record is None else str(self.record),
            "layers": self.layers,
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "ranked": [asdict(entry) for entry in self.ranked],
            "accuracy_drop": None if self.accuracy_drop is None else self.accuracy_drop.to_json(),
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

    Labels, preprocessing and golden sample stay, so that the file can be verified against the PyTorch reference.

    Args:
        model: an fp32 file that `mlzsl-export` wrote.
        photos: files, folders or patterns; INT8 and FP8 need them, or a record.
        settings: precision, backend and tolerances.
        output: the file to write; None for `default_output`.
        check: photos to measure the accuracy drop on; None takes those of `photos` that do not calibrate.
        record: record of an earlier calibration of the model, whose ranges are reused.
        quiet: show no progress.

    Raises:
        UsageError: the model is not fp32 or cannot be quantized, photos or record are not valid, or settings contradict
            each other.
        FailureError: values exceed the range of the precision, or the accuracy drop its limits.
    """
    started = time.perf_counter()
    manifest = read_manifest(model)
    output = output or default_output(model, settings)
    check_settings(model, manifest, output, photos, settings, check, record)
    network = load_network(model)
    if settings.precision in QUANTIZED:
        _check_quantizable(model, manifest, network, settings.precision)
    earlier = None if record is None else read_record(record)
    sample = None
    if photos:
        count = settings.count if settings.precision in QUANTIZED else 0
        sample = sample_photos(
            photos, check, manifest, count, settings.check_count, settings.seed, settings.threads, quiet
        )
    job = _Job(started, model, manifest, network, sample, settings, output, record, earlier, quiet)
    return _quantize(job) if settings.precision in QUANTIZED else _convert(job)


def _check_quantizable(model: Path, manifest: Manifest, network: Network, precision: str) -> None:
    """Refuse networks that INT8 and FP8 would spoil or leave as they are."""
    if any(node.op_type == "LayerNormalization" for node in network.nodes):
        raise UsageError(
            f"{model}: --precision {precision} quantizes convolutions that follow each other, and backbone "
            f"{manifest.backbone} has layer normalizations, as transformers and ConvNeXt do: a few channels of their "
            "activations are far larger than the rest, and one scale for all of them loses the rest; use --precision "
            "bf16 on CPUs, fp16 on GPUs."
        )
    if not layers_of(network):
        raise UsageError(f"{model}: has no convolution that could be quantized; use --precision fp16.")


@dataclass(frozen=True)
class _Job:
    """The arguments of `calibrate`, read; `sample` is None without photos, `earlier` without a record."""

    started: float
    model: Path
    manifest: Manifest
    network: Network
    sample: Sample | None
    settings: Settings
    output: Path
    record: Path | None
    earlier: Record | None
    quiet: bool

    def evaluator(self, sample: Sample) -> Evaluator:
        return Evaluator(self.network, self.model, sample.check, self.settings, self.quiet)

    def write(
        self, made: onnx.ModelProto, accuracy_drop: AccuracyDrop | None, record: Path | None = None
    ) -> Calibrated:
        sources = {} if record is None else {"calibration": sha256_of_file(record)}
        manifest = write_network(
            self.output, made, self.model, self.settings.precision, self.settings.quantized_for, sources
        )
        return Calibrated(self.output, manifest, time.perf_counter() - self.started, accuracy_drop, record)


def _convert(job: _Job) -> Calibrated:
    precision = job.settings.precision
    # The 8 significant bits of bf16 would tie many scores of the head, which is small: it stays in fp32.
    nodes = backbone_nodes(job.network) if precision == "bf16" else nodes_from_first_weights(job.network)
    made = convert_precision(job.network, precision, nodes)
    return job.write(made, None if job.sample is None else job.evaluator(job.sample).measure(made))


def _quantize(job: _Job) -> Calibrated:
    network, settings, sample = job.network, job.settings, job.sample
    layers = layers_of(network)
    assert settings.quantized_for is not None
    scheme = QDQ_SCHEMES[settings.precision, settings.quantized_for]
    found = _ranges(job, layers)

    def scaled(node: onnx.NodeProto) -> Floats:
        return scaled_weights(network, node, found.ranges[node.input[0]], scheme)[0]

    weights: dict[str, Rounded] = {}
    if sample is not None and scheme.integer_weights:
        weights = gptq_weights(
            network, layers, scaled, LARGEST[scheme.weights], sample.calibration, settings.threads, job.quiet
        )

    def quantize(chosen: Sequence[str]) -> onnx.ModelProto:
        return insert_qdq(network, chosen, found.ranges, scheme, weights)

    def mixed(kept: Sequence[str]) -> onnx.ModelProto:
        made = quantize([layer for layer in layers if layer not in kept])
        return convert_layers(Network(made), kept, scheme.unquantized) if kept and scheme.unquantized else made

    candidates: list[Candidate] = []
    ranked: list[LayerSensitivity] = []
    if sample is not None:
        evaluator = job.evaluator(sample)

        def evaluate(kept: tuple[str, ...]) -> Candidate:
            share = quantized_share(network, [layer for layer in layers if layer not in kept])
            return Candidate(kept, evaluator.measure(mixed(kept)), share, scheme.unquantized is not None)

        candidates = [evaluate(())]
        if not candidates[0].accuracy_drop.within(settings):
            ranked = rank_layers(network, layers, quantize, sample.calibration, settings.threads, job.quiet)
            candidates = search_mixed_precision(candidates[0], ranked, evaluate, settings)
    record = job.output.with_suffix(SUFFIX)
    write_record(record, found)
    kept, accuracy_drop = (candidates[-1].kept, candidates[-1].accuracy_drop) if candidates else ((), None)
    return replace(
        job.write(mixed(kept), accuracy_drop, record), layers=len(layers), candidates=candidates, ranked=ranked
    )


def _ranges(job: _Job, layers: Sequence[str]) -> Record:
    """The ranges of every tensor that any scheme quantizes: those of an earlier record, or new ones."""
    network, settings = job.network, job.settings
    tensors = sorted({
        source for scheme in QDQ_SCHEMES.values() for source in quantized_tensors(network, layers, scheme).values()
    })  # fmt: skip
    if job.record is not None and job.earlier is not None:
        asked: dict[str, object] = {"method": settings.method}
        if job.sample is not None:
            asked |= {"photos": len(job.sample.calibration), "data_sha256": job.sample.calibration.sha256()}
        check_record(job.record, job.earlier, job.model, job.manifest, asked, tensors)
        return job.earlier
    assert job.sample is not None
    photos = job.sample.calibration
    runs = len(photos) * (1 if settings.method == "minmax" else 2)
    with progress("collecting ranges", runs, "photos", job.quiet) as bar:
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

"""fp32 model file + photos -> a model file of another precision, with what it costs."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from mlzsl.calibration.drop import Drop, compare
from mlzsl.calibration.lowering import HALF, behind_weights, body_of, lowered
from mlzsl.calibration.network import Network, load_network
from mlzsl.calibration.photos import Photos, Sample, sample_photos
from mlzsl.calibration.placement import PLACEMENTS, layers_of, points_of, quantized
from mlzsl.calibration.ranges import collect_ranges
from mlzsl.calibration.record import SUFFIX, Record, check_record, read_record, write_record
from mlzsl.calibration.running import Run, open_network
from mlzsl.calibration.sensitivity import Sensitivity, Step, climb, quantized_share, rank_layers
from mlzsl.engines.engine import Engine, open_engine
from mlzsl.engines.manifest import Manifest
from mlzsl.engines.modelfile import Scores, read_golden, read_manifest, write_model_file
from mlzsl.shell.errors import UsageError
from mlzsl.shell.outputs import sha256_of_file
from mlzsl.shell.progress import progress

PRECISIONS = ("fp16", "bf16", "int8", "fp8")
TARGETS = ("tensorrt", "cpu")
NOT_IN_ONNX_RUNTIME = ("bf16",)  # its CPU provider has no kernels for it


@dataclass(frozen=True)
class Settings:
    """How to calibrate.

    Attributes:
        precision: one of PRECISIONS.
        target: what the Q/DQ pairs are placed for, one of TARGETS.
        method: how ranges are chosen, one of `ranges.METHODS`.
        count: photos that calibrate, at most.
        check_count: photos that the drop is measured on, at most.
        seed: of the choice of photos.
        max_drop: in points; None quantizes every layer whatever it costs.
        threads: CPU threads at most; None takes every core.
    """

    precision: str = "int8"
    target: str = "tensorrt"
    method: str = "percentile"
    count: int = 256
    check_count: int = 128
    seed: int = 0
    max_drop: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Calibrated:
    """What a calibration made.

    Attributes:
        path: the model file.
        manifest: as written into it.
        record: the calibration record beside it, None for fp16 and bf16.
        layers: how many layers can be quantized.
        ladder: what was tried, the last step is what was written; empty where nothing could be measured.
        ranked: the layers by harm, worst first, where they had to be ranked.
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
            "record": None if self.record is None else str(self.record),
            "layers": self.layers,
            "ladder": [
                {
                    "kept": list(step.kept),
                    "points": step.drop.points,
                    "quantized_share": step.quantized_share,
                    "estimated_speed": step.speed,
                }
                for step in self.ladder
            ],
            "ranked": [asdict(entry) for entry in self.ranked],
            "drop": None if self.drop is None else self.drop.to_json(),
            "seconds": round(self.seconds, 2),
        }


def default_output(model: Path, settings: Settings) -> Path:
    """`model.onnx` -> `model.int8.onnx`, or `model.int8.cpu.onnx` where the placement is for CPUs."""
    for_cpu = ".cpu" if settings.precision == "int8" and settings.target == "cpu" else ""
    return model.with_suffix(f".{settings.precision}{for_cpu}.onnx")


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
        FailureError: the network does not stand the precision, or `max_drop` cannot be kept.
    """
    started = time.perf_counter()
    manifest = read_manifest(model)
    output = output or default_output(model, settings)
    _check_settings(model, manifest, output, photos, settings, check, record)
    network = load_network(model)
    sample = None
    if photos:
        count = 0 if settings.precision in HALF else settings.count
        sample = sample_photos(
            photos, check, manifest, count, settings.check_count, settings.seed, settings.threads, quiet
        )
    gauge = None if sample is None else _Gauge.of(network, model, manifest, sample.check, settings, quiet)
    if settings.precision in HALF:
        made = _in_half(network, settings)
        drop = None if gauge is None else gauge.drop(made)
        written = _write(output, made, model, manifest, settings, {})
        return Calibrated(output, written, None, 0, (), (), drop, time.perf_counter() - started)

    layers = layers_of(network)
    if not layers:
        raise UsageError(f"{model}: has no convolution that could be quantized; use --precision fp16.")
    found = _ranges(network, model, manifest, sample, settings, record, quiet)
    placement = PLACEMENTS[settings.precision, settings.target]

    def quantize(chosen: Sequence[str]) -> onnx.ModelProto:
        return quantized(network, chosen, found.ranges, placement)

    steps: list[Step] = []
    ranked: list[Sensitivity] = []
    if gauge is not None:
        assert sample is not None
        steps.append(Step((), gauge.drop(quantize(layers)), quantized_share(network, layers)))
        if settings.max_drop is not None and steps[0].drop.points > settings.max_drop:
            ranked = rank_layers(network, layers, quantize, sample.calibration, settings.threads, quiet)
            climb(network, ranked, quantize, gauge.drop, settings.max_drop, steps)
    kept = steps[-1].kept if steps else ()
    record_path = output.with_suffix(SUFFIX)
    write_record(record_path, found)
    sources = {"calibration": sha256_of_file(record_path)}
    made = quantize([layer for layer in layers if layer not in kept])
    written = _write(output, made, model, manifest, settings, sources)
    drop = steps[-1].drop if steps else None
    seconds = time.perf_counter() - started
    return Calibrated(output, written, record_path, len(layers), tuple(steps), tuple(ranked), drop, seconds)


def _check_settings(
    model: Path,
    manifest: Manifest,
    output: Path,
    photos: Sequence[str],
    settings: Settings,
    check: str | None,
    record: Path | None,
) -> None:
    if manifest.precision != "fp32":
        raise UsageError(
            f"{model}: is a file of precision {manifest.precision}; calibration starts from the fp32 file that "
            "mlzsl-export wrote, name that one."
        )
    if output.resolve() == model.resolve():
        raise UsageError(f"--output {output}: is the model itself; name another file.")
    half = settings.precision in HALF
    if not half and (settings.precision, settings.target) not in PLACEMENTS:
        raise UsageError(
            f"--precision {settings.precision} --for {settings.target}: only TensorRT runs it; leave out --for."
        )
    if half and (record is not None or settings.max_drop is not None):
        flag = "--record" if record is not None else "--max-drop"
        raise UsageError(f"{flag}: {settings.precision} has no ranges and no layers to choose; leave the flag out.")
    if not half and not photos and record is None:
        raise UsageError(
            f"--precision {settings.precision}: needs photos like those that will be tagged, to see which values "
            "occur; name some hundred with --photos images/."
        )
    if not photos and (check is not None or settings.max_drop is not None):
        flag = "--check" if check is not None else "--max-drop"
        raise UsageError(f"{flag}: the drop is measured beside calibration photos; name them with --photos images/.")


def _in_half(network: Network, settings: Settings) -> onnx.ModelProto:
    # bf16's 8 bits would tie many scores of the head, which is small: it stays in fp32.
    nodes = body_of(network) if settings.precision == "bf16" else behind_weights(network)
    return lowered(network, settings.precision, nodes)


def _ranges(
    network: Network,
    model: Path,
    manifest: Manifest,
    sample: Sample | None,
    settings: Settings,
    record: Path | None,
    quiet: bool,
) -> Record:
    """The ranges of every tensor that any placement stands pairs on: an earlier record's, or new ones."""
    layers = layers_of(network)
    tensors = sorted({
        source for placement in PLACEMENTS.values() for source in points_of(network, layers, placement).values()
    })  # fmt: skip
    if record is not None:
        found = read_record(record)
        asked: dict[str, object] = {"method": settings.method}
        if sample is not None:
            asked |= {"photos": len(sample.calibration), "data_sha256": sample.calibration.sha256()}
        check_record(record, found, model, manifest, asked, tensors)
        return found
    assert sample is not None
    photos = sample.calibration
    runs = len(photos) * (1 if settings.method == "minmax" else 2)
    with progress("calibrating", runs, "photos", quiet) as bar:
        ranges = collect_ranges(network, tensors, settings.method, photos.batches, bar, settings.threads)
    return Record(
        model_sha256=manifest.network_sha256,
        preprocessing=manifest.preprocessing,
        method=settings.method,
        photos=len(photos),
        seed=settings.seed,
        data_sha256=photos.sha256(),
        ranges=ranges,
    )


@dataclass(frozen=True)
class _Gauge:
    """Measures networks against the fp32 one on the photos that do not calibrate."""

    model: Path
    manifest: Manifest
    photos: Photos
    reference: Scores
    settings: Settings
    quiet: bool

    @classmethod
    def of(
        cls, network: Network, model: Path, manifest: Manifest, photos: Photos, settings: Settings, quiet: bool
    ) -> "_Gauge":
        run = open_network(network.model, threads=settings.threads)
        reference = _scored("scoring in fp32", photos, run, quiet)
        return cls(model, manifest, photos, reference, settings, quiet)

    def drop(self, made: onnx.ModelProto) -> Drop:
        title = f"scoring in {self.settings.precision}"
        if self.settings.precision in NOT_IN_ONNX_RUNTIME:
            with self._in_openvino(made) as engine:
                scores = _scored(title, self.photos, lambda images: [engine.scores(images)], self.quiet)
        else:
            scores = _scored(title, self.photos, open_network(made, threads=self.settings.threads), self.quiet)
        return compare(scores, self.reference, self.manifest, self.photos.truths)

    @contextmanager
    def _in_openvino(self, made: onnx.ModelProto) -> Iterator[Engine]:
        with tempfile.TemporaryDirectory(prefix="mlzsl-calibrate-") as folder:
            candidate = Path(folder) / "model.onnx"
            _write(candidate, made, self.model, self.manifest, self.settings, {})
            try:
                engine = open_engine(candidate, "cpu", "openvino", threads=self.settings.threads)
            except UsageError as error:
                raise UsageError(
                    f"--precision {self.settings.precision}: what it costs cannot be measured here: {error} "
                    "Without --photos the file is written unmeasured."
                ) from error
            with closing(engine):
                yield engine


def _scored(title: str, photos: Photos, run: Run, quiet: bool) -> Scores:
    parts = []
    with progress(title, len(photos), "photos", quiet) as bar:
        for images in photos.batches():
            parts.append(run(images)[0])
            bar.advance(len(images))
    scores: Scores = np.concatenate(parts)
    return scores


def _write(
    path: Path, made: onnx.ModelProto, model: Path, manifest: Manifest, settings: Settings, sources: dict[str, str]
) -> Manifest:
    """Check a network and write it as a model file with the labels, preprocessing and golden sample of `model`."""
    onnx.checker.check_model(made, full_check=True)
    golden = read_golden(model)
    changed = replace(
        manifest,
        precision=settings.precision,
        sources=manifest.sources | {"fp32": sha256_of_file(model)} | sources,
    )
    return write_model_file(path, made.SerializeToString(), changed, golden.images, golden.scores)

"""The settings of a calibration, and the checks that need neither photos nor an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlzsl.calibration.conversion import HALF_PRECISIONS
from mlzsl.calibration.qdq import QDQ_SCHEMES
from mlzsl.calibration.ranges import METHODS, Method
from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import QUANTIZED_FOR, Manifest

QUANTIZED = ("int8", "fp8")
PRECISIONS = (*HALF_PRECISIONS, *QUANTIZED)
DEFAULT_TARGET = {"int8": "openvino", "fp8": "tensorrt"}


@dataclass(frozen=True)
class Settings:
    """How to calibrate.

    Attributes:
        precision: one of PRECISIONS.
        target: backend of an INT8 or FP8 file, one of QUANTIZED_FOR; None takes DEFAULT_TARGET.
        method: how ranges are chosen, one of `ranges.METHODS`.
        count: photos that calibrate, at most.
        check_count: photos that the accuracy drop is measured on, at most.
        seed: of the choice of photos.
        max_drop: points of mAP that may be lost on labelled photos, seen or unseen.
        min_agreement: lowest top-3 agreement, in percent.
        threads: CPU threads at most; None takes every core.
    """

    precision: str = "int8"
    target: str | None = None
    method: Method = "mse"
    count: int = 256
    check_count: int = 256
    seed: int = 0
    max_drop: float = 1.0
    min_agreement: float = 97.5
    threads: int | None = None

    @property
    def quantized_for(self) -> str | None:
        """The backend of an INT8 or FP8 file; None for fp16 and bf16."""
        return self.target or DEFAULT_TARGET.get(self.precision)


def default_output(model: Path, settings: Settings) -> Path:
    """`model.onnx` -> `model.int8.onnx`; `model.int8.tensorrt.onnx` for another target than the precision's default."""
    target = settings.quantized_for
    suffix = "" if target == DEFAULT_TARGET.get(settings.precision) else f".{target}"
    return model.with_suffix(f".{settings.precision}{suffix}.onnx")


def check_settings(
    model: Path,
    manifest: Manifest,
    output: Path,
    photos: Sequence[str],
    settings: Settings,
    check: str | None,
    record: Path | None,
) -> None:
    """Refuse contradicting settings; arguments as `calibrate.calibrate`.

    Raises:
        UsageError: the sentence names the flag.
    """
    precision, target = settings.precision, settings.quantized_for
    if manifest.precision != "fp32":
        raise UsageError(
            f"{model}: is a file of precision {manifest.precision}, expected fp32; name the file that mlzsl-export "
            "wrote."
        )
    for flag, value, known in (
        ("--precision", precision, PRECISIONS),
        ("--method", settings.method, METHODS),
        ("--for", target or QUANTIZED_FOR[0], QUANTIZED_FOR),
    ):
        if value not in known:
            raise UsageError(f"{flag} {value}: unknown, expected one of {', '.join(known)}.")
    if output.suffix != ".onnx":
        raise UsageError(f"--output {output}: expected a name that ends in .onnx; use {output.with_suffix('.onnx')}.")
    if output.resolve() == model.resolve():
        raise UsageError(f"--output {output}: is the fp32 model file itself; name another file.")
    if precision not in QUANTIZED:
        if settings.target is not None or record is not None:
            flag = "--for" if settings.target is not None else "--record"
            raise UsageError(f"{flag}: has no effect on an {precision} file, which has no QDQ pairs; leave it out.")
    elif (precision, target) not in QDQ_SCHEMES:
        raise UsageError(f"--precision {precision} --for {target}: only TensorRT runs {precision}; leave out --for.")
    elif not photos and record is None:
        raise UsageError(
            f"--precision {precision}: needs a few hundred photos like those to be tagged; add --photos images/."
        )
    if not photos and check is not None:
        raise UsageError("--check: needs calibration photos as well; add --photos images/.")

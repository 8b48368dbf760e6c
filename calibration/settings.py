"""What a calibration is asked to do, and whether that can be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlzsl.calibration.conversion import HALF
from mlzsl.calibration.qdq import PLACEMENTS
from mlzsl.calibration.ranges import METHODS
from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import FUSED_BY, Manifest

QUANTIZED = ("int8", "fp8")
PRECISIONS = (*HALF, *QUANTIZED)
DEFAULT_TARGET = {"int8": "openvino", "fp8": "tensorrt"}


@dataclass(frozen=True)
class Settings:
    """How to calibrate.

    Attributes:
        precision: one of PRECISIONS.
        target: whose placement of Q/DQ pairs, one of FUSED_BY; None takes DEFAULT_TARGET, and fp16 and bf16 have none.
        method: how ranges are chosen, one of `ranges.METHODS`.
        count: photos that calibrate, at most.
        check_count: photos that the drop is measured on, at most.
        seed: of the choice of photos.
        max_drop: points of mAP that may be lost on labelled photos, seen or unseen.
        min_agreement: how many of the best 3 labels must stay, in percent.
        threads: CPU threads at most; None takes every core.
    """

    precision: str = "int8"
    target: str | None = None
    method: str = METHODS[0]
    count: int = 256
    check_count: int = 256
    seed: int = 0
    max_drop: float = 1.0
    min_agreement: float = 97.5
    threads: int | None = None

    @property
    def quantized_for(self) -> str | None:
        """The target, decided."""
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
    """Refuse what contradicts itself; arguments as `calibrate.calibrate`.

    Raises:
        UsageError: one sentence, which names the flag.
    """
    precision, target = settings.precision, settings.quantized_for
    if manifest.precision != "fp32":
        raise UsageError(
            f"{model}: is a file of precision {manifest.precision}; calibration starts from the fp32 file that "
            "mlzsl-export wrote, name that one."
        )
    for flag, value, known in (
        ("--precision", precision, PRECISIONS),
        ("--method", settings.method, METHODS),
        ("--for", target or FUSED_BY[0], FUSED_BY),
    ):
        if value not in known:
            raise UsageError(f"{flag} {value}: unknown; there are {', '.join(known)}.")
    if output.resolve() == model.resolve():
        raise UsageError(f"--output {output}: is the model itself; name another file.")
    if precision not in QUANTIZED:
        if settings.target is not None or record is not None:
            flag = "--for" if settings.target is not None else "--record"
            raise UsageError(f"{flag}: an {precision} file has no Q/DQ pairs and no ranges; leave the flag out.")
    elif (precision, target) not in PLACEMENTS:
        raise UsageError(f"--precision {precision} --for {target}: only TensorRT runs it; leave out --for.")
    elif not photos and record is None:
        raise UsageError(
            f"--precision {precision}: needs photos like those that will be tagged, to see which values occur; "
            "name some hundred with --photos images/."
        )
    if not photos and check is not None:
        raise UsageError("--check: the drop is measured beside calibration photos; name them with --photos images/.")

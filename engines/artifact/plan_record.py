"""How a plan was built: what is recorded of it, and the command that builds it again."""

import re
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARIES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # import name: the vendor's name
HARDWARE = ("same-gpu", "same-capability", "ampere-plus")
DEFAULT_LEVEL = 3  # the libraries' own optimization level


class UnfitRecordError(Exception):
    """What is wrong with a record, as the middle of a sentence."""


@dataclass(frozen=True)
class BatchProfile:
    """The batch sizes that a plan takes, and the one that it is fastest at: min ≤ opt ≤ max."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return f"{self.min},{self.opt},{self.max}"


@dataclass(frozen=True)
class BuildRecord:
    """How a plan was built, and what it runs on.

    Attributes:
        library: a key of LIBRARIES, whose runtime loads the plan.
        version: of that library, "11.4.0.106".
        model_file: name of the model file, without its folder.
        batch: the batch sizes of the plan's one profile.
        compute_capabilities: GPUs that the plan is for, such as "8.9"; empty for every one that TensorRT-RTX knows.
        gpu: name of the GPU that it was built on; None where none was needed.
        platform: operating system and processor, "linux x86_64".
        optimization_level: of the builder, 0 to 5.
        workspace_mib: most scratch memory in MiB a layer may take; None for the library's default.
        version_compatible: whether later versions of the library may load it.
        hardware: one of HARDWARE: the GPUs that may run a plan of TensorRT besides the one it was built on.
        weights_stripped: whether the weights are left out and read from `model_file` when the plan is opened.
        layers: how many layers the library made of the network.
        precisions: the type that layers compute on, that of their first input, to the number of such layers.
    """

    library: str
    version: str
    model_file: str
    batch: BatchProfile
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    platform: str
    optimization_level: int
    workspace_mib: int | None
    version_compatible: bool
    hardware: str
    weights_stripped: bool
    layers: int
    precisions: dict[str, int]

    def command(self, plan: Path) -> str:
        """The command that builds such a plan again, with what is installed now."""
        words = ["mlzsl-build", self.model_file, "--batch", str(self.batch)]
        if self.library == "tensorrt_rtx":
            words += ["--rtx"]
            for capability in self.compute_capabilities:
                words += ["--compute-capability", capability]
        if self.optimization_level != DEFAULT_LEVEL:
            words += ["--optimization-level", str(self.optimization_level)]
        if self.workspace_mib is not None:
            words += ["--workspace", str(self.workspace_mib)]
        words += ["--version-compatible"] if self.version_compatible else []
        words += ["--hardware", self.hardware] if self.hardware != "same-gpu" else []
        words += ["--strip-weights"] if self.weights_stripped else []
        return shlex.join([*words, "--output", str(plan)])

    def rebuild(self, plan: Path) -> str:
        """What to do about a plan that does not serve, as the end of a sentence."""
        return f"rebuild with `{self.command(plan)}`"


def read_build_record(fields: dict[str, Any]) -> BuildRecord:
    """Read a record that anybody may have written.

    Raises:
        UnfitRecordError: a field is missing, unknown or of the wrong kind.
    """
    if fields.keys() != FITS.keys():
        raise UnfitRecordError(f"its build record should hold {', '.join(FITS)}")
    for name, fits in FITS.items():
        if not fits(fields[name]):
            raise UnfitRecordError(f"build.{name} is not of the expected kind")
    batch = BatchProfile(**fields["batch"])
    return BuildRecord(**fields | {"batch": batch, "compute_capabilities": tuple(fields["compute_capabilities"])})


def _is_line(value: object) -> bool:
    """A short line of text that is safe to print."""
    return (
        isinstance(value, str) and 0 < len(value) <= 255 and not any(unicodedata.category(c)[0] == "C" for c in value)
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**40


def _is_profile(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"min", "opt", "max"}
        and all(map(_is_count, value.values()))
        and 1 <= value["min"] <= value["opt"] <= value["max"]
    )


def _are_capabilities(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and re.fullmatch(r"\d{1,2}\.\d", v) for v in value)


FITS: dict[str, Callable[[Any], bool]] = {
    "library": lambda value: isinstance(value, str) and value in LIBRARIES,
    "version": _is_line,
    "model_file": _is_line,
    "batch": _is_profile,
    "compute_capabilities": _are_capabilities,
    "gpu": lambda value: value is None or _is_line(value),
    "platform": _is_line,
    "optimization_level": _is_count,
    "workspace_mib": lambda value: value is None or _is_count(value),
    "version_compatible": lambda value: type(value) is bool,
    "hardware": lambda value: value in HARDWARE,
    "weights_stripped": lambda value: type(value) is bool,
    "layers": _is_count,
    "precisions": lambda value: (
        isinstance(value, dict) and all(map(_is_line, value)) and all(map(_is_count, value.values()))
    ),
}

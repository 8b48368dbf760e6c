"""TensorRT and TensorRT-RTX, two libraries with one API: import, version, log messages, layers of a plan."""

import importlib
import importlib.metadata
import platform
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.engines.artifact.plan_manifest import LIBRARIES, LibraryName
from mlzsl.engines.engine import Port

EXTRA: dict[LibraryName, str] = {"tensorrt": "mlzsl[tensorrt]", "tensorrt_rtx": "mlzsl[rtx]"}
OLDEST = {"tensorrt": (10, 12), "tensorrt_rtx": (1, 0)}  # the first with the strongly typed networks that we build
KNOWN_CUDA = (14, 13, 12)
NUMPY_NAME = {"FLOAT": "float32", "HALF": "float16"}
WORST = ("INTERNAL_ERROR", "ERROR")
LISTING = re.compile(r"^(Engine Layer Information|Layers):?$", re.MULTILINE)
LONGEST_LISTING = 2**26  # characters
LAYER = re.compile(
    r"^\s*Name: (?P<name>.*?), (?:Location: \w+, )?LayerType: (?P<kind>\w+), (?P<rest>.*)$", re.MULTILINE
)
INPUT_TYPE = re.compile(r"Inputs: \[ *\{[^}]*?Datatype: ([^,}\]]+)")
TYPES = {  # the libraries' names: ours
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16",
    "fp8": "fp8", "int8": "int8", "uint8": "uint8", "int4": "int4", "int32": "int32", "int64": "int64", "bool": "bool",
}  # fmt: skip


@dataclass
class Messages:
    """The log of a library: errors and warnings in order, and the builder's last list of layers."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    listing: str = ""

    def log(self, severity: str, message: str) -> None:
        """Record a message; severity is the library's name, such as "WARNING"."""
        if severity in WORST:
            self.errors.append(message)
        elif severity == "WARNING":
            self.warnings.append(message)
        elif LISTING.match(message) and len(message) <= LONGEST_LISTING:
            self.listing = message

    def reason(self) -> str:
        """The first error, as the end of a sentence without its full stop."""
        errors = [clean_message(message) for message in self.errors]
        # Every error without a GPU is accompanied by one about the missing GPU.
        relevant = [error for error in errors if error and not re.search(r"cudaError \d+", error)] or errors
        return relevant[0] if relevant else "it gives no reason"


@dataclass(frozen=True)
class Library:
    """One of the two libraries, imported.

    Attributes:
        key: its import name, a key of `plan_manifest.LIBRARIES`.
        module: the imported module.
        logger: the `ILogger` of every object of the library.
        messages: its log.
    """

    key: LibraryName
    module: Any
    logger: Any
    messages: Messages

    @property
    def version(self) -> str:
        """Such as "11.4.0.106"."""
        return str(self.module.__version__)

    def __str__(self) -> str:
        return f"{LIBRARIES[self.key]} {self.version}"


def open_library(key: LibraryName, wanted_by: str) -> Library:
    """Import a library.

    Args:
        key: a key of `plan_manifest.LIBRARIES`.
        wanted_by: the flag or file that needs it; begins the sentence of an error.

    Raises:
        UsageError: it is not installed, cannot be loaded, or too old; the sentence names the extra to install.
    """
    install = f"run `pip install '{EXTRA[key]}'`"
    try:
        module = importlib.import_module(key)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("tensorrt"):
            raise
        raise UsageError(f"{wanted_by}: needs {LIBRARIES[key]}, which is not installed; {install}.") from error
    except (ImportError, OSError) as error:  # the Python bindings are installed, the libraries are not
        raise UsageError(
            f"{wanted_by}: {LIBRARIES[key]} is installed but does not load ({reason_of(error)}); {install}."
        ) from error
    if version_numbers(module.__version__)[:2] < OLDEST[key]:
        oldest = ".".join(map(str, OLDEST[key]))
        raise UsageError(
            f"{wanted_by}: {LIBRARIES[key]} {module.__version__} is installed, and {oldest} or later is needed; "
            f"run `pip install --upgrade '{EXTRA[key]}'`."
        )
    messages = Messages()
    return Library(key, module, _logger(module, messages), messages)


def port(name: str, kind: Any, shape: Any) -> Port:
    """A `Port` of a library's tensor; `kind` is a `DataType`, a dimension below 0 is dynamic."""
    return name, NUMPY_NAME.get(kind.name, kind.name.lower()), [None if side < 0 else side for side in shape]


def this_platform() -> str:
    """Operating system and processor, such as "linux x86_64"."""
    return f"{sys.platform} {platform.machine().lower()}"


def version_numbers(version: str) -> tuple[int, ...]:
    """(11, 4, 0, 106) for "11.4.0.106"; a suffix such as "rc1" is dropped."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers.group().split("."))) if numbers else ()


def cuda_major(library: Library) -> int | None:
    """Major CUDA version of a library, by the name of its package; None where it is unknown."""
    for major in KNOWN_CUDA:
        try:
            importlib.metadata.version(f"{library.key}_cu{major}")
        except importlib.metadata.PackageNotFoundError:
            continue
        return major
    return None


def clean_message(message: str) -> str:
    """A log message without locations in the library's source code, on one line, shortened."""
    text = " ".join(message.split())
    text = re.sub(r"^.*?Error Code \d+: [^(]*\(", "", text)
    text = re.sub(r"\s*\(?\bIn \w+ at \S+:\d+.*$", "", text)
    text = re.sub(r"^\[[^\]]*\]\s*", "", text).strip(" .;)") if text.startswith("[") else text.strip(" .;")
    return text if len(text) <= 300 else text[:299] + "…"


def _logger(module: ModuleType, messages: Messages) -> Any:
    methods = {
        "__init__": lambda self: module.ILogger.__init__(self),
        "log": lambda self, severity, message: messages.log(severity.name, message),
    }
    return type("Logger", (module.ILogger,), methods)()


@dataclass(frozen=True)
class Layer:
    """One layer of a compiled network.

    Attributes:
        name: usually those of the ONNX nodes that were fused into it.
        kind: the library's name of its type, such as "gemm".
        precision: type of its first input, "fp32", "fp16", "int8", …; "" where it has none.
    """

    name: str
    kind: str
    precision: str


def inspect_plan(library: Library, plan: bytes) -> tuple[Layer, ...]:
    """The layers of a plan that was just built, in execution order.

    TensorRT-RTX logs them during the build, which needs no GPU; for TensorRT the engine inspector lists them.

    Raises:
        FailureError: the library cannot load its own plan.
    """
    return parse_layers(library.messages.listing) or parse_layers(_inspector_listing(library, plan))


def precisions(layers: tuple[Layer, ...]) -> dict[str, int]:
    """Number of layers by type, most frequent first."""
    return dict(Counter(layer.precision for layer in layers if layer.precision).most_common())


def parse_layers(listing: str) -> tuple[Layer, ...]:
    """Parse the list of a library, a layer per line: `Name: …, LayerType: …, Inputs: [ { …, Datatype: Float, … } …`."""
    return tuple(
        Layer(line["name"], line["kind"], _precision(INPUT_TYPE.search(line["rest"])))
        for line in LAYER.finditer(listing)
    )


def _precision(found: re.Match[str] | None) -> str:
    if found is None:
        return ""
    words = found.group(1).lower().split()  # "Half", or "Row major linear FP16 format"
    known = [TYPES[word] for word in words if word in TYPES]
    return known[-1] if known else words[-1]


def _inspector_listing(library: Library, plan: bytes) -> str:
    engine = library.module.Runtime(library.logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise FailureError(f"{library} cannot load the plan that it built: {library.messages.reason()}.")
    return str(engine.create_engine_inspector().get_engine_information(library.module.LayerInformationFormat.ONELINE))

"""The layers of a plan and the types that they compute in."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mlzsl.cli.errors import FailureError
from mlzsl.engines.tensorrt.library import Library

LAYER = re.compile(
    r"^\s*Name: (?P<name>.*?), (?:Location: \w+, )?LayerType: (?P<kind>\w+), (?P<rest>.*)$", re.MULTILINE
)
INPUT_TYPE = re.compile(r"Inputs: \[ *\{[^}]*?Datatype: ([^,}\]]+)")
TYPES = {  # the libraries' names: ours
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16",
    "fp8": "fp8", "int8": "int8", "uint8": "uint8", "int4": "int4", "int32": "int32", "int64": "int64", "bool": "bool",
}  # fmt: skip


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
    form: Any = library.module.LayerInformationFormat.ONELINE
    return str(engine.create_engine_inspector().get_engine_information(form))

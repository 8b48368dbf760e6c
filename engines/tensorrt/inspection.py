"""What a library made of a network: its layers and the types that they compute on."""

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
TYPES = {  # the libraries' words in ours; the longest that a word ends with counts
    "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16", "bfloat16": "bf16", "bf16": "bf16",
    "fp8": "fp8", "int8": "int8", "uint8": "uint8", "int4": "int4", "int32": "int32", "int64": "int64", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer of a compiled network.

    Attributes:
        name: usually those of the ONNX nodes that were fused into it.
        kind: in the library's words, such as "gemm".
        precision: type of its first input, "fp32", "fp16", "int8", …; "" where it has none.
    """

    name: str
    kind: str
    precision: str


def inspect_plan(library: Library, plan: bytes) -> tuple[Layer, ...]:
    """The layers of a plan that was just built, in the order in which they run.

    TensorRT-RTX lists them while it builds, which needs no GPU; TensorRT is asked through its engine inspector.

    Raises:
        FailureError: the library does not load its own plan.
    """
    return parse_layers(library.messages.listing) or parse_layers(_ask_inspector(library, plan))


def precisions(layers: tuple[Layer, ...]) -> dict[str, int]:
    """How many layers compute on each type, the most frequent first."""
    return dict(Counter(layer.precision for layer in layers if layer.precision).most_common())


def parse_layers(listing: str) -> tuple[Layer, ...]:
    """Read the libraries' listing, a line a layer: `Name: …, LayerType: …, Inputs: [ { …, Datatype: Float, … } …`."""
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


def _ask_inspector(library: Library, plan: bytes) -> str:
    engine = library.module.Runtime(library.logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise FailureError(f"{library} does not load the plan that it built: {library.messages.reason()}.")
    form: Any = library.module.LayerInformationFormat.ONELINE
    return str(engine.create_engine_inspector().get_engine_information(form))

"""QDQ insertion: QuantizeLinear/DequantizeLinear pairs that state in the graph which tensors are INT8 or FP8.

A backend fuses an operator into an integer kernel where the pairs around it match its patterns, and otherwise computes
the pairs one by one, slower than fp32. The schemes:

`tensorrt`     A pair on the input of each convolution and on the residual input of the Add behind it; int8, zero point
               0, float bias. Relu and Add stay between the convolution and the next pair: TensorRT fuses all three.
`openvino`     The same tensors; uint8, any zero point. After a Relu uint8 has twice the resolution of int8.
`onnxruntime`  As `openvino`, and a pair after each convolution, Add and MaxPool, int32 bias. The lower bound of uint8
               after a Relu is the Relu itself, which ONNX Runtime then removes.

Weights are int8 with a scale per output channel and zero point 0. From the global pooling on nothing is quantized.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlzsl.calibration.network import Network, Node, reading, rebuilt
from mlzsl.calibration.weight_rounding import Rounded, round_preserving_sums

_Part = tuple[list[Node], list[onnx.TensorProto]]  # new nodes and their constants
Range = tuple[float, float]  # lowest and highest value of a tensor; values outside are clipped

SMALLEST_SCALE = 2.0**-100
LARGEST_INT32 = 2**31 - 1
LARGEST: dict[int, int] = {TensorProto.INT8: 127, TensorProto.INT32: LARGEST_INT32, TensorProto.FLOAT8E4M3FN: 448}


@dataclass(frozen=True)
class QDQScheme:
    """The pairs that a backend expects: types and positions.

    Attributes:
        activations: type of quantized activations, a `TensorProto` type.
        weights: type of quantized weights.
        after_operators: pairs also follow operators, and every reader reads the quantized tensor.
        integer_bias: biases are int32, in the scale of the products.
        unquantized: precision of the other layers, a key of `conversion.HALF_PRECISIONS`; None for fp32.
    """

    activations: int
    weights: int
    after_operators: bool = False
    integer_bias: bool = False
    unquantized: str | None = None

    @property
    def integer_weights(self) -> bool:
        """Whether weights are rounded to integers, and not to FP8."""
        return self.weights == TensorProto.INT8


QDQ_SCHEMES = {
    ("int8", "tensorrt"): QDQScheme(TensorProto.INT8, TensorProto.INT8, unquantized="fp16"),
    ("int8", "openvino"): QDQScheme(TensorProto.UINT8, TensorProto.INT8, unquantized="bf16"),
    ("int8", "onnxruntime"): QDQScheme(TensorProto.UINT8, TensorProto.INT8, after_operators=True, integer_bias=True),
    ("fp8", "tensorrt"): QDQScheme(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FN, unquantized="fp16"),
}


def layers_of(network: Network) -> list[str]:
    """The names of the layers that can be quantized: convolutions with constant weights, in the graph's order."""
    return [node.name for node in network.nodes if node.op_type == "Conv" and node.input[1] in network.constants]


def quantized_tensors(network: Network, layers: Collection[str], scheme: QDQScheme) -> dict[str, str]:
    """The tensors that get a pair, each with the tensor that its range is taken from: itself, except after a MaxPool.

    Args:
        network: the fp32 network.
        layers: names of the layers to quantize.
        scheme: of the backend.
    """
    tensors = {node.input[0]: node.input[0] for node in network.nodes if node.name in layers}
    if not scheme.after_operators:
        return tensors | {skip: skip for skip in _residuals(network, layers).values()}
    for node in network.nodes:
        if node.name in layers or (node.op_type == "Add" and all(name in tensors for name in node.input)):
            output = network.past_activation(node.output[0])
            tensors[output] = output
        elif node.op_type == "MaxPool" and node.input[0] in tensors:  # selects among the integers, so needs no range
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors


def _residuals(network: Network, layers: Collection[str]) -> dict[str, str]:
    """For every Add behind a quantized convolution, by its output, the input that is not fused with it."""
    residuals = {}
    for node in network.nodes:
        if node.op_type == "Add" and not any(name in network.constants for name in node.input):
            written_by = [network.writer[name].name if name in network.writer else "" for name in node.input]
            if any(name in layers for name in written_by):
                residuals[node.output[0]] = node.input[1 if written_by[0] in layers else 0]
    return residuals


def insert_qdq(
    network: Network,
    layers: Collection[str],
    ranges: Mapping[str, Range],
    scheme: QDQScheme,
    weights: Mapping[str, Rounded] = MappingProxyType({}),
) -> onnx.ModelProto:
    """The network with QDQ pairs around `layers`.

    Args:
        network: the fp32 network.
        layers: names of the layers to quantize.
        ranges: of the tensors in the values of `quantized_tensors`.
        scheme: of the backend.
        weights: rounded weights by layer, [channels, ...]; others are rounded by `round_preserving_sums`.
    """
    tensors = quantized_tensors(network, layers, scheme)
    scales = {name: _Scale.of(ranges[source], scheme.activations) for name, source in tensors.items()}
    residuals = _residuals(network, layers)
    parts: list[_Part] = [([], list(network.model.graph.initializer))]
    for node in network.nodes:
        if node.name in layers:
            parts += _convolution(network, node, ranges[tensors[node.input[0]]], scheme, weights.get(node.name))
        else:
            read = tensors if scheme.after_operators else {residuals.get(node.output[0], "")}
            names = [dequantized(name) if name in read else name for name in node.input]
            parts.append(([reading(node, names)], []))
        parts += [_pair(output, scales[output]) for output in node.output if output in scales]
    nodes, constants = zip(*parts, strict=True)
    return rebuilt(network, chain.from_iterable(nodes), chain.from_iterable(constants))


@dataclass(frozen=True)
class _Scale:
    """x ≈ scale · (q - zero_point)."""

    scale: npt.NDArray[np.float32]  # [] or, for weights, [channels]
    zero_point: int
    kind: int  # of q, a TensorProto type

    @classmethod
    def of(cls, bounds: Range, kind: int) -> "_Scale":
        """The scale of an activation; 0 always has an exact q, as padding needs it."""
        low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
        if kind == TensorProto.UINT8:
            scale = max((high - low) / 255, SMALLEST_SCALE)
            return cls(np.array(scale, np.float32), round(-low / scale), kind)
        scale = max(-low, high) / LARGEST[kind]
        return cls(np.array(max(scale, SMALLEST_SCALE), np.float32), 0, kind)

    def constants(self, tensor: str) -> list[onnx.TensorProto]:
        """The scale and zero point of a pair, named as `_pair` reads them."""
        zeros = np.full(self.scale.shape, self.zero_point).astype(helper.tensor_dtype_to_np_dtype(self.kind))
        return [
            numpy_helper.from_array(self.scale, f"{tensor}/scale"),
            numpy_helper.from_array(zeros, f"{tensor}/zero_point"),
        ]


def _pair(tensor: str, scale: _Scale) -> _Part:
    inputs = [tensor, f"{tensor}/scale", f"{tensor}/zero_point"]
    quantize = helper.make_node("QuantizeLinear", inputs, [f"{tensor}/quantized"], f"{tensor}/quantize")
    return [quantize, _dequantize(tensor)], scale.constants(tensor)


def _dequantize(tensor: str) -> Node:
    """Scales of weights are per channel, along axis 0; those of activations are scalars, which ignore the axis."""
    inputs = [f"{tensor}/quantized", f"{tensor}/scale", f"{tensor}/zero_point"]
    return helper.make_node("DequantizeLinear", inputs, [dequantized(tensor)], f"{tensor}/dequantize", axis=0)


def dequantized(tensor: str) -> str:
    """The name of a tensor after its pair."""
    return f"{tensor}/dequantized"


def scaled_weights(
    network: Network, node: Node, input_range: Range, scheme: QDQScheme
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A convolution's weights divided by their scales, not rounded, [channels, ...], and the scales, [channels].

    Args:
        network: the fp32 network.
        node: the convolution.
        input_range: range of its input.
        scheme: of the backend.
    """
    values = network.array(node.input[1]).astype(np.float32)  # channels, ...
    per_channel = np.abs(values).reshape(len(values), -1).max(axis=1) / LARGEST[scheme.weights]
    if scheme.integer_bias and len(node.input) > 2:  # with tiny weights the int32 bias would overflow
        bias = network.array(node.input[2]).astype(np.float64)
        input_scale = _Scale.of(input_range, scheme.activations).scale
        per_channel = np.maximum(per_channel, np.abs(bias) / (input_scale * LARGEST_INT32))
    scale = np.maximum(per_channel, SMALLEST_SCALE).astype(np.float32)
    return values / scale.reshape((-1,) + (1,) * (values.ndim - 1)), scale


def _convolution(
    network: Network, node: Node, input_range: Range, scheme: QDQScheme, rounded: Rounded | None
) -> list[_Part]:
    """A convolution with quantized weights that reads a quantized tensor."""
    biases = list(node.input[2:])
    scaled, scale = scaled_weights(network, node, input_range, scheme)
    if rounded is None and scheme.integer_weights:
        rounded = round_preserving_sums(scaled, LARGEST[scheme.weights])
    parts = [_constant(f"{node.name}/weight", scaled if rounded is None else rounded, _Scale(scale, 0, scheme.weights))]
    reads = [dequantized(node.input[0]), dequantized(f"{node.name}/weight"), *biases]
    if biases and scheme.integer_bias:
        bias = network.array(biases[0]).astype(np.float64)
        input_scale = _Scale.of(input_range, scheme.activations).scale
        bias_scale = _Scale((input_scale * scale).astype(np.float32), 0, TensorProto.INT32)
        parts.append(_constant(f"{node.name}/bias", bias / bias_scale.scale, bias_scale))
        reads[2] = dequantized(f"{node.name}/bias")
    return [*parts, ([reading(node, reads)], [])]


def _constant(name: str, scaled: npt.NDArray[np.floating], scale: _Scale) -> _Part:
    """A constant as its quantized values and a DequantizeLinear along axis 0."""
    limit = LARGEST[scale.kind]
    rounded = scaled if scale.kind == TensorProto.FLOAT8E4M3FN else np.rint(scaled)
    values = np.clip(rounded, -limit, limit).astype(helper.tensor_dtype_to_np_dtype(scale.kind))
    return [_dequantize(name)], [numpy_helper.from_array(values, f"{name}/quantized"), *scale.constants(name)]

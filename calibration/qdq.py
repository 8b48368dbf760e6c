"""Where Q/DQ pairs stand: a pair of QuantizeLinear and DequantizeLinear states in the graph that a tensor is INT8.

A backend fuses an operator into an integer kernel where the pairs around it are those that it looks for, and computes
the pairs one by one, slower than fp32, where they are not. Known here are the placements for

`tensorrt`     A pair on what a convolution reads, and on the residual input of the Add behind it; int8, zero point 0,
               float bias. Relu and Add stay between convolution and the next pair, as TensorRT fuses all three.
`openvino`     The same places; uint8, any zero point. Behind a Relu uint8 has twice the steps of int8.
`onnxruntime`  As `openvino`, and a pair behind every convolution, Add and MaxPool, int32 bias. The lower bound of a
               uint8 behind a Relu is the Relu, which ONNX Runtime then leaves out.

Weights are int8 in all, a scale for each output channel, zero point 0. From the pooling on nothing is quantized.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from mlzsl.calibration.network import Network, Node, reading, rebuilt
from mlzsl.calibration.rounding import Steps, rounded_keeping_sums

Range = tuple[float, float]  # the lowest and highest value of a tensor that are to be told apart

SMALLEST_SCALE = 2.0**-100
LARGEST_INT32 = 2**31 - 1
ROUNDED = (TensorProto.INT8,)  # types of weights whose steps are whole numbers
LARGEST: dict[int, int] = {TensorProto.INT8: 127, TensorProto.INT32: LARGEST_INT32, TensorProto.FLOAT8E4M3FN: 448}


@dataclass(frozen=True)
class Placement:
    """Types of quantized tensors, and around what the pairs stand.

    Attributes:
        activations: type of quantized activations, a `TensorProto` type.
        weights: type of quantized weights.
        everywhere: pairs stand behind operators as well, and everybody reads the quantized tensor.
        integer_bias: the bias is int32 in the scale of the products.
        kept: precision of layers that are not quantized, a key of `lowering.HALF`; None for fp32.
    """

    activations: int
    weights: int
    everywhere: bool = False
    integer_bias: bool = False
    kept: str | None = None


PLACEMENTS = {
    ("int8", "tensorrt"): Placement(TensorProto.INT8, TensorProto.INT8, kept="fp16"),
    ("int8", "openvino"): Placement(TensorProto.UINT8, TensorProto.INT8, kept="bf16"),
    ("int8", "onnxruntime"): Placement(TensorProto.UINT8, TensorProto.INT8, everywhere=True, integer_bias=True),
    ("fp8", "tensorrt"): Placement(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FN, kept="fp16"),
}


def layers_of(network: Network) -> list[str]:
    """The names of the layers that can be quantized: convolutions with constant weights, in the graph's order."""
    return [node.name for node in network.nodes if node.op_type == "Conv" and node.input[1] in network.constants]


def points_of(network: Network, layers: Collection[str], placement: Placement) -> dict[str, str]:
    """The tensors that pairs stand on, each with the tensor whose range it has (itself, but behind a MaxPool).

    Args:
        network: the fp32 network.
        layers: the names of those to quantize.
        placement: what for.
    """
    convolutions = [node for node in network.nodes if node.name in layers]
    points = {node.input[0]: node.input[0] for node in convolutions}
    if not placement.everywhere:
        return points | {skip: skip for skip in _residuals(network, layers).values()}
    for node in network.nodes:
        if node.name in layers or (node.op_type == "Add" and all(name in points for name in node.input)):
            behind = network.past_relu(node.output[0])
            points[behind] = behind
        elif node.op_type == "MaxPool" and node.input[0] in points:  # it can select among integers as they are
            points[node.output[0]] = points[node.input[0]]
    return points


def _residuals(network: Network, layers: Collection[str]) -> dict[str, str]:
    """Of every Add behind a quantized convolution, by its output, the input that is not fused with it."""
    residuals = {}
    for node in network.nodes:
        if node.op_type == "Add" and not any(name in network.constants for name in node.input):
            written_by = [network.writer[name].name if name in network.writer else "" for name in node.input]
            if any(name in layers for name in written_by):
                residuals[node.output[0]] = node.input[1 if written_by[0] in layers else 0]
    return residuals


def quantized(
    network: Network,
    layers: Collection[str],
    ranges: Mapping[str, Range],
    placement: Placement,
    weights: Mapping[str, Steps] = MappingProxyType({}),
) -> onnx.ModelProto:
    """The network with Q/DQ pairs around `layers`.

    Args:
        network: the fp32 network.
        layers: the names of those to quantize.
        ranges: of every tensor that `points_of` names.
        placement: what for.
        weights: of layers in whole steps, [channels, ...]; those of others are rounded so that filters keep their sums.
    """
    points = points_of(network, layers, placement)
    scales = {point: _Scale.of(ranges[source], placement.activations) for point, source in points.items()}
    residuals = _residuals(network, layers)
    constants = list(network.model.graph.initializer)
    nodes: list[Node] = []
    for node in network.nodes:
        if node.name in layers:
            of_input = ranges[points[node.input[0]]]
            made = _convolution(network, node, of_input, placement, weights.get(node.name))
        elif placement.everywhere:
            made = _Made([_reading(node, points)])
        else:
            made = _Made([_reading(node, {residuals.get(node.output[0], "")})])
        for output in node.output:
            if output in scales:
                made += _pair(output, scales[output])
        nodes += made.nodes
        constants += made.constants
    return rebuilt(network, nodes, constants)


@dataclass(frozen=True)
class _Scale:
    """x ≈ scale · (q - zero_point)."""

    scale: npt.NDArray[np.float32]  # [] or, for weights, [channels]
    zero_point: int
    kind: int  # of q, a TensorProto type

    @classmethod
    def of(cls, bounds: Range, kind: int) -> "_Scale":
        """The scale of an activation; zero always has an exact q, as padding must."""
        low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
        if kind == TensorProto.UINT8:
            scale = max((high - low) / 255, SMALLEST_SCALE)
            return cls(np.array(scale, np.float32), round(-low / scale), kind)
        scale = max(-low, high) / LARGEST[kind]
        return cls(np.array(max(scale, SMALLEST_SCALE), np.float32), 0, kind)

    def constants(self, tensor: str) -> list[onnx.TensorProto]:
        """The operands of Q and DQ, by the names that `_pair` gives them."""
        zeros = np.full(self.scale.shape, self.zero_point).astype(helper.tensor_dtype_to_np_dtype(self.kind))
        return [
            numpy_helper.from_array(self.scale, f"{tensor}/scale"),
            numpy_helper.from_array(zeros, f"{tensor}/zero_point"),
        ]


@dataclass(frozen=True)
class _Made:
    """New nodes, and the constants that they read."""

    nodes: list[Node]
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __add__(self, other: "_Made") -> "_Made":
        return _Made(self.nodes + other.nodes, self.constants + other.constants)


def _pair(tensor: str, scale: _Scale) -> _Made:
    operands = [f"{tensor}/scale", f"{tensor}/zero_point"]
    nodes = [
        helper.make_node("QuantizeLinear", [tensor, *operands], [f"{tensor}/quantized"], f"{tensor}/quantize"),
        _dequantize(tensor),
    ]
    return _Made(nodes, scale.constants(tensor))


def _dequantize(tensor: str) -> Node:
    """Scales of weights are one a channel, along axis 0; those of activations are scalars, where axis is not used."""
    inputs = [f"{tensor}/quantized", f"{tensor}/scale", f"{tensor}/zero_point"]
    return helper.make_node("DequantizeLinear", inputs, [dequantized(tensor)], f"{tensor}/dequantize", axis=0)


def dequantized(tensor: str) -> str:
    """What a tensor that pairs stand on is called behind them."""
    return f"{tensor}/dequantized"


def _reading(node: Node, tensors: Collection[str]) -> Node:
    """The node, reading what stands behind the pairs of `tensors`."""
    return reading(node, [dequantized(name) if name in tensors else name for name in node.input])


def weights_in_steps(
    network: Network, node: Node, of_input: Range, placement: Placement
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A convolution's weights in steps, not rounded, [channels, ...], and how large each channel's step is, [channels].

    Args:
        network: the fp32 network.
        node: the convolution.
        of_input: the range of what it reads.
        placement: what for.
    """
    values = network.array(node.input[1]).astype(np.float32)  # [channels, ...]
    per_channel = np.abs(values).reshape(len(values), -1).max(axis=1) / LARGEST[placement.weights]
    if placement.integer_bias and len(node.input) > 2:  # a channel of tiny weights must not make its bias overflow
        bias = network.array(node.input[2]).astype(np.float64)
        step_of_input = _Scale.of(of_input, placement.activations).scale
        per_channel = np.maximum(per_channel, np.abs(bias) / (step_of_input * LARGEST_INT32))
    scale = np.maximum(per_channel, SMALLEST_SCALE).astype(np.float32)
    return values / scale.reshape((-1,) + (1,) * (values.ndim - 1)), scale


def _convolution(network: Network, node: Node, of_input: Range, placement: Placement, steps: Steps | None) -> _Made:
    """A convolution that reads a quantized tensor, with quantized weights: `steps`, or rounded without photos."""
    biases = list(node.input[2:])
    in_steps, scale = weights_in_steps(network, node, of_input, placement)
    of_weight = _Scale(scale, 0, placement.weights)
    if steps is None and placement.weights in ROUNDED:
        steps = rounded_keeping_sums(in_steps, LARGEST[placement.weights])
    made = _constant(f"{node.name}/weight", in_steps if steps is None else steps, of_weight)
    reads = [dequantized(node.input[0]), dequantized(f"{node.name}/weight"), *biases]
    if biases and placement.integer_bias:
        bias = network.array(biases[0]).astype(np.float64)
        step_of_input = _Scale.of(of_input, placement.activations).scale
        of_bias = _Scale((step_of_input * scale).astype(np.float32), 0, TensorProto.INT32)
        made += _constant(f"{node.name}/bias", bias / of_bias.scale, of_bias)
        reads[2] = dequantized(f"{node.name}/bias")
    return made + _Made([reading(node, reads)])


def _constant(name: str, in_steps: npt.NDArray[np.floating], scale: _Scale) -> _Made:
    """A constant as its quantized values and one DequantizeLinear along axis 0."""
    kind = helper.tensor_dtype_to_np_dtype(scale.kind)
    limit = LARGEST[scale.kind]
    rounded = in_steps if scale.kind == TensorProto.FLOAT8E4M3FN else np.rint(in_steps)
    values = np.clip(rounded, -limit, limit).astype(kind)
    quantized_values = numpy_helper.from_array(values, f"{name}/quantized")
    return _Made([_dequantize(name)], [quantized_values, *scale.constants(name)])

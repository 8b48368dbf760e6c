"""fp32 -> fp16 or bf16: which nodes compute in half precision, and the casts between them and the rest.

What stands before the first weights stays fp32: it maps pixels 0 to 255 to normalized ones, where rounding the scale
would change every picture's contrast.
"""

from collections.abc import Collection

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from mlzsl.calibration.network import Network, Node, reading, rebuilt
from mlzsl.cli.errors import FailureError

WEIGHTED = ("Conv", "MatMul", "Gemm")
HALF = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
BF16_OPSET = 22  # where ONNX gives bf16 to Conv and MaxPool


def behind_weights(network: Network) -> set[str]:
    """The names of the nodes that compute from what the first weights gave, and of those that hold weights."""
    behind: set[str] = set()
    outputs: set[str] = set()
    for node in network.nodes:
        if node.op_type in WEIGHTED or any(name in outputs for name in node.input):
            behind.add(node.name)
            outputs.update(node.output)
    return behind


def body_of(network: Network) -> set[str]:
    """The nodes of the convolutional part: behind the first weights, up to the last convolution and its Relu and Add.

    What a node behind a convolution reads and no convolution reads after it is the head.
    """
    feeds_convolution: set[str] = set()
    for node in reversed(network.nodes):
        if node.op_type == "Conv" or any(name in feeds_convolution for name in node.output):
            feeds_convolution.update(node.input)
    names = {
        node.name
        for node in network.nodes
        if node.op_type == "Conv" or any(name in feeds_convolution for name in node.output)
    }
    written = {name for node in network.nodes if node.name in names for name in node.output}
    for node in network.nodes:
        if node.op_type in ("Add", "Relu", "MaxPool") and all(
            name in written or name in network.constants for name in node.input
        ):
            names.add(node.name)
            written.update(node.output)
    return names & behind_weights(network)


def lowered_layers(network: Network, layers: Collection[str], precision: str) -> onnx.ModelProto:
    """The network with some layers in half precision, and what stands behind them up to the next layer or pair."""
    names = set(layers)
    written = {node.output[0] for node in network.nodes if node.name in names}
    for node in network.nodes:
        if node.op_type in ("Add", "Relu", "MaxPool") and any(name in written for name in node.input):
            names.add(node.name)
            written.add(node.output[0])
    return lowered(network, precision, names)


def lowered(network: Network, precision: str, nodes: Collection[str]) -> onnx.ModelProto:
    """The network with some of its nodes in half precision; its input and output keep their types.

    Args:
        network: in fp32.
        precision: a key of HALF.
        nodes: the names of those that compute in it.

    Raises:
        FailureError: a weight is too large for it.
    """
    kind, dtype = HALF[precision]
    floats = _float32_tensors(network)
    model = network.model
    half: set[str] = set()  # tensors that are in half precision in the new network
    made: list[Node] = []
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    casts: set[str] = set()

    def as_half(name: str) -> str:
        if name not in floats or name in half:
            return name
        converted = f"{name}/{precision}"
        if name in network.constants:
            constants.setdefault(converted, _converted(network, name, converted, dtype))
        elif converted not in casts:
            casts.add(converted)
            made.append(helper.make_node("Cast", [name], [converted], f"{converted}/cast", to=kind))
        return converted

    def as_float(name: str) -> str:
        if name not in half:
            return name
        converted = f"{name}/fp32"
        if converted not in casts:
            casts.add(converted)
            made.append(helper.make_node("Cast", [name], [converted], f"{converted}/cast", to=TensorProto.FLOAT))
        return converted

    outputs = {output.name for output in model.graph.output}
    for node in network.nodes:
        if node.name not in nodes:
            made.append(reading(node, [as_float(name) for name in node.input]))
            continue
        node = reading(node, [as_half(name) for name in node.input])
        made.append(node)
        for place, name in enumerate(node.output):
            if name in outputs:
                node.output[place] = f"{name}/{precision}"
                made.append(
                    helper.make_node("Cast", [node.output[place]], [name], f"{name}/cast", to=TensorProto.FLOAT)
                )
            elif name in floats:
                half.add(name)
    result = rebuilt(network, made, constants.values())
    if precision == "bf16" and result.opset_import[0].version < BF16_OPSET:
        result = version_converter.convert_version(result, BF16_OPSET)
    return result


def _float32_tensors(network: Network) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(network.model, strict_mode=True).graph
    values = [*inferred.value_info, *inferred.output, *inferred.input]
    known = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return known | {name for name, tensor in network.constants.items() if tensor.data_type == TensorProto.FLOAT}


def _converted(network: Network, name: str, converted: str, dtype: np.dtype[np.generic]) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        values = network.array(name).astype(dtype)
    if not np.isfinite(values.astype(np.float32)).all():
        raise FailureError(f"weight {name} is too large for {dtype.name}; use --precision bf16.")
    return numpy_helper.from_array(values, converted)

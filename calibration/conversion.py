"""Precision conversion, fp32 to fp16 or bf16: some nodes compute in half precision, with casts at the boundaries.

Nodes before the first weights stay in fp32: they map pixels of 0 to 255 to normalized values, where a rounded scale
would change every image's contrast.
"""

from collections.abc import Collection

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from mlzsl.calibration.network import Network, Node, reading, rebuilt
from mlzsl.cli.errors import FailureError

WEIGHTED = ("Conv", "MatMul", "Gemm")
BACKBONE = ("Conv", "LayerNormalization")  # no head has them
FUSED = ("Add", "Relu", "Clip", "MaxPool")  # follow a convolution in its precision
HALF_PRECISIONS = {
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
BF16_OPSET = 22  # the first with bf16 for Conv and MaxPool


def nodes_from_first_weights(network: Network) -> set[str]:
    """The names of the nodes with weights, and of those that depend on one."""
    found: set[str] = set()
    outputs: set[str] = set()
    for node in network.nodes:
        if node.op_type in WEIGHTED or any(name in outputs for name in node.input):
            found.add(node.name)
            outputs.update(node.output)
    return found


def backbone_nodes(network: Network) -> set[str]:
    """The names of the nodes from the first weights up to the last convolution or layer normalization.

    The Add, Relu, Clip and MaxPool that follow are included. The nodes behind are the head.
    """
    read: set[str] = set()  # tensors that a node of the backbone depends on
    names: set[str] = set()
    for node in reversed(network.nodes):
        if node.op_type in BACKBONE or any(name in read for name in node.output):
            names.add(node.name)
            read.update(node.input)
    written = {name for node in network.nodes if node.name in names for name in node.output}
    for node in network.nodes:
        if node.op_type in FUSED and all(name in written or name in network.constants for name in node.input):
            names.add(node.name)
            written.update(node.output)
    return names & nodes_from_first_weights(network)


def convert_layers(network: Network, layers: Collection[str], precision: str) -> onnx.ModelProto:
    """Convert some layers and the Add, Relu, Clip and MaxPool that follow them; arguments as `convert_precision`."""
    names = set(layers)
    written = {node.output[0] for node in network.nodes if node.name in names}
    for node in network.nodes:
        if node.op_type in FUSED and any(name in written for name in node.input):
            names.add(node.name)
            written.add(node.output[0])
    return convert_precision(network, precision, names)


def convert_precision(network: Network, precision: str, nodes: Collection[str]) -> onnx.ModelProto:
    """Convert some nodes to half precision; the network's input and output keep their types.

    Args:
        network: in fp32.
        precision: a key of HALF_PRECISIONS.
        nodes: names of the nodes to convert.

    Raises:
        FailureError: a weight exceeds the range of the precision.
    """
    kind, dtype = HALF_PRECISIONS[precision]
    floats = _float32_tensors(network)
    model = network.model
    half: set[str] = set()  # tensors that are in half precision in the new network
    made: list[Node] = []
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    casts: set[str] = set()

    def cast(name: str, converted: str, to: int) -> str:
        if converted not in casts:
            casts.add(converted)
            made.append(helper.make_node("Cast", [name], [converted], f"{converted}/cast", to=to))
        return converted

    def as_half(name: str) -> str:
        if name not in floats or name in half:
            return name
        converted = f"{name}/{precision}"
        if name not in network.constants:
            return cast(name, converted, kind)
        constants.setdefault(converted, _converted(network, name, converted, dtype))
        return converted

    def as_float(name: str) -> str:
        return cast(name, f"{name}/fp32", TensorProto.FLOAT) if name in half else name

    outputs = {output.name for output in model.graph.output}
    for node in network.nodes:
        if node.name not in nodes:
            made.append(reading(node, [as_float(name) for name in node.input]))
            continue
        node = reading(node, [as_half(name) for name in node.input])
        made.append(node)
        for index, name in enumerate(node.output):
            if name in outputs:
                node.output[index] = f"{name}/{precision}"
                cast(node.output[index], name, TensorProto.FLOAT)
            elif name in floats:
                half.add(name)
    result = rebuilt(network, made, constants.values())
    if precision == "bf16" and result.opset_import[0].version < BF16_OPSET:
        result = version_converter.convert_version(result, BF16_OPSET)
    return result


def _float32_tensors(network: Network) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(network.model, strict_mode=True).graph
    return {
        value.name
        for value in [*inferred.value_info, *inferred.output, *inferred.input]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    } | {name for name, tensor in network.constants.items() if tensor.data_type == TensorProto.FLOAT}


def _converted(network: Network, name: str, converted: str, dtype: np.dtype[np.generic]) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        values = network.array(name).astype(dtype)
    if not np.isfinite(values.astype(np.float32)).all():
        raise FailureError(f"weight {name} exceeds the range of {dtype.name}; use --precision bf16.")
    return numpy_helper.from_array(values, converted)

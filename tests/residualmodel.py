"""A small network for the tests of calibration: convolutions, a max pooling, a residual block, a head.

uint8 [N, 32, 32, 3] -> [N, 6]. Layers, in the graph's order: stem, first, second, skip, last.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tinymodel import LABELS, SIZE, TinyModel, manifest, random_images

from mlzsl.engines.artifact.modelfile import read_manifest, write_model_file

LAYERS = ("stem", "first", "second", "skip", "last")


def residual_network() -> onnx.ModelProto:
    """The network in fp32, without our metadata."""
    rng = np.random.default_rng(3)
    constants: dict[str, np.ndarray] = {
        "shift": np.full((1, 1, 1, 1), 127.5, np.float32),
        "scale": np.full((1, 1, 1, 1), 1 / 64, np.float32),
        "matrix": rng.normal(0, 1.5, (16, len(LABELS))).astype(np.float32),
        "offset": np.full(1, -0.5, np.float32),
    }

    def conv(name: str, source: str, width: tuple[int, int], side: int, stride: int = 1) -> onnx.NodeProto:
        kernels = rng.normal(0, np.sqrt(2 / (width[1] * side * side)), (width[0], width[1], side, side))
        constants[f"{name}.weight"] = kernels.astype(np.float32)
        constants[f"{name}.bias"] = rng.normal(0, 0.2, width[0]).astype(np.float32)
        pads = [side // 2] * 4
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Conv", inputs, [name], name, strides=[stride, stride], pads=pads)

    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "shift"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "scale"], ["normalized"]),
        helper.make_node("Transpose", ["normalized"], ["planes"], perm=[0, 3, 1, 2]),
        conv("stem", "planes", (8, 3), 3),
        helper.make_node("Relu", ["stem"], ["stem_relu"]),
        helper.make_node("MaxPool", ["stem_relu"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("first", "pooled", (8, 8), 1),
        helper.make_node("Relu", ["first"], ["first_relu"]),
        conv("second", "first_relu", (16, 8), 3),
        conv("skip", "pooled", (16, 8), 1),
        helper.make_node("Add", ["second", "skip"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["sum_relu"]),
        conv("last", "sum_relu", (16, 16), 3, stride=2),
        helper.make_node("Relu", ["last"], ["last_relu"]),
        helper.make_node("GlobalAveragePool", ["last_relu"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("MatMul", ["features", "matrix"], ["products"]),
        helper.make_node("Add", ["products", "offset"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    return checked_model("residual", nodes, constants)


def checked_model(name: str, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A network from uint8 images to the scores of LABELS, which has passed onnx's checker."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", len(LABELS)])],
        [numpy_helper.from_array(value, constant) for constant, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def scores_of(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """The scores of a network by onnx's reference evaluator, operator by operator."""
    from onnx.reference import ReferenceEvaluator

    scores: np.ndarray = ReferenceEvaluator(model).run(None, {"images": images})[0]
    return scores


def fragile_network() -> onnx.ModelProto:
    """The same, but an unused channel of the stem is 500 everywhere: min-max leaves the others no resolution."""
    model = residual_network()
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name == "stem.bias":
            array[0] = 500
        elif tensor.name in ("first.weight", "skip.weight"):
            array[:, 0] = 0
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def write_residual_model(path: Path, model: onnx.ModelProto | None = None, **changes: object) -> TinyModel:
    """Write the network as an fp32 model file; `changes` are fields of its manifest."""
    images, model = random_images(3, seed=5), model or residual_network()
    write_model_file(path, model.SerializeToString(), manifest(**changes), images, scores_of(model, images))
    return TinyModel(path, read_manifest(path), images)

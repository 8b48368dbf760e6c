"""A small network, built with the onnx package, for the tests of engines and runtime.

Uint8 pictures are cast, normalized, convolved (3×3, stride 2), rectified, averaged over space, multiplied with a
matrix and squashed: [N, 32, 32, 3] -> [N, 6]. `reference_scores` is the same in plain float64 loops.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from mlzsl.engines.artifact.manifest import Label, Manifest
from mlzsl.engines.artifact.modelfile import write_model_file
from mlzsl.imaging import Preprocessing

SIZE = 32
LABELS = (
    Label("dog", "dog.n.01", True),
    Label("cat", "cat.n.01", True),
    Label("traffic light", "traffic_light.n.01", True),
    Label("zebra", "zebra.n.01", False),
    Label("café", "cafe.n.01", True),
    Label("snowboard", "snowboard.n.01", False),
)
_rng = np.random.default_rng(7)
KERNELS = _rng.normal(0, 0.5, (8, 3, 3, 3)).astype(np.float32)
BIAS = _rng.normal(0, 0.2, 8).astype(np.float32)
WEIGHTS = _rng.normal(0, 1.5, (8, len(LABELS))).astype(np.float32)
SHIFT, SCALE = np.float32(127.5), np.float32(1 / 64)


@dataclass(frozen=True)
class TinyModel:
    """A model file, and its expected scores."""

    path: Path
    manifest: Manifest
    images: np.ndarray  # the golden sample's, uint8 [3, 32, 32, 3]

    @staticmethod
    def scores(images: np.ndarray) -> np.ndarray:
        return reference_scores(images)


def reference_scores(images: np.ndarray) -> np.ndarray:
    """uint8 [n, 32, 32, 3] -> float64 [n, 6], by the formulas."""
    pixels = (images.astype(np.float64) - float(SHIFT)) * float(SCALE)
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))
    features = np.zeros((len(images), 8))
    places = range(0, SIZE, 2)
    for y in places:
        for x in places:
            window = padded[:, y : y + 3, x : x + 3]  # (n, 3, 3, 3): rows, columns, colours
            response = np.einsum("nhwc,kchw->nk", window, KERNELS.astype(np.float64)) + BIAS
            features += np.maximum(response, 0) / len(places) ** 2
    return 1 / (1 + np.exp(-(features @ WEIGHTS.astype(np.float64) - 0.5)))


def random_images(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Images of different colour and contrast, so that their scores differ: uint8 [count, size, size, 3]."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (count, 1, 1, 3))
    contrast = rng.uniform(5, 90, (count, 1, 1, 1))
    return np.clip(colours + contrast * rng.normal(size=(count, size, size, 3)), 0, 255).astype(np.uint8)


def network(output: str = "scores", labels: int = len(LABELS), input_type: int = TensorProto.UINT8) -> bytes:
    """The network as a serialized ONNX model without our metadata."""
    constants = {
        "shift": SHIFT.reshape(1, 1, 1, 1),
        "scale": SCALE.reshape(1, 1, 1, 1),
        "kernels": KERNELS,
        "bias": BIAS,
        "weights": WEIGHTS[:, :labels],
        "half": np.array([-0.5], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "shift"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "scale"], ["normalized"]),
        helper.make_node("Transpose", ["normalized"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernels", "bias"], ["maps"], strides=[2, 2], pads=[1, 1, 0, 0]),
        helper.make_node("Relu", ["maps"], ["rectified"]),
        helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["products"]),
        helper.make_node("Add", ["products", "half"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], [output]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", input_type, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", labels])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def broken_network() -> bytes:
    """The network with a weight that is NaN: every score of one label is."""
    model = onnx.load_from_string(network())
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    values = numpy_helper.to_array(weights).copy()
    values[0, 2] = np.nan
    weights.CopyFrom(numpy_helper.from_array(values, "weights"))
    return model.SerializeToString()


def manifest(**changes: object) -> Manifest:
    """The manifest of the tiny network, without its hashes."""
    made = Manifest(
        schema_version=2,
        model="RGCN-PosVAE",
        backbone="tiny",
        labels=LABELS,
        preprocessing=Preprocessing(size=SIZE).to_json(),
        graph={"threshold": 0.5, "label_set": "six"},
        precision="fp32",
        sources={"checkpoint": "0" * 64},
        network_sha256="",
        golden_sha256="",
    )
    return replace(made, **changes)


def write_tiny_model(path: Path, serialized: bytes | None = None, **changes: object) -> TinyModel:
    """Write the tiny network as a model file; `changes` are fields of its manifest."""
    images = random_images(3, seed=5)
    scores = reference_scores(images).astype(np.float32)
    written = write_model_file(path, serialized or network(), manifest(**changes), images, scores)
    return TinyModel(path, written, images)

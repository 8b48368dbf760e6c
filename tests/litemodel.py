"""A small network in the style of EfficientNet-Lite: depthwise convolutions, ReLU6 as Clip, SAME padding, a residual.

uint8 [N, 32, 32, 3] -> [N, 6]. Layers, in the graph's order: stem, expand, depthwise, project, expand2, depthwise2,
project2, whose output is added to project's, and last.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper
from residualmodel import checked_model
from tinymodel import LABELS

LAYERS = ("stem", "expand", "depthwise", "project", "expand2", "depthwise2", "project2", "last")
DEPTHWISE = ("depthwise", "depthwise2")


def lite_network(layer_norm: bool = False) -> onnx.ModelProto:
    """The network in fp32, without our metadata; `layer_norm` normalizes its features, as ConvNeXt does."""
    rng = np.random.default_rng(3)
    constants: dict[str, np.ndarray] = {
        "shift": np.full((1, 1, 1, 1), 127.5, np.float32),
        "scale": np.full((1, 1, 1, 1), 1 / 64, np.float32),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "gain": np.ones(32, np.float32),
        "matrix": rng.normal(0, 1.5, (32, len(LABELS))).astype(np.float32),
        "offset": np.full(1, -0.5, np.float32),
    }

    def conv(name: str, source: str, width: tuple[int, int], side: int, stride: int = 1) -> onnx.NodeProto:
        """A convolution of width[1] to width[0] channels, depthwise if they are called so."""
        group = width[1] if name in DEPTHWISE else 1
        shape = (width[0], width[1] // group, side, side)
        constants[f"{name}.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        constants[f"{name}.bias"] = rng.normal(0.5, 0.2, width[0]).astype(np.float32)
        around = side - stride  # TensorFlow's SAME: what is odd stands behind
        pads = [around // 2] * 2 + [around - around // 2] * 2
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        return helper.make_node("Conv", inputs, [name], name, strides=[stride, stride], pads=pads, group=group)

    def relu6(name: str) -> onnx.NodeProto:
        return helper.make_node("Clip", [name, "zero", "six"], [f"{name}_relu6"])

    normalization = helper.make_node("LayerNormalization", ["features", "gain"], ["normal"])
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "shift"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "scale"], ["normalized"]),
        helper.make_node("Transpose", ["normalized"], ["planes"], perm=[0, 3, 1, 2]),
        *(conv("stem", "planes", (16, 3), 3, stride=2), relu6("stem")),
        *(conv("expand", "stem_relu6", (32, 16), 1), relu6("expand")),
        *(conv("depthwise", "expand_relu6", (32, 32), 3, stride=2), relu6("depthwise")),
        conv("project", "depthwise_relu6", (16, 32), 1),
        *(conv("expand2", "project", (32, 16), 1), relu6("expand2")),
        *(conv("depthwise2", "expand2_relu6", (32, 32), 5), relu6("depthwise2")),
        conv("project2", "depthwise2_relu6", (16, 32), 1),
        helper.make_node("Add", ["project2", "project"], ["sum"]),
        *(conv("last", "sum", (32, 16), 1), relu6("last")),
        helper.make_node("GlobalAveragePool", ["last_relu6"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        *([normalization] if layer_norm else []),
        helper.make_node("MatMul", ["normal" if layer_norm else "features", "matrix"], ["products"]),
        helper.make_node("Add", ["products", "offset"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
    ]
    return checked_model("lite", nodes, constants)

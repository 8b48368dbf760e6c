"""QDQ insertion: pairs on the tensors that docs/precision.md lists, computing the formulas of quantization."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from residualmodel import LAYERS, scores_of
from tinymodel import random_images

from mlzsl.calibration.network import Network, open_network
from mlzsl.calibration.qdq import QDQ_SCHEMES, insert_qdq, layers_of, quantized_tensors

RANGES = {
    "planes": (-2.0, 2.0), "pooled": (0.0, 7.0), "stem_relu": (0.0, 7.0), "first_relu": (0.0, 6.0), "skip": (-8.0, 9.0),
    "second": (-7.0, 7.0), "sum_relu": (0.0, 11.0), "last_relu": (0.0, 9.0),
}  # fmt: skip
BOTH = [("int8", "tensorrt"), ("int8", "openvino")]
EVERY = [*BOTH, ("int8", "onnxruntime")]


def make(network: Network, key: tuple[str, str], layers: tuple[str, ...] = LAYERS) -> onnx.ModelProto:
    made = insert_qdq(network, layers, RANGES, QDQ_SCHEMES[key])
    onnx.checker.check_model(made, full_check=True)
    return made


def pairs(model: onnx.ModelProto) -> dict[str, set[str]]:
    """Each tensor that a QuantizeLinear reads, with the nodes that read it after its pair."""
    behind = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    restored = {
        node.output[0]: behind[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in behind
    }
    readers: dict[str, set[str]] = {tensor: set() for tensor in behind.values()}
    for node in model.graph.node:
        for name in node.input:
            if name in restored:
                readers[restored[name]].add(node.name)
    return readers


def constant(model: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def test_the_layers_are_the_convolutions_in_graph_order(network):
    assert layers_of(network) == list(LAYERS)


@pytest.mark.parametrize("key", BOTH)
def test_tensorrt_and_openvino_have_pairs_before_convolutions_and_on_the_residual(network, key):
    assert pairs(make(network, key)) == {
        "planes": {"stem"}, "pooled": {"first", "skip"}, "first_relu": {"second"},
        "skip": {"sum"}, "sum_relu": {"last"},
    }  # fmt: skip


def test_onnx_runtime_has_pairs_around_every_operator_up_to_the_pooling(network):
    assert pairs(make(network, ("int8", "onnxruntime"))) == {
        "planes": {"stem"}, "stem_relu": {"pooled"}, "pooled": {"first", "skip"}, "first_relu": {"second"},
        "second": {"sum"}, "skip": {"sum"}, "sum_relu": {"last"}, "last_relu": {"mean"},
    }  # fmt: skip


@pytest.mark.parametrize("key", EVERY)
def test_types_are_those_of_the_backend(network, key):
    model = make(network, key)
    kind = np.int8 if key[1] == "tensorrt" else np.uint8
    for tensor in pairs(model):
        zero = constant(model, f"{tensor}/zero_point")
        assert zero.dtype == kind
        if kind == np.int8 or RANGES[tensor][0] == 0:
            assert zero == 0
    assert constant(model, "planes/zero_point") == (0 if kind == np.int8 else 128)
    for layer in LAYERS:
        weights = constant(model, f"{layer}/weight/quantized")
        assert weights.dtype == np.int8
        assert constant(model, f"{layer}/weight/scale").shape == (len(weights),)
        assert not constant(model, f"{layer}/weight/zero_point").any()
    stem = next(node for node in model.graph.node if node.name == "stem")
    assert (stem.input[2] == "stem.bias") == (key[1] != "onnxruntime"), "an int32 bias where ONNX Runtime wants it"


@pytest.mark.parametrize("key", EVERY)
def test_fused_scores_equal_those_of_the_operators_one_by_one(network, key):
    """ONNX Runtime fuses the pairs, the reference evaluator of the onnx package does not."""
    images, model = random_images(4, seed=1), make(network, key)
    run = open_network(model, threads=1)
    np.testing.assert_allclose(run(images)[0], scores_of(model, images), atol=0.02, rtol=0)


@pytest.mark.parametrize("key", EVERY)
def test_dequantized_weights_are_within_a_scale_of_the_original(network, key):
    model = make(network, key)
    for layer in LAYERS:
        scale = constant(model, f"{layer}/weight/scale").reshape(-1, 1, 1, 1)
        restored = constant(model, f"{layer}/weight/quantized") * scale
        assert (np.abs(restored - network.array(f"{layer}.weight")) <= 1.001 * scale).all()


@pytest.mark.parametrize("key", EVERY)
def test_a_layer_that_is_not_quantized_keeps_its_weights(network, key):
    model = make(network, key, ("stem", "second", "last"))
    readers = {node.name: list(node.input) for node in model.graph.node}
    assert readers["first"][1:] == ["first.weight", "first.bias"]
    assert readers["skip"][1:] == ["skip.weight", "skip.bias"]
    images = random_images(6, seed=1)
    kept, fp32 = open_network(model, threads=1), open_network(network.model, threads=1)
    np.testing.assert_allclose(kept(images)[0], fp32(images)[0], atol=0.1, rtol=0)


def test_fp8_quantizes_every_tensor_to_fp8(network):
    model = make(network, ("fp8", "tensorrt"))
    zeros = [tensor for tensor in model.graph.initializer if tensor.name.endswith("zero_point")]
    assert {tensor.data_type for tensor in zeros} == {TensorProto.FLOAT8E4M3FN}
    assert len(zeros) == 5 + len(LAYERS)


def test_a_max_pooling_has_the_range_of_its_input(network):
    tensors = quantized_tensors(network, LAYERS, QDQ_SCHEMES["int8", "onnxruntime"])
    assert tensors["pooled"] == "stem_relu"

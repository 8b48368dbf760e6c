"""Conversion to fp16 and bf16: the converted nodes, weights rounded as by NumPy, scores close to fp32."""

from collections import defaultdict

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from residualmodel import LAYERS
from tinymodel import random_images

from mlzsl.calibration.conversion import (
    HALF_PRECISIONS,
    backbone_nodes,
    convert_layers,
    convert_precision,
    nodes_from_first_weights,
)
from mlzsl.calibration.network import Network, open_network
from mlzsl.calibration.qdq import QDQ_SCHEMES, insert_qdq
from mlzsl.cli.errors import FailureError

SCHEME = QDQ_SCHEMES["int8", "openvino"]

RANGES = defaultdict(lambda: (-8.0, 8.0))  # of any tensor


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor that a node writes."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}


def test_all_nodes_from_the_first_weights_are_fp16_and_inputs_and_outputs_keep_their_types(network):
    model = convert_precision(network, "fp16", nodes_from_first_weights(network))
    onnx.checker.check_model(model, full_check=True)
    found = types(model)
    assert found["normalized"] == found["planes"] == TensorProto.FLOAT, "pixels are normalized in fp32"
    for name in ("stem", "pooled", "sum", "last_relu", "mean", "products", "logits"):
        assert found[name] == TensorProto.FLOAT16
    assert found["scores"] == TensorProto.FLOAT
    assert model.graph.input == network.model.graph.input
    assert model.graph.output == network.model.graph.output


def test_the_head_of_a_bf16_file_stays_fp32(network):
    model = convert_precision(network, "bf16", backbone_nodes(network))
    onnx.checker.check_model(model, full_check=True)
    found = types(model)
    assert found["stem"] == found["last_relu"] == TensorProto.BFLOAT16
    assert found["mean"] == found["logits"] == found["scores"] == TensorProto.FLOAT


def test_layers_not_quantized_compute_in_bf16_up_to_the_next_pair(network):
    made = insert_qdq(network, ["first", "last"], RANGES, SCHEME)
    model = convert_layers(Network(made), ["stem", "second", "skip"], "bf16")
    onnx.checker.check_model(model, full_check=True)
    found = types(model)
    for name in ("stem", "stem_relu", "pooled", "second", "skip", "sum", "sum_relu"):
        assert found[name] == TensorProto.BFLOAT16
    for name in ("planes", "first", "last", "mean", "scores"):
        assert found[name] == TensorProto.FLOAT
    quantizes = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert {found.get(node.input[0]) for node in quantizes} == {TensorProto.FLOAT}


def test_scores_with_layers_in_fp16_are_close_to_those_in_fp32(network):
    images = random_images(8)
    made = insert_qdq(network, [layer for layer in LAYERS if layer != "first"], RANGES, SCHEME)
    half = open_network(convert_layers(Network(made), ["first"], "fp16"), threads=1)
    np.testing.assert_allclose(half(images)[0], open_network(made, threads=1)(images)[0], atol=0.02, rtol=0)


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_weights_are_rounded_as_numpy_rounds_them(network, precision, dtype):
    model = convert_precision(network, precision, backbone_nodes(network))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for layer in ("stem", "skip", "last"):
        expected = network.array(f"{layer}.weight").astype(dtype)
        np.testing.assert_array_equal(
            constants[f"{layer}.weight/{precision}"].astype(np.float32), expected.astype("f4")
        )
        assert f"{layer}.weight" not in constants, "nothing is stored twice"


def test_fp16_scores_are_close_to_fp32(network):
    images = random_images(8)
    converted = convert_precision(network, "fp16", nodes_from_first_weights(network))
    run, fp32 = open_network(converted, threads=1), open_network(network.model)
    np.testing.assert_allclose(run(images)[0], fp32(images)[0], atol=5e-3, rtol=0)


def test_a_weight_that_exceeds_the_range_of_fp16_is_named(network):
    large = Network(network.model)
    index = next(i for i, tensor in enumerate(large.model.graph.initializer) if tensor.name == "skip.weight")
    large.model.graph.initializer[index].raw_data = (large.array("skip.weight") * 1e6).tobytes()
    with pytest.raises(FailureError, match=r"weight skip\.weight exceeds the range of float16; use --precision bf16"):
        convert_precision(large, "fp16", nodes_from_first_weights(large))


def test_the_precisions_are_those_of_the_manifest():
    from mlzsl.engines.artifact.manifest import PRECISIONS

    assert set(HALF_PRECISIONS) < set(PRECISIONS)

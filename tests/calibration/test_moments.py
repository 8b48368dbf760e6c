"""The moments of what convolutions read are those of the patches that give their outputs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from residualmodel import LAYERS
from tinymodel import random_images

from mlzsl.calibration.moments import PATCHES, input_moments
from mlzsl.calibration.network import Network
from mlzsl.calibration.session import open_network
from mlzsl.cli.progress import progress


def moments_of(network: Network, layers, images) -> dict[str, np.ndarray]:
    with progress("", len(images), "photos", quiet=True) as bar:
        return input_moments(network, layers, [images], bar, threads=1)


def test_moments_weighted_by_a_filter_are_the_squares_of_its_outputs(network):
    """`last` has fewer places than PATCHES, so all are taken: wᵀ H w is then Σ (w · x)², known from the outputs."""
    images = random_images(3, seed=6)
    H = moments_of(network, ["last"], images)["last"]
    outputs = open_network(network.model, ["last"], threads=1)(images)[0]
    assert np.prod(outputs.shape[2:]) <= PATCHES
    w = network.array("last.weight").reshape(16, -1)
    squares = np.square(outputs - network.array("last.bias")[:, None, None]).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(np.einsum("ck,kl,cl->c", w, H, w), squares, rtol=1e-4)


def test_every_layer_has_moments_of_its_number_of_weights(network):
    moments = moments_of(network, LAYERS, random_images(2, seed=6))
    sizes = {layer: network.array(f"{layer}.weight")[0].size for layer in LAYERS}
    assert {layer: H.shape for layer, H in moments.items()} == {layer: (size, size) for layer, size in sizes.items()}


@pytest.mark.parametrize("attribute", [{"group": 2}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}], ids=str)
def test_other_convolutions_are_left_out(attribute):
    weights = np.ones((4, 4 // attribute.get("group", 1), 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "layer", **attribute)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, "H", "W"])],
        [numpy_helper.from_array(weights, "w")],
    )
    network = Network(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    onnx.checker.check_model(network.model)
    assert moments_of(network, ["layer"], np.zeros((1, 4, 8, 8), np.float32)) == {}

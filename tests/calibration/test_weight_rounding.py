"""Weight rounding: integers near the weights that keep filter sums or, by GPTQ, the outputs on the photos' patches."""

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper
from residualmodel import LAYERS
from tinymodel import random_images

from mlzsl.calibration.network import Network, open_network
from mlzsl.calibration.photos import Photos
from mlzsl.calibration.weight_rounding import PATCHES, gptq_round, input_hessians, round_preserving_sums

weights = arrays(np.float32, (3, 2, 3, 3), elements=st.floats(-126, 126, width=32))


@settings(max_examples=60)
@given(weights=weights)
def test_each_weight_changes_by_less_than_one_and_each_filter_sum_by_half_at_most(weights):
    rounded = round_preserving_sums(weights, 127)
    assert (rounded == np.rint(rounded)).all()
    assert (np.abs(rounded - weights) < 1).all()
    sums = (rounded - weights.astype(np.float64)).sum(axis=(2, 3))
    assert (np.abs(sums) <= 0.5 + 1e-9).all()


def test_integers_stay_and_the_largest_magnitude_is_clipped():
    whole = np.arange(-9, 9, dtype=np.float32).reshape(1, 2, 3, 3)
    np.testing.assert_array_equal(round_preserving_sums(whole, 127), whole)
    assert np.abs(round_preserving_sums(np.full((1, 1, 3, 3), 127.4), 127)).max() == 127


def squared_error(weights, rounded, patches):
    """Mean squared difference that rounding makes to outputs, over channels and patches."""
    return np.square(patches @ (rounded - weights).reshape(len(weights), -1).T).mean()


def test_gptq_keeps_the_outputs_of_filters_on_correlated_inputs():
    """Correlated inputs of a positive mean, as after a Relu."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 30, (5, 40, 3, 3)).astype(np.float32)
    patches = np.maximum(rng.normal(0, 1, (600, 30)) @ rng.normal(0, 1, (30, 360)) + 2, 0).astype(np.float32)
    rounded = gptq_round(weights, patches.T @ patches, 127)
    assert rounded.shape == weights.shape
    assert (rounded == np.rint(rounded)).all()
    assert np.abs(rounded).max() <= 127
    assert squared_error(weights, rounded, patches) < 0.2 * squared_error(weights, np.rint(weights), patches)


def test_gptq_rounds_to_nearest_on_uncorrelated_inputs():
    weights = np.random.default_rng(1).normal(0, 30, (4, 7, 1, 1)).astype(np.float32)
    np.testing.assert_array_equal(gptq_round(weights, np.diag(np.arange(7.0)), 127), np.rint(weights))


def test_gptq_rounds_to_nearest_where_all_inputs_are_zero():
    weights = np.full((2, 3, 1, 1), 1.6, np.float32)
    np.testing.assert_array_equal(gptq_round(weights, np.zeros((3, 3), np.float32), 127), np.rint(weights))


def test_gptq_is_close_to_the_best_of_all_roundings():
    """The nearest-plane algorithm is not exact, but within twice the least error; nearest rounding has ten times it."""
    rng = np.random.default_rng(2)
    patches = rng.normal(0, 1, (50, 8)) * 0.2 + rng.normal(0, 1, (50, 1)) + 1
    weights = rng.normal(0, 20, (6, 8, 1, 1))
    moved = np.array(list(itertools.product((0, 1), repeat=8)))
    tried = np.floor(weights.reshape(6, 1, 8)) + moved  # channels, roundings, weights
    errors = np.square((tried - weights.reshape(6, 1, 8)) @ patches.T).mean(axis=2)
    rounded = gptq_round(weights, patches.T @ patches, 127)
    assert squared_error(weights, rounded, patches) < 2 * errors.min(axis=1).mean()


def hessians_of(network: Network, layers, images) -> dict[str, np.ndarray]:
    return input_hessians(network, layers, Photos(images), threads=1, quiet=True)


def test_the_quadratic_form_of_a_filter_is_the_sum_of_its_squared_outputs(network):
    """`last` has fewer positions than PATCHES, so all are used: wᵀ H w is then Σ (w · x)², known from the outputs."""
    images = random_images(3, seed=6)
    H = hessians_of(network, ["last"], images)["last"]
    outputs = open_network(network.model, ["last"], threads=1)(images)[0]
    assert np.prod(outputs.shape[2:]) <= PATCHES
    w = network.array("last.weight").reshape(16, -1)
    squares = np.square(outputs - network.array("last.bias")[:, None, None]).sum(axis=(0, 2, 3))
    np.testing.assert_allclose(np.einsum("ck,kl,cl->c", w, H, w), squares, rtol=1e-4)


def test_every_layer_has_a_hessian_of_its_number_of_weights(network):
    hessians = hessians_of(network, LAYERS, random_images(2, seed=6))
    sizes = {layer: network.array(f"{layer}.weight")[0].size for layer in LAYERS}
    assert {layer: H.shape for layer, H in hessians.items()} == {layer: (size, size) for layer, size in sizes.items()}


@pytest.mark.parametrize("attribute", [{"group": 2}, {"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}], ids=str)
def test_grouped_dilated_and_padded_convolutions_are_left_out(attribute):
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
    assert hessians_of(network, ["layer"], np.zeros((1, 4, 8, 8), np.float32)) == {}

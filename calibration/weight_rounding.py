"""Rounding of convolution weights: by GPTQ on calibration photos, or preserving the sums of filters.

Rounding each weight to the nearest integer errs at random, and the errors of a filter add up: a filter that takes
differences of neighbours then also responds to brightness, which varies far more than the differences do. GPTQ makes
the errors cancel on what the layer reads; without photos they cancel on constant patches.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.calibration.network import Network, Node, open_network
from mlzsl.calibration.photos import Photos
from mlzsl.cli.progress import progress

PHOTOS = 128  # that the Hessians are computed from, at most
PATCHES = 64  # of each photo and layer, at random positions
DAMPING = 0.01  # of the mean diagonal of a Hessian: few patches do not span all inputs
BLOCK = 128  # columns whose errors are propagated one by one, and then to all others at once

Floats = npt.NDArray[np.floating]
Rounded = npt.NDArray[np.float64]  # integers
Hessian = npt.NDArray[np.float32]  # [K, K], Σ x xᵀ over patches x; K = inputs · height · width of a filter


def gptq_weights(
    network: Network,
    layers: Sequence[str],
    scaled: Callable[[Node], Floats],
    largest: int,
    photos: Photos,
    threads: int | None,
    quiet: bool,
) -> dict[str, Rounded]:
    """Round the weights of convolutions by GPTQ; grouped, dilated and other than 2-D convolutions are left out.

    Args:
        network: in fp32.
        layers: names of convolutions with constant weights.
        scaled: returns the weights of a convolution divided by their scales, [channels, ...].
        largest: magnitude of a rounded weight.
        photos: the first PHOTOS of them are used.
        threads: CPU threads of the network at most.
        quiet: show no progress.
    """
    hessians = input_hessians(network, layers, photos.first(PHOTOS), threads, quiet)
    rounded = {}
    with progress("rounding weights", len(hessians), "layers", quiet) as bar:
        for node in network.nodes:
            if node.name in hessians:
                rounded[node.name] = gptq_round(scaled(node), hessians.pop(node.name), largest)
                bar.advance()
    return rounded


def gptq_round(weights: Floats, hessian: Floats, largest: int) -> Rounded:
    """Round the weights of a convolution so that its outputs change little on patches like those of the Hessian.

    Minimizes (w - q)ᵀ H (w - q) of each channel by the nearest-plane algorithm (Babai 1986; GPTQ, Frantar et al. 2023):
    with H = RᵀR, R upper triangular, weights are rounded from the last to the first, each after
    Σ_k R_jk / R_jj · (w_k - q_k) of those rounded before has been added. Weights with the largest inputs come first.

    Args:
        weights: divided by their scales, [channels, ...].
        hessian: [K, K], K weights per channel; a constant factor does not matter.
        largest: magnitude of a rounded weight.

    Returns:
        Integers in [-largest, largest], as float64 of the shape of `weights`.
    """
    squares = np.diag(hessian).astype(np.float64)
    order = np.argsort(squares, kind="stable")
    H = hessian[np.ix_(order, order)].astype(np.float64)
    H[np.diag_indices_from(H)] += DAMPING * squares.mean() + np.finfo(np.float32).tiny
    R = np.linalg.cholesky(H).T
    R /= np.diag(R)[:, None].copy()
    w = weights.reshape(len(weights), -1).astype(np.float64)[:, order]  # channels, K
    errors, q = np.zeros_like(w), np.zeros_like(w)
    for end in range(w.shape[1], 0, -BLOCK):
        start = max(0, end - BLOCK)
        targets = w[:, start:end] + errors[:, end:] @ R[start:end, end:].T
        for j in range(end - 1, start - 1, -1):
            propagated = errors[:, j + 1 : end] @ R[j, j + 1 : end]
            q[:, j] = np.clip(np.rint(targets[:, j - start] + propagated), -largest, largest)
            errors[:, j] = w[:, j] - q[:, j]
    result = np.empty_like(q)
    result[:, order] = q
    return result.reshape(weights.shape)


def round_preserving_sums(weights: Floats, largest: int) -> Rounded:
    """Round the weights of a convolution so that the sum of each 2-D filter changes by at most 0.5.

    The weights whose fraction is nearest to 0.5 are rounded the other way.

    Args:
        weights: divided by their scales, [channels, inputs, ...].
        largest: magnitude of a rounded weight.

    Returns:
        Integers in [-largest, largest], each less than 1 from its weight, as float64.
    """
    filters = weights.astype(np.float64).reshape(weights.shape[0] * weights.shape[1], -1)
    q = np.rint(filters)
    errors = filters - q  # filters, positions; at most 0.5
    missing = np.rint(errors.sum(axis=1, keepdims=True))
    direction = np.sign(missing)
    rank = np.argsort(np.argsort(-errors * direction, axis=1, kind="stable"), axis=1)
    q += np.where(rank < np.abs(missing), direction, 0)
    return np.clip(q, -largest, largest).reshape(weights.shape)


def input_hessians(
    network: Network, layers: Sequence[str], photos: Photos, threads: int | None = None, quiet: bool = False
) -> dict[str, Hessian]:
    """Run the network on photos and sum x xᵀ of the patches x that its convolutions multiply with their weights.

    Takes 0.5 GB for all layers of a ResNet-50. Arguments and omitted layers as in `gptq_weights`.
    """
    nodes = [node for node in network.nodes if node.name in layers and _is_supported(network, node)]
    if not nodes:
        return {}
    tensors = list(dict.fromkeys(node.input[0] for node in nodes))
    run = open_network(network.model, tensors, threads)
    rng = np.random.default_rng(0)
    hessians: dict[str, Hessian] = {}
    with progress("computing Hessians", len(photos), "photos", quiet) as bar:
        for images in photos.batches():
            values = dict(zip(tensors, run(images), strict=True))
            for node in nodes:
                patches = _patches(network, node, values[node.input[0]], rng)  # patches, K
                hessians[node.name] = hessians.get(node.name, 0) + patches.T @ patches
            bar.advance(len(images))
    return hessians


def _attributes(node: Node) -> dict[str, Any]:
    return {entry.name: list(entry.ints) or entry.i or entry.s for entry in node.attribute}


def _is_supported(network: Network, node: Node) -> bool:
    attributes = _attributes(node)
    return (
        len(network.constants[node.input[1]].dims) == 4
        and attributes.get("group", 1) == 1
        and set(attributes.get("dilations", [1])) == {1}
        and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _patches(
    network: Network, node: Node, values: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Patches at random output positions, the same for all images; [images · positions, inputs · height · width]."""
    attributes = _attributes(node)
    down, across = attributes.get("strides", [1, 1])
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    height, width = network.constants[node.input[1]].dims[2:]
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))[:, :, ::down, ::across]
    rows, columns = windows.shape[2:4]
    positions = rng.permutation(rows * columns)[:PATCHES]
    chosen = windows[:, :, positions // columns, positions % columns]  # images, inputs, positions, height, width
    return np.moveaxis(chosen, 1, 2).reshape(-1, values.shape[1] * height * width)

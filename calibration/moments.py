"""What a layer's weights meet: the second moments of the patches that each convolution reads on calibration photos."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.calibration.network import Network, Node
from mlzsl.calibration.session import open_network
from mlzsl.cli.progress import Progress
from mlzsl.engines.artifact.modelfile import Images

PHOTOS = 128  # that moments are taken from, at most
PATCHES = 64  # of each photo and layer, at random places

Moments = npt.NDArray[np.float32]  # [K, K], the sum of x xᵀ over patches x, K = inputs · height · width of a filter


def input_moments(
    network: Network, layers: Sequence[str], batches: Iterable[Images], bar: Progress, threads: int | None = None
) -> dict[str, Moments]:
    """Run the network on photos and add up x xᵀ of the patches x that its convolutions multiply with their weights.

    All of a ResNet-50 take 0.5 GB. Convolutions in groups, dilated or not of two dimensions are left out.

    Args:
        network: in fp32.
        layers: names of convolutions with constant weights.
        batches: photos, uint8 [n, S, S, 3].
        bar: told of every photo.
        threads: CPU threads of the network at most.
    """
    nodes = [node for node in network.nodes if node.name in layers and _is_plain(network, node)]
    if not nodes:
        return {}
    tensors = list(dict.fromkeys(node.input[0] for node in nodes))
    run = open_network(network.model, tensors, threads)
    rng = np.random.default_rng(0)
    moments: dict[str, Moments] = {}
    for images in batches:
        values = dict(zip(tensors, run(images), strict=True))
        for node in nodes:
            patches = _patches(network, node, values[node.input[0]], rng)  # patches, K
            product = patches.T @ patches
            moments[node.name] = moments[node.name] + product if node.name in moments else product
        bar.advance(len(images))
    return moments


def _attributes(node: Node) -> dict[str, Any]:
    return {entry.name: list(entry.ints) or entry.i or entry.s for entry in node.attribute}


def _is_plain(network: Network, node: Node) -> bool:
    told = _attributes(node)
    return (
        len(network.constants[node.input[1]].dims) == 4
        and told.get("group", 1) == 1
        and set(told.get("dilations", [1])) == {1}
        and told.get("auto_pad", b"NOTSET") == b"NOTSET"
    )


def _patches(
    network: Network, node: Node, values: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Patches of some places of the output, the same for all images; [images · places, inputs · height · width]."""
    told = _attributes(node)
    down, across = told.get("strides", [1, 1])
    top, left, bottom, right = told.get("pads", [0] * 4)
    height, width = network.constants[node.input[1]].dims[2:]
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))[:, :, ::down, ::across]
    rows, columns = windows.shape[2:4]
    places = rng.permutation(rows * columns)[:PATCHES]
    chosen = windows[:, :, places // columns, places % columns]  # images, inputs, places, height, width
    return np.moveaxis(chosen, 1, 2).reshape(-1, values.shape[1] * height * width)

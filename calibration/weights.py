"""The weights of quantized layers, rounded for what these layers read on calibration photos."""

from collections.abc import Mapping, Sequence

from mlzsl.calibration.moments import PHOTOS, input_moments
from mlzsl.calibration.network import Network
from mlzsl.calibration.photos import Photos
from mlzsl.calibration.qdq import LARGEST, ROUNDED, Placement, Range, weights_in_steps
from mlzsl.calibration.rounding import Steps, rounded_on_inputs
from mlzsl.cli.progress import progress


def rounded_weights(
    network: Network,
    layers: Sequence[str],
    ranges: Mapping[str, Range],
    placement: Placement,
    photos: Photos,
    threads: int | None,
    quiet: bool,
) -> dict[str, Steps]:
    """Weights of layers in whole steps; those are left out that `moments` leaves out, and all of an FP8 placement.

    Args:
        network: in fp32.
        layers: names of convolutions with constant weights.
        ranges: of what they read.
        placement: what for.
        photos: the first `moments.PHOTOS` of them are run.
        threads: CPU threads of the network at most.
        quiet: show no progress.
    """
    if placement.weights not in ROUNDED:
        return {}
    few = photos.first(PHOTOS)
    with progress("measuring inputs", len(few), "photos", quiet) as bar:
        moments = input_moments(network, layers, few.batches(), bar, threads)
    rounded = {}
    with progress("rounding weights", len(moments), "layers", quiet) as bar:
        for node in network.nodes:
            if node.name in moments:
                in_steps, _ = weights_in_steps(network, node, ranges[node.input[0]], placement)
                rounded[node.name] = rounded_on_inputs(in_steps, moments.pop(node.name), LARGEST[placement.weights])
                bar.advance()
    return rounded

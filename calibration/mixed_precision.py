"""Mixed-precision search: layers ranked by sensitivity, the most sensitive kept in float."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from mlzsl.calibration.accuracy import AccuracyDrop
from mlzsl.calibration.network import Network, open_network, scores_of
from mlzsl.calibration.photos import Photos
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress

PHOTOS = 16  # that layers are ranked on; each layer is run alone on all of them
INTEGER_SPEEDUP = 4  # multiply-adds a cycle of integer units, relative to fp32
HALF_SPEEDUP = 2  # the same of fp16 and bf16
FIRST_SHARE = 1 / 8  # of the multiply-adds, in float in the first candidate: it costs little time


@dataclass(frozen=True)
class LayerSensitivity:
    """How much quantizing one layer changes the scores.

    Attributes:
        layer: its name.
        sensitivity: mean difference of a score with this layer alone quantized.
        share: of all layers' multiply-adds.
    """

    layer: str
    sensitivity: float
    share: float

    @property
    def per_mac(self) -> float:
        """Squared sensitivity per multiply-add; squared, as independent errors add up in squares."""
        return self.sensitivity**2 / self.share


@dataclass(frozen=True)
class Candidate:
    """A network with some layers in float, and what it costs.

    Attributes:
        kept: names of the layers in float.
        drop: accuracy drop.
        quantized_share: of the layers' multiply-adds, in quantized layers.
        half: whether the layers in float are in fp16 or bf16, not in fp32.
    """

    kept: tuple[str, ...]
    accuracy_drop: AccuracyDrop
    quantized_share: float
    half: bool = False

    @property
    def speedup(self) -> float:
        """Estimated speed of the layers relative to fp32, from multiply-adds alone."""
        kept = (1 - self.quantized_share) / (HALF_SPEEDUP if self.half else 1)
        return 1 / (kept + self.quantized_share / INTEGER_SPEEDUP)

    def to_json(self) -> dict[str, object]:
        """The candidate for `--json`."""
        return {
            "kept": list(self.kept),
            "points": self.accuracy_drop.points,
            "top_agreement": self.accuracy_drop.agreement.top_agreement,
            "quantized_share": self.quantized_share,
            "estimated_speedup": self.speedup,
        }


def rank_layers(
    network: Network,
    layers: Sequence[str],
    quantize: Callable[[Sequence[str]], onnx.ModelProto],
    photos: Photos,
    threads: int | None,
    quiet: bool,
) -> list[LayerSensitivity]:
    """Quantize each layer alone and rank the layers by `LayerSensitivity.per_mac`, largest first.

    Args:
        network: in fp32.
        layers: which to rank.
        quantize: makes the network with some layers quantized.
        photos: the first PHOTOS of them are run for every layer.
        threads: CPU threads at most.
        quiet: show no progress.
    """
    few = photos.first(PHOTOS)
    reference = scores_of(open_network(network.model, threads=threads), few.batches())
    ranked = []
    with progress("ranking", len(layers), "layers", quiet) as bar:
        for layer in layers:
            scores = scores_of(open_network(quantize([layer]), threads=threads), few.batches())
            ranked.append(
                LayerSensitivity(layer, float(np.abs(scores - reference).mean()), quantized_share(network, [layer]))
            )
            bar.advance()
    return sorted(ranked, key=lambda entry: -entry.per_mac)


def search_mixed_precision(
    first: Candidate,
    ranked: Sequence[LayerSensitivity],
    evaluate: Callable[[tuple[str, ...]], Candidate],
    settings: Settings,
) -> list[Candidate]:
    """Keep more of the most sensitive layers in float until the accuracy drop is within the settings.

    The first step keeps the most sensitive layers that have FIRST_SHARE of the multiply-adds, each next one half as
    many more.

    Args:
        first: the candidate with every layer quantized.
        ranked: the result of `rank_layers`.
        evaluate: measures the candidate that keeps some layers in float.
        settings: the largest drop and the lowest agreement.

    Returns:
        `first` and every candidate tried; the last one is within the settings.

    Raises:
        FailureError: the drop exceeds the settings with half of the layers in float.
    """
    candidates = [first]
    shares = np.cumsum([entry.share for entry in ranked])
    count = max(1, int(np.searchsorted(shares, FIRST_SHARE, side="right")))
    while not candidates[-1].accuracy_drop.within(settings):
        if count > len(ranked) / 2:
            last = candidates[-1].accuracy_drop
            raise FailureError(
                f"with {len(candidates[-1].kept)} of {len(ranked)} layers in float, {last.points:.2f} points of mAP "
                f"are lost and the top-{last.agreement.top_k} agreement is {last.agreement.top_agreement:.1%}; "
                f"--max-drop {settings.max_drop:g} and --min-agreement {settings.min_agreement:g} are exceeded; allow "
                "more, or try another --method, more photos, or --precision fp16."
            )
        candidates.append(evaluate(tuple(entry.layer for entry in ranked[:count])))
        count += max(1, count // 2)
    return candidates


def quantized_share(network: Network, layers: Sequence[str]) -> float:
    """The fraction of all convolutions' multiply-adds that `layers` have."""
    products = multiply_adds(network)
    return sum(products[layer] for layer in layers) / sum(products.values())


def multiply_adds(network: Network) -> dict[str, int]:
    """Multiply-adds per image of every convolution with constant weights, by name."""
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(network.model).graph.value_info
    }
    return {
        node.name: int(np.prod(shapes[node.output[0]][2:])) * int(np.prod(network.constants[node.input[1]].dims))
        for node in network.nodes
        if node.op_type == "Conv" and node.input[1] in network.constants
    }

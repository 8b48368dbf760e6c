"""Which layers suffer from being quantized, and how many of the worst must stay float for the drop to be small."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from mlzsl.calibration.drop import Drop
from mlzsl.calibration.network import Network
from mlzsl.calibration.photos import Photos
from mlzsl.calibration.session import open_network, scores_of
from mlzsl.cli.errors import FailureError
from mlzsl.cli.progress import progress

PHOTOS = 16  # that rank layers; each layer is run alone on all of them
INTEGER_IS_FASTER = 4  # times: what integer units do beside fp32's, in multiply-adds a cycle
CHEAP = 1 / 8  # share of multiply-adds that the first rung keeps: little time, and few photos cannot tell less apart
HALF_IS_FASTER = 2  # the same of fp16 and bf16


@dataclass(frozen=True)
class Sensitivity:
    """A layer, and what quantizing it alone does.

    Attributes:
        layer: its name.
        harm: mean difference of a score.
        share: of all layers' multiply-adds, what keeping it costs.
    """

    layer: str
    harm: float
    share: float

    @property
    def worth(self) -> float:
        """Harm that keeping the layer takes away, for what it costs; squares, as those of independent errors add up."""
        return self.harm**2 / self.share


@dataclass(frozen=True)
class Step:
    """One rung of the ladder.

    Attributes:
        kept: the layers that stay float.
        drop: what quantizing all others costs.
        quantized_share: of the layers' multiply-adds, in quantized layers.
        half: whether the layers kept are in fp16 or bf16, not in fp32.
    """

    kept: tuple[str, ...]
    drop: Drop
    quantized_share: float
    half: bool = False

    @property
    def speed(self) -> float:
        """How many times as fast as in fp32 the layers would be, from multiply-adds alone: an estimate."""
        kept = (1 - self.quantized_share) / (HALF_IS_FASTER if self.half else 1)
        return 1 / (kept + self.quantized_share / INTEGER_IS_FASTER)

    def to_json(self) -> dict[str, object]:
        """The rung, for machines."""
        return {
            "kept": list(self.kept),
            "points": self.drop.points,
            "top_agreement": self.drop.agreement.top_agreement,
            "quantized_share": self.quantized_share,
            "estimated_speed": self.speed,
        }


@dataclass(frozen=True)
class Limits:
    """What may be lost.

    Attributes:
        drop: points of mAP, where the photos have labels.
        agreement: how many of the best labels must stay, in percent.
    """

    drop: float
    agreement: float

    def kept_by(self, drop: Drop) -> bool:
        """Whether a drop is within them."""
        return drop.points <= self.drop and 100 * drop.agreement.top_agreement >= self.agreement


Quantize = Callable[[Sequence[str]], onnx.ModelProto]  # layers to quantize -> the network
Measure = Callable[[onnx.ModelProto], Drop]


def rank_layers(
    network: Network, layers: Sequence[str], quantize: Quantize, photos: Photos, threads: int | None, quiet: bool
) -> list[Sensitivity]:
    """Quantize each layer alone and rank the layers by `Sensitivity.worth`, the one to keep first in front.

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
            harm = float(np.abs(scores - reference).mean())
            ranked.append(Sensitivity(layer, harm, quantized_share(network, [layer])))
            bar.advance()
    return sorted(ranked, key=lambda entry: -entry.worth)


def climb(
    network: Network,
    ranked: Sequence[Sensitivity],
    quantize: Quantize,
    measure: Measure,
    limits: Limits,
    steps: list[Step],
    half: bool = False,
) -> None:
    """Keep more and more of the first layers float until the limits are kept; `steps` grows by a rung each time.

    The first rung keeps those of the first layers that have CHEAP of the multiply-adds, each other half as many more.

    Args:
        network: in fp32.
        ranked: as `rank_layers` gives them.
        quantize: makes the network with some layers quantized.
        measure: finds the drop of a network.
        limits: what may be lost.
        steps: the rungs so far; the last one's drop decides whether to go on.
        half: whether `quantize` puts the layers kept in half precision.

    Raises:
        FailureError: half of the layers are float and the limits are still not kept.
    """
    count = max(1, int(np.searchsorted(np.cumsum([entry.share for entry in ranked]), CHEAP, side="right")))
    while not limits.kept_by(steps[-1].drop):
        if count > len(ranked) / 2:
            last = steps[-1].drop
            raise FailureError(
                f"with {len(steps[-1].kept)} of {len(ranked)} layers in float {last.points:.2f} points of mAP are "
                f"lost and {last.agreement.top_agreement:.1%} of the best labels stay, beyond --max-drop "
                f"{limits.drop:g} and --min-agreement {limits.agreement:g}; allow more, or try another --method, more "
                "photos, or --precision fp16."
            )
        kept = tuple(entry.layer for entry in ranked[:count])
        layers = [entry.layer for entry in ranked[count:]]
        steps.append(take_step(network, layers, kept, quantize, measure, half))
        count += max(1, count // 2)


def take_step(
    network: Network,
    layers: Sequence[str],
    kept: tuple[str, ...],
    quantize: Quantize,
    measure: Measure,
    half: bool = False,
) -> Step:
    """Measure the network with `layers` quantized and `kept` float."""
    return Step(kept, measure(quantize(layers)), quantized_share(network, layers), half)


def quantized_share(network: Network, layers: Sequence[str]) -> float:
    """The share of all convolutions' multiply-adds that `layers` have."""
    products = multiply_adds(network)
    return sum(products[layer] for layer in layers) / sum(products.values())


def multiply_adds(network: Network) -> dict[str, int]:
    """Multiply-adds an image of every convolution with constant weights, by its name."""
    inferred = onnx.shape_inference.infer_shapes(network.model).graph
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in inferred.value_info
    }
    return {
        node.name: int(np.prod(shapes[node.output[0]][2:])) * int(np.prod(network.constants[node.input[1]].dims))
        for node in network.nodes
        if node.op_type == "Conv" and node.input[1] in network.constants
    }

"""How far an engine of each precision may be from its reference. Defaults: a user tightens them."""

from dataclasses import dataclass

from mlzsl.cli.errors import UsageError


@dataclass(frozen=True)
class Limits:
    """What an engine must keep to.

    Attributes:
        largest: largest difference of a score.
        mean: mean difference of a score.
        flipped: decisions that differ, in percent of all. Held on photos only, as are the next two: a golden sample
            of a few pictures is too small for shares.
        top_agreement: best labels that agree, in percent, at least.
        drop: mAP lost on labelled photos, seen or unseen, in points (hundredths).
        variation: largest difference between a picture's scores in one batch and in another.
    """

    largest: float
    mean: float
    flipped: float
    top_agreement: float
    drop: float
    variation: float


# fp32 engines differ from PyTorch by the order of their sums, 1e-6 at most as measured. The others stand above what two
# systems on a ResNet-50 differed by on some hundred photos: fp16 by 0.004 and 0.016 at most, bf16 by 0.04 and 0.1, INT8
# with its worst layers float by 0.13 and 0.35; in the mean 1e-4, 1e-3 and 2.5e-3. mAP moves where scores nearly tie: in
# fp32 by 0.03 points on 541 photos, in bf16 by 0.1 on these and by less on half of them. The 8-bit limits are what a
# tagger can lose before a person notices.
LIMITS = {
    "fp32": Limits(largest=1e-5, mean=1e-6, flipped=0.01, top_agreement=99.9, drop=0.1, variation=1e-5),
    "fp16": Limits(largest=0.02, mean=1e-3, flipped=0.2, top_agreement=99, drop=0.2, variation=0.01),
    "bf16": Limits(largest=0.15, mean=5e-3, flipped=0.5, top_agreement=98, drop=0.2, variation=0.1),
    "int8": Limits(largest=0.5, mean=0.01, flipped=0.5, top_agreement=97, drop=1, variation=0.1),
    "fp8": Limits(largest=0.5, mean=0.02, flipped=1, top_agreement=97, drop=1, variation=0.1),
}
# Engines whose every run of one batch gives the same bits, whatever else is in flight, by provider. cuDNN and TensorRT
# may choose sums whose order is not fixed.
REPEATS_EXACTLY = frozenset({"CPU", "CPUExecutionProvider"})


def tolerances_for(
    precision: str,
    largest: float | None = None,
    mean: float | None = None,
    flipped: float | None = None,
    top_agreement: float | None = None,
    drop: float | None = None,
) -> Limits:
    """The limits of a precision, some of them replaced.

    Args:
        precision: a key of LIMITS.
        largest: replaces the limit between batches as well.
        mean, flipped, top_agreement, drop: as in `Limits`; None keeps the default.

    Raises:
        UsageError: a limit is negative, or a share above 100 %.
    """
    default = LIMITS[precision]
    asked = {"largest": largest, "mean": mean, "flipped": flipped, "top_agreement": top_agreement, "drop": drop}
    for name, value in asked.items():
        if value is not None and not 0 <= value <= (100 if name in ("flipped", "top_agreement", "drop") else 1):
            raise UsageError(f"a limit of {value:g} on {name.replace('_', ' ')}: out of range.")
    return Limits(
        largest=default.largest if largest is None else largest,
        mean=default.mean if mean is None else mean,
        flipped=default.flipped if flipped is None else flipped,
        top_agreement=default.top_agreement if top_agreement is None else top_agreement,
        drop=default.drop if drop is None else drop,
        variation=default.variation if largest is None else largest,
    )

"""The default tolerances of each precision: how far an engine's scores may be from its reference."""

from dataclasses import dataclass, replace

from mlzsl.cli.errors import UsageError


@dataclass(frozen=True)
class Tolerances:
    """What an engine's scores are tested against.

    Attributes:
        largest: largest difference of a score.
        mean: mean difference of a score.
        flipped: decisions that differ, in percent of all. Tested on photos only, as are the next two: a golden sample
            of a few images is too small for rates.
        top_agreement: top-k labels that agree, in percent, at least.
        accuracy_drop: mAP lost on labelled photos, seen or unseen, in points (hundredths).
        variation: largest difference between an image's scores in one batch and in another.
    """

    largest: float
    mean: float
    flipped: float
    top_agreement: float
    accuracy_drop: float
    variation: float


# Measured on two models with a ResNet-50 and some hundred photos: fp32 engines differ from PyTorch by the order of
# their sums, by 1e-6 at most; fp16 by 0.004 and 0.016 at most, bf16 by 0.04 and 0.1, INT8 with its most sensitive
# layers in float by 0.13 and 0.35; in the mean by 1e-4, 1e-3 and 2.5e-3. mAP changes where scores nearly tie: in fp32
# by 0.03 points on 541 photos, in bf16 by 0.1 on these and by less on half of them. The 8-bit tolerances are what a
# tagger can lose before a person notices.
TOLERANCES = {
    "fp32": Tolerances(largest=1e-5, mean=1e-6, flipped=0.01, top_agreement=99.9, accuracy_drop=0.1, variation=1e-5),
    "fp16": Tolerances(largest=0.02, mean=1e-3, flipped=0.2, top_agreement=99, accuracy_drop=0.2, variation=0.01),
    "bf16": Tolerances(largest=0.15, mean=5e-3, flipped=0.5, top_agreement=98, accuracy_drop=0.2, variation=0.1),
    "int8": Tolerances(largest=0.5, mean=0.01, flipped=0.5, top_agreement=97, accuracy_drop=1, variation=0.1),
    "fp8": Tolerances(largest=0.5, mean=0.02, flipped=1, top_agreement=97, accuracy_drop=1, variation=0.1),
}
# Providers whose repeated runs of a batch are bitwise equal, whatever else is in flight. cuDNN and TensorRT may choose
# sums whose order is not fixed.
REPEATS_EXACTLY = frozenset({"CPU", "CPUExecutionProvider"})


def tolerances_for(
    precision: str,
    largest: float | None = None,
    mean: float | None = None,
    flipped: float | None = None,
    top_agreement: float | None = None,
    accuracy_drop: float | None = None,
) -> Tolerances:
    """The tolerances of a precision, some of them replaced.

    Args:
        precision: a key of TOLERANCES.
        largest: replaces the tolerance between batches (`variation`) as well.
        mean, flipped, top_agreement, accuracy_drop: as in `Tolerances`; None keeps the default.

    Raises:
        UsageError: a tolerance is negative, or a percentage above 100.
    """
    percentages = {"flipped": flipped, "top_agreement": top_agreement, "accuracy_drop": accuracy_drop}
    differences = {"largest": largest, "variation": largest, "mean": mean}
    asked = {name: value for name, value in (differences | percentages).items() if value is not None}
    for name, value in asked.items():
        most = 100 if name in percentages else 1
        if not 0 <= value <= most:
            raise UsageError(f"a tolerance of {value:g} for {name.replace('_', ' ')}: expected 0 to {most}.")
    return replace(TOLERANCES[precision], **asked)

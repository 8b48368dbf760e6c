"""All that the tables report of one array of scores, by name."""

import numpy as np
import numpy.typing as npt

from mlzsl.metrics.average_precision import Bools, evaluate
from mlzsl.metrics.top_k import DEPTHS, evaluate_top

PARTS = ("seen", "unseen")
MEANS = ("mAP", "miAP")
WAYS = ("conventional", "generalized")
SHARES = ("precision", "recall", "F1")
MEASURES = (
    *(f"{part} {mean}" for part in PARTS for mean in MEANS),
    *(f"{way} {share}@{k}" for way in WAYS for k in DEPTHS for share in SHARES),
)


def measures_of(scores: npt.NDArray[np.floating], targets: Bools, seen: Bools) -> dict[str, float]:
    """Every one of `MEASURES`, in [0, 1]; NaN where there is nothing to measure.

    Args:
        scores: of every photo and label, any float dtype [n, L].
        targets: which labels each photo really has, bool [n, L].
        seen: which labels training saw, bool [L].

    Raises:
        FailureError: shapes or dtypes that do not fit each other, or a score that is NaN.
    """
    metrics = evaluate(scores, targets, seen)
    values = {f"{part} {mean}": float(getattr(metrics[part], mean)) for part in PARTS for mean in MEANS}
    top = evaluate_top(scores, targets, seen)
    return values | {
        f"{way} {share}@{at_k.k}": float(getattr(at_k, share)) for way in WAYS for at_k in top[way] for share in SHARES
    }


def chance_of(targets: Bools, seen: Bools) -> dict[str, float]:
    """What random scores are expected to reach, for mAP and miAP.

    Args:
        targets: bool [n, L].
        seen: bool [L].
    """
    metrics = evaluate(np.zeros(targets.shape, np.float32), targets, seen)
    return {f"{part} {mean}": float(getattr(metrics[part], f"chance_{mean}")) for part in PARTS for mean in MEANS}

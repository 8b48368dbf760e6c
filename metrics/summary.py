"""All metrics that the tables report of one array of scores, by name."""

import numpy as np

from mlzsl.metrics.average_precision import Bools, Scores, evaluate
from mlzsl.metrics.top_k import DEFAULT_KS, evaluate_top_k

RANKING_METRICS = tuple((group, metric) for group in ("seen", "unseen") for metric in ("mAP", "miAP"))
TOP_K_METRICS = tuple(
    (protocol, k, metric)
    for protocol in ("conventional", "generalized")
    for k in DEFAULT_KS
    for metric in ("precision", "recall", "F1")
)
METRIC_NAMES = (
    *(f"{group} {metric}" for group, metric in RANKING_METRICS),
    *(f"{protocol} {metric}@{k}" for protocol, k, metric in TOP_K_METRICS),
)


def compute_metrics(scores: Scores, targets: Bools, seen: Bools) -> dict[str, float]:
    """All metrics by the names of `METRIC_NAMES`, in [0, 1]; NaN where there is nothing to measure.

    Args:
        scores: of every photo and label, any float dtype [n, L].
        targets: the true labels of each photo, bool [n, L].
        seen: the labels that training saw, bool [L].

    Raises:
        FailureError: shapes or dtypes do not match, or a score is NaN.
    """
    ranking, top_k = evaluate(scores, targets, seen), evaluate_top_k(scores, targets, seen)
    values = [getattr(ranking[group], metric) for group, metric in RANKING_METRICS]
    values += [getattr(top_k[protocol][DEFAULT_KS.index(k)], metric) for protocol, k, metric in TOP_K_METRICS]
    return dict(zip(METRIC_NAMES, values, strict=True))


def chance_metrics(targets: Bools, seen: Bools) -> dict[str, float]:
    """The mAP and miAP that random scores are expected to reach, by the names of `METRIC_NAMES`.

    Args:
        targets: bool [n, L].
        seen: bool [L].
    """
    metrics = evaluate(np.zeros(targets.shape, np.float32), targets, seen)
    return {f"{group} {metric}": getattr(metrics[group], f"chance_{metric}") for group, metric in RANKING_METRICS}

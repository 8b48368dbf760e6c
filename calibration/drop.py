"""What less precision costs: how far scores and tags moved from the fp32 network's, on the same photos."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import FailureError
from mlzsl.engines.agreement import DECISION, Agreement, decision_thresholds
from mlzsl.engines.agreement import compare as compare_scores
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Scores
from mlzsl.metrics.average_precision import evaluate

PARTS = ("seen", "unseen")
Targets = npt.NDArray[np.bool_]  # [n, L]


@dataclass(frozen=True)
class Drop:
    """The difference between a network's scores and the fp32 network's.

    Attributes:
        agreement: of scores, decisions and best labels.
        mAP: "seen" and "unseen", fp32's and the other's, where the photos have labels of that part.
    """

    agreement: Agreement
    mAP: dict[str, tuple[float, float]]

    @property
    def points(self) -> float:
        """The larger loss of seen or unseen mAP, in points of 100; 0 where the photos have no labels."""
        return max((100 * (before - after) for before, after in self.mAP.values()), default=0.0)

    def to_json(self) -> dict[str, object]:
        """The numbers, for machines."""
        mAP = {part: {"fp32": before, "now": after} for part, (before, after) in self.mAP.items()}
        return self.agreement.to_json() | {"mAP": mAP, "points": self.points}

    def lines(self) -> list[tuple[str, str]]:
        """The numbers, for people: what, and how much."""
        found = self.agreement
        lines = [
            ("photos compared", f"{found.photos:,}"),
            (
                "score difference: largest, 99.9 %, mean",
                f"{found.largest:.1e}, {found.percentile:.1e}, {found.mean:.1e}",
            ),
            (f"decisions that changed (at {DECISION} or the label's own threshold)", f"{found.flip_rate:.3%}"),
            (f"best {found.top_k} labels that stayed", f"{found.top_agreement:.1%}"),
        ]
        for part, (before, after) in self.mAP.items():
            change = f"{before:.4f} → {after:.4f} ({100 * (after - before):+.2f} points)"
            lines.append((f"{part} mAP, fp32 → now", change))
        return lines


def compare(scores: Scores, reference: Scores, manifest: Manifest, targets: Targets | None = None) -> Drop:
    """Compare scores with the fp32 network's.

    Args:
        scores: float32 [n, L].
        reference: of the same photos by the fp32 network, float32 [n, L].
        manifest: gives which labels training saw, and their thresholds.
        targets: what is in the photos, bool [n, L].

    Raises:
        FailureError: a score is not a number.
    """
    if not np.isfinite(scores).all():
        raise FailureError("the network's scores are not finite numbers: it does not stand this precision.")
    agreement = compare_scores(scores, reference, thresholds=decision_thresholds(manifest))
    if targets is None:
        return Drop(agreement, {})
    seen = np.array([label.seen for label in manifest.labels])
    before, after = evaluate(reference, targets, seen), evaluate(scores, targets, seen)
    return Drop(agreement, {part: (before[part].mAP, after[part].mAP) for part in PARTS if before[part].classes})

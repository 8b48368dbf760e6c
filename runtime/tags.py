"""From scores to tags: which labels of a photo are worth writing down."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.text import escape_control_chars
from mlzsl.engines.artifact.manifest import Manifest

DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class Tag:
    """One label that a photo was given.

    Attributes:
        label: its name.
        score: in [0, 1].
        seen: whether training saw photos of it; the others are zero-shot.
    """

    label: str
    score: float
    seen: bool


@dataclass(frozen=True)
class Tagged:
    """What became of one photo: its tags, best first, or the reason why it could not be read.

    Attributes:
        path: as it was given.
        tags: may be empty where thresholds select.
        error: None for a photo that was tagged.
    """

    path: str
    tags: tuple[Tag, ...] = ()
    error: str | None = None

    @property
    def name(self) -> str:
        """The path fit for a terminal: control characters and bytes that are not UTF-8 escaped."""
        return escape_control_chars(self.path)


@dataclass(frozen=True)
class Selection:
    """The rule that makes tags of scores: labels that reach their thresholds, of these the best `top_k`.

    Attributes:
        thresholds: one a label in the manifest's order, or None for no thresholds.
        top_k: how many tags at most, or None for no limit.
        words: the rule as a person would say it.
    """

    thresholds: tuple[float, ...] | None
    top_k: int | None
    words: str

    def to_json(self) -> dict[str, Any]:
        """The rule as it stands in the record of a run."""
        distinct = sorted(set(self.thresholds or ()))
        thresholds = distinct[0] if len(distinct) == 1 else self.thresholds
        return {"top_k": self.top_k, "threshold": thresholds, "rule": self.words}


def choose_selection(manifest: Manifest, top_k: int | None = None, threshold: float | None = None) -> Selection:
    """Decide how tags are selected.

    What is asked for holds alone: `top_k` the best labels whatever their scores, `threshold` every label that
    reaches it, both together the best of those. With neither, the manifest's own thresholds hold where every label
    has one; a model without them gives the best five, as scores of unseen labels lie lower than those of seen ones
    and no single threshold is right for both.

    Raises:
        UsageError: `top_k` is below 1 or `threshold` outside [0, 1].
    """
    count = len(manifest.labels)
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top-k {top_k}: at least one tag is needed.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold}: scores lie from 0 to 1.")
    if threshold is not None:
        words = f"every label that reaches {threshold:g}" + (f", the best {top_k} at most" if top_k else "")
        return Selection((threshold,) * count, top_k, words)
    own = [label.threshold for label in manifest.labels if label.threshold is not None]
    if top_k is None and len(own) == count:
        return Selection(tuple(own), None, "every label that reaches its own threshold")
    top_k = top_k or DEFAULT_TOP_K
    return Selection(None, top_k, f"the best {min(top_k, count)} labels")


def select_tags(scores: npt.NDArray[np.float32], manifest: Manifest, selection: Selection) -> tuple[Tag, ...]:
    """The tags of one photo, best first, ties in the order of the labels.

    Args:
        scores: float32 [L].
        manifest: gives the labels.
        selection: the rule.
    """
    order = np.argsort(-scores, kind="stable")
    if selection.thresholds is not None:
        order = order[(scores >= np.asarray(selection.thresholds, dtype=np.float32))[order]]
    labels = manifest.labels
    return tuple(
        Tag(labels[place].name, round(float(scores[place]), 6), labels[place].seen)
        for place in order[: selection.top_k].tolist()
    )

"""Photos, their tags, and the rule that selects tags by score."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import Fraction
from mlzsl.cli.text import escape_control_chars
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.imaging import DecodedPhoto, ImageInMemory

# The default rule. The score lies between those of the highest F1 of training-free and of evidence on seen labels of
# photos; the number keeps sets of thousands of labels, which have near synonyms, from giving dozens of tags
# (benchmarks/tags.py).
DEFAULT_SCORE = 0.25
DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class Photo:
    """A photo to tag.

    Attributes:
        path: recorded with the tags; the file to read if there is nothing else.
        content: the file's bytes, for a photo in an archive or in memory; or an image in memory, Pillow's or an array.
        problem: why there is nothing to read; such a photo is recorded with this error.
        transient: whether the problem is a failure of the machine.
        decoded: the network's input, if the photo is already decoded.
        container: the shard or table that it comes from.
        after_others: whether photos that need not be read come before it, where a job resumes.
    """

    path: str
    content: bytes | ImageInMemory | None = None
    problem: str | None = None
    transient: bool = False
    decoded: DecodedPhoto | None = field(default=None, compare=False, repr=False)
    container: str | None = field(default=None, compare=False)
    after_others: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Tag:
    """A label predicted for a photo.

    Attributes:
        label: its name.
        score: in [0, 1].
        seen: whether training had photos of it; otherwise it is zero-shot.
    """

    label: str
    score: Fraction
    seen: bool


@dataclass(frozen=True)
class Tagged:
    """A photo with its tags, best first, or with the reason why it could not be read.

    Attributes:
        path: as it was given.
        tags: may be empty where thresholds select.
        error: None for a photo that was tagged.
        note: what is wrong with the file although it was tagged; None for nothing.
        transient: whether the error is a failure of the machine, so that another try may succeed. Files of tags have no
            such photos.
    """

    path: str
    tags: tuple[Tag, ...] = ()
    error: str | None = None
    note: str | None = None
    transient: bool = False

    @property
    def name(self) -> str:
        """The path for a terminal: control characters and bytes that are not UTF-8 are escaped."""
        return escape_control_chars(self.path)


@dataclass(frozen=True)
class Selection:
    """The rule that selects tags by score: labels that reach their thresholds, of these the best `top_k`.

    Attributes:
        thresholds: one a label in the manifest's order; None for none.
        top_k: maximum number of tags; None for no limit.
        description: the rule in plain words.
    """

    thresholds: tuple[float, ...] | None
    top_k: int | None
    description: str

    def to_json(self) -> dict[str, Any]:
        """The rule as it is stored with a job and with its run."""
        distinct = sorted(set(self.thresholds or ()))
        thresholds = distinct[0] if len(distinct) == 1 else self.thresholds
        return {"top_k": self.top_k, "threshold": thresholds, "rule": self.description}


def choose_selection(manifest: Manifest, top_k: int | None = None, threshold: float | None = None) -> Selection:
    """Decide how tags are selected.

    `top_k` selects the best labels whatever their scores, `threshold` every label that reaches it, both together the
    best of those. With neither, the manifest's own thresholds apply if every label has one; otherwise the default rule:
    the best DEFAULT_TOP_K of the labels that reach DEFAULT_SCORE, so that a photo of none of the labels gets no tag.

    Raises:
        UsageError: `top_k` is below 1 or `threshold` outside [0, 1].
    """
    count = len(manifest.labels)
    if top_k is not None and top_k < 1:
        raise UsageError(f"--top-k {top_k}: expected 1 or more.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold {threshold}: expected a score from 0 to 1.")
    if threshold is not None:
        description = f"every label that reaches {threshold:g}" + (f", the best {top_k} at most" if top_k else "")
        return Selection((threshold,) * count, top_k, description)
    own = [label.threshold for label in manifest.labels if label.threshold is not None]
    if top_k is None and len(own) == count:
        return Selection(tuple(own), None, "every label that reaches its own threshold")
    if top_k is None:
        description = f"of the best {DEFAULT_TOP_K} labels, those that reach {DEFAULT_SCORE:g}"
        return Selection((DEFAULT_SCORE,) * count, DEFAULT_TOP_K, description)
    return Selection(None, top_k, f"the best {min(top_k, count)} labels")


def select_tags(scores: npt.NDArray[np.float32], manifest: Manifest, selection: Selection) -> tuple[Tag, ...]:
    """The tags of one photo, best first, ties in the order of the labels.

    Args:
        scores: float32 [L].
        manifest: of the model, with its labels.
        selection: the rule.
    """
    order = np.argsort(-scores, kind="stable")
    if selection.thresholds is not None:
        order = order[(scores >= np.asarray(selection.thresholds, dtype=np.float32))[order]]
    labels = manifest.labels
    return tuple(
        Tag(labels[index].name, round(float(scores[index]), 6), labels[index].seen)
        for index in order[: selection.top_k].tolist()
    )

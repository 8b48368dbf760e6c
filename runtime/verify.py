"""Does an engine give the scores that it should? Against the golden sample anywhere, against PyTorch where it is."""

import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mlzsl.engines.agreement import Agreement, combined, compare, decision_thresholds
from mlzsl.engines.engine import Engine, Running
from mlzsl.engines.modelfile import Golden, Images, Scores, read_golden
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.pipeline import DEFAULT_BATCH_SIZE, ReadableBatches
from mlzsl.shell.errors import FailureError, UsageError
from mlzsl.shell.outputs import sha256_of_file
from mlzsl.shell.progress import progress

# Largest difference of a score from the fp32 PyTorch reference, and between one batch and another. bf16 keeps 8 bits of
# a float32's 24: 0.07 was the largest difference over 136 photos and 1,000 classes of a ResNet-50.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.1}


@dataclass(frozen=True)
class Check:
    """One thing that was checked: a difference, and the largest that is allowed."""

    name: str
    difference: float
    allowed: float
    agreement: Agreement | None = None

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        return self.difference <= self.allowed


@dataclass(frozen=True)
class Verification:
    """What was found out about one engine."""

    model: Path
    running: Running
    checks: tuple[Check, ...]
    unreadable: int = 0

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


def verify_golden(engine: Engine, model: Path, tolerance: float | None = None) -> list[Check]:
    """Check an engine against the golden sample of its model file; needs neither PyTorch nor photos.

    Checked are the scores, against those of the fp32 PyTorch reference, and their independence of the batch: each
    picture alone, in batches of several sizes, in other places, and among many others.

    Args:
        engine: opened from `model`.
        model: the model file.
        tolerance: the largest difference of a score; None takes TOLERANCE of the precision that runs.
    """
    golden = read_golden(model)
    scores = engine.scores(golden.images)
    agreement = compare(scores, golden.scores, thresholds=decision_thresholds(engine.manifest))
    allowed = _allowed(engine, tolerance)
    return [
        Check("golden sample against PyTorch", agreement.largest, allowed, agreement),
        Check("same scores whatever the batch", batch_variation(engine, golden, scores), allowed),
    ]


def batch_variation(engine: Engine, golden: Golden, together: Scores) -> float:
    """The largest difference between a picture's scores in one batch, `together`, and in other batches."""
    count = len(golden.images)
    sizes = sorted({1, 2, 3, max(count - 1, 1)})
    places = [list(range(start, min(start + size, count))) for size in sizes for start in range(0, count, size)]
    places += [list(range(count))[::-1], [place % count for place in range(2 * count + 1)]]
    batches = (np.ascontiguousarray(golden.images[batch]) for batch in places)
    return max(
        float(np.abs(scores - together[batch]).max())
        for batch, scores in zip(places, engine.run(batches), strict=True)
    )  # fmt: skip


def verify_against(
    engine: Engine,
    model: Path,
    checkpoint: Path,
    photos: Iterable[str],
    embeddings: str | None = None,
    tolerance: float | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    quiet: bool = False,
) -> tuple[Check, int]:
    """Check an engine on photos against the PyTorch system in the checkpoint that its model was exported from.

    Args:
        engine: opened from `model`.
        model: the model file.
        checkpoint: what `mlzsl-train` wrote; its SHA-256 must be the one in the manifest.
        photos: image files; those that cannot be read are left out and counted.
        embeddings: where the training's embeddings are now; None for where they were.
        tolerance: as for `verify_golden`.
        batch_size: photos a batch.
        threads: how many decode at once.
        quiet: show no progress.

    Returns:
        The check, and how many photos could not be read.

    Raises:
        UsageError: PyTorch is not installed, or the checkpoint is not the model's.
        FailureError: not one photo could be read.
    """
    _check_source(engine, model, checkpoint)
    reference_scores = _import_reference()
    preprocessing = Preprocessing.from_json(engine.manifest.preprocessing)
    batches = ReadableBatches(photos, preprocessing, batch_size, threads)
    ours, theirs = itertools.tee(batches.images())
    parts = []
    with progress("comparing", None, "photos", quiet) as bar:
        pairs = zip(engine.run(ours), reference_scores(checkpoint, model, theirs, embeddings), strict=True)
        for scores, reference in pairs:
            parts.append(compare(scores, reference, thresholds=decision_thresholds(engine.manifest)))
            bar.advance(len(scores))
    if not parts:
        raise FailureError(f"none of the {batches.unreadable} images could be read; nothing was compared.")
    agreement = combined(parts)
    check = Check("photos against PyTorch", agreement.largest, _allowed(engine, tolerance), agreement)
    return check, batches.unreadable


def _allowed(engine: Engine, tolerance: float | None) -> float:
    return TOLERANCE[engine.running.precision] if tolerance is None else tolerance


def _check_source(engine: Engine, model: Path, checkpoint: Path) -> None:
    if not checkpoint.is_file():
        raise UsageError(
            f"--against {checkpoint}: no checkpoint is there; name the one that {model} was exported from."
        )
    expected = engine.manifest.sources.get("checkpoint", "")
    found = sha256_of_file(checkpoint)
    if found != expected:
        raise UsageError(
            f"--against {checkpoint}: SHA-256 {found[:12]}…, but {model} was exported from a checkpoint with "
            f"{expected[:12] or 'none'}…; name that one, or export this one with mlzsl-export."
        )


ReferenceScores = Callable[[Path, Path, Iterable[Images], str | None], Iterator[Scores]]


def _import_reference() -> ReferenceScores:
    """The PyTorch reference, imported only when it is asked for."""
    try:
        module = importlib.import_module("mlzsl.export.reference")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mlzsl"):
            raise
        raise UsageError(
            f"--against: {error.name} is not installed, and comparing with PyTorch needs it; "
            "run `pip install 'mlzsl[train]'`."
        ) from error
    return cast(ReferenceScores, module.reference_scores)

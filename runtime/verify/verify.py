"""Verifies an engine's scores: on the model file's golden sample, and on photos against a reference."""

import hashlib
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlzsl.cli.errors import FailureError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import progress
from mlzsl.cli.text import none_readable
from mlzsl.engines.agreement import TOP_K, Agreement, combined, compare, decision_thresholds
from mlzsl.engines.artifact.certificate import Certificate, Check, Measurement
from mlzsl.engines.artifact.engine_file import golden_sample
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import Engine, ExecutionInfo, available_cpus
from mlzsl.engines.tolerances import REPEATS_EXACTLY, Tolerances, tolerances_for
from mlzsl.metrics.average_precision import evaluate
from mlzsl.runtime.labelled import LabelledPhotos
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE, ReadableBatches
from mlzsl.runtime.verify.reference import Reference

GOLDEN, INVARIANCE, PHOTOS, RANKING = "golden sample", "invariance", "photos", "true labels"
BLACK = -1  # index of a black image: padding
REPEATS = 3
Batch = list[int]  # indices of images


@dataclass(frozen=True)
class Verification:
    """The checks of one engine.

    Attributes:
        model: the file.
        manifest: its manifest.
        execution: backend, provider, device and precision.
        reference, reference_sha256: what its scores were compared with.
        checks: what was measured.
        agreement: with the reference, on photos if there are any, else on the golden sample.
        unreadable: number of photos that could not be read and were skipped.
    """

    model: Path
    manifest: Manifest
    execution: ExecutionInfo
    reference: str
    reference_sha256: str
    checks: tuple[Check, ...]
    agreement: Agreement
    unreadable: int = 0

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    @property
    def exceeded(self) -> list[tuple[Check, Measurement]]:
        """The measurements that exceed their tolerances."""
        return [(check, found) for check in self.checks for found in check.measurements if not found.passed]

    def certificate(self) -> Certificate:
        """The certificate of an engine that passed.

        Raises:
            FailureError: it did not pass.
        """
        if not self.passed:
            raise FailureError(f"{self.model}: exceeds its tolerances and cannot be certified.")
        return Certificate(
            **asdict(self.execution),
            network_sha256=self.manifest.network_sha256,
            reference=self.reference,
            reference_sha256=self.reference_sha256,
            checks=self.checks,
            mlzsl=importlib.metadata.version("mlzsl"),
            machine=f"{platform.system()} {platform.machine()}, {available_cpus()} cores",
            made=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def verify(
    engine: Engine, model: str | os.PathLike[str], tolerances: Tolerances | None = None, top_k: int = TOP_K
) -> Verification:
    """Check an engine on the golden sample of its model file; needs neither PyTorch nor photos.

    The scores must be those of the fp32 PyTorch reference, and must not depend on batch size, position, neighbours,
    run or number in flight.

    Args:
        engine: opened from `model`.
        model: the model file.
        tolerances: of its scores; None for the defaults of its precision.
        top_k: number of highest-scoring labels to compare.
    """
    tolerances = tolerances or tolerances_for(engine.execution.precision)
    golden = golden_sample(model)
    agreement = compare(engine.scores(golden.images), golden.scores, top_k, decision_thresholds(engine.manifest))
    count, data = len(golden.images), hashlib.sha256(golden.images.tobytes()).hexdigest()
    checks = (
        Check(GOLDEN, count, data, _differences(agreement, tolerances, few_photos=True)),
        Check(INVARIANCE, count, data, _invariance(engine, golden.images, tolerances)),
    )
    reference = "PyTorch, golden sample"
    return Verification(
        Path(model), engine.manifest, engine.execution, reference, engine.manifest.golden_sha256, checks, agreement
    )


def verify_on_photos(
    engine: Engine,
    model: str | os.PathLike[str],
    reference: Reference,
    photos: Iterable[str] | LabelledPhotos,
    tolerances: Tolerances | None = None,
    top_k: int = TOP_K,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    quiet: bool = False,
) -> Verification:
    """Check an engine as `verify` does, and on photos against a reference.

    Memory does not grow with the number of photos, except for labelled ones, whose scores are kept.

    Args:
        engine, model, tolerances, top_k: as for `verify`.
        reference: see `runtime.verify.reference.open_reference`.
        photos: image files; unreadable ones are skipped and counted. On labelled ones, mAP is measured too.
        batch_size: photos per batch.
        threads: that decode; None for one per core.
        quiet: show no progress.

    Raises:
        FailureError: not one photo could be read.
    """
    tolerances = tolerances or tolerances_for(engine.execution.precision)
    first = verify(engine, model, tolerances, top_k)
    labelled = photos if isinstance(photos, LabelledPhotos) else None
    paths = photos.paths if isinstance(photos, LabelledPhotos) else photos
    batches = ReadableBatches(paths, engine.manifest, batch_size, threads)
    thresholds = decision_thresholds(engine.manifest)
    digest = hashlib.sha256()
    ours, theirs = itertools.tee(_hashed(batches.images(), digest))
    kept: list[tuple[Scores, Scores]] = []

    def parts() -> Iterator[Agreement]:
        with progress("comparing", None, "photos", quiet) as bar:
            for scores, expected in zip(engine.run(ours), reference.scores(theirs), strict=True):
                if labelled is not None:
                    kept.append((scores, expected))
                yield compare(scores, expected, top_k, thresholds)
                bar.advance(len(scores))

    agreements = parts()
    if (start := next(agreements, None)) is None:
        reason = none_readable(len(batches.unreadable), batches.first_error)
        raise FailureError(f"{reason}; nothing was compared.")
    agreement = combined(itertools.chain([start], agreements))
    data = digest.hexdigest()
    checks = [*first.checks, Check(PHOTOS, agreement.photos, data, _differences(agreement, tolerances))]
    if labelled is not None:
        targets = np.delete(labelled.targets, batches.unreadable, axis=0)
        scores, expected = map(np.concatenate, zip(*kept, strict=True))
        checks.append(_ranking(engine.manifest, scores, expected, targets, data, tolerances))
    return Verification(
        Path(model),
        engine.manifest,
        engine.execution,
        reference.description,
        reference.sha256,
        tuple(checks),
        agreement,
        len(batches.unreadable),
    )


def _differences(agreement: Agreement, tolerances: Tolerances, few_photos: bool = False) -> tuple[Measurement, ...]:
    """The measurements of an agreement; percentages of a few photos have no tolerance."""
    flipped, top = (None, None) if few_photos else (tolerances.flipped, tolerances.top_agreement)
    best = f"top-{agreement.top_k}"
    return (
        Measurement("largest difference", agreement.largest, at_most=tolerances.largest),
        Measurement("mean difference", agreement.mean, at_most=tolerances.mean),
        Measurement("99.9th percentile", agreement.percentile),
        Measurement("flipped tags", 100 * agreement.flip_rate, "%", at_most=flipped),
        Measurement(f"{best} agreement", 100 * agreement.top_agreement, "%", at_least=top),
        Measurement(f"photos with the same {best}", 100 * agreement.same_top_rate, "%"),
    )


def _invariance(engine: Engine, images: Images, tolerances: Tolerances) -> tuple[Measurement, ...]:
    exact = ("run", "number in flight") if engine.execution.provider in REPEATS_EXACTLY else ()
    found = variations(engine, images, decision_thresholds(engine.manifest))
    flipped = 100 * sum(each.flipped for each in found) / sum(each.decisions for each in found)
    return (
        *(
            Measurement(
                f"other {each.changed}",
                each.largest,
                at_most=0.0 if each.changed in exact else tolerances.variation,
            )
            for each in found
        ),
        Measurement("flipped tags", flipped, "%", at_most=tolerances.flipped),
    )


def _ranking(
    manifest: Manifest,
    scores: Scores,
    expected: Scores,
    targets: npt.NDArray[np.bool_],
    photos_sha256: str,
    tolerances: Tolerances,
) -> Check:
    """mAP and miAP of engine and reference in points, on seen and unseen labels that photos have."""
    seen = np.array([label.seen for label in manifest.labels])
    ours, theirs = evaluate(scores, targets, seen), evaluate(expected, targets, seen)
    measurements = []
    for part, measure in itertools.product(("seen", "unseen"), ("mAP", "miAP")):
        engine, reference = (100 * getattr(found[part], measure) for found in (ours, theirs))
        if not np.isnan(reference):
            name, tolerance = f"{part} {measure}", tolerances.accuracy_drop if measure == "mAP" else None
            measurements += [
                Measurement(f"{name} of the reference", reference, "points"),
                Measurement(name, engine, "points"),
                Measurement(f"{name} lost", reference - engine, "points", at_most=tolerance),
            ]
    targets_sha256 = sha256_of_bytes(str(targets.shape).encode(), np.packbits(targets).tobytes())
    data = sha256_of_bytes(photos_sha256.encode(), targets_sha256.encode())
    return Check(RANKING, len(targets), data, tuple(measurements))


def _hashed(batches: Iterable[Images], digest: "hashlib._Hash") -> Iterator[Images]:
    """Add the bytes of all images to the digest; it does not depend on the batch size."""
    for batch in batches:
        digest.update(batch.data)
        yield batch


# ---- invariance -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variation:
    """How far the scores of images differ when one condition changes.

    Attributes:
        changed: "batch size", "position in the batch", "neighbours", "run" or "number in flight".
        largest: largest difference of a score; NaN if a score is NaN.
        flipped: decisions that differ.
        decisions: how many there are.
    """

    changed: str
    largest: float
    flipped: int
    decisions: int


def variations(engine: Engine, images: Images, thresholds: npt.NDArray[np.floating]) -> list[Variation]:
    """Score images again under conditions that must not matter, and compare with their scores in one batch.

    Args:
        engine: scores them.
        images: uint8 [n, S, S, 3].
        thresholds: the threshold of each label, [L].
    """
    count = len(images)
    whole = list(range(count))
    expected = engine.scores(images)
    padded_images = np.concatenate([images, np.zeros_like(images[:1])])  # BLACK is the last

    def inputs(batches: Iterable[Batch]) -> Iterable[Images]:
        return (np.ascontiguousarray(padded_images[batch]) for batch in batches)

    def variation(changed: str, batches: list[Batch], in_flight: bool = True) -> Variation:
        found = list(engine.run(inputs(batches)) if in_flight else map(engine.scores, inputs(batches)))
        indices = np.concatenate([np.array(batch) for batch in batches])
        scores, same = np.concatenate(found)[indices != BLACK], expected[indices[indices != BLACK]]
        return Variation(
            changed,
            largest=float(np.abs(scores.astype(np.float64) - same).max()),
            flipped=int(((scores >= thresholds) != (same >= thresholds)).sum()),
            decisions=scores.size,
        )

    sizes = sorted({1, 2, 3, max(count - 1, 1)})
    of_sizes = [whole[start : start + size] for size in sizes for start in range(0, count, size)]
    padded = [[index] + [BLACK] * (count - 1) for index in whole]
    return [
        variation("batch size", [*of_sizes, [index % count for index in range(2 * count + 1)]]),
        variation("position in the batch", [whole[::-1], whole[1:] + whole[:1]]),
        variation("neighbours", [*padded, [*whole, BLACK, BLACK]]),
        variation("run", [whole] * REPEATS, in_flight=False),
        variation("number in flight", [whole] * (engine.in_flight + 1)),
    ]

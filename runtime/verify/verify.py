"""Does an engine give the scores that it should? On the golden sample anywhere, on photos against a reference."""

import hashlib
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mlzsl.cli.errors import FailureError
from mlzsl.cli.outputs import sha256_of_bytes
from mlzsl.cli.progress import progress
from mlzsl.engines.agreement import TOP_K, Agreement, combined, compare, decision_thresholds
from mlzsl.engines.artifact.certificate import Certificate, Check, Measurement
from mlzsl.engines.artifact.engine_file import golden_sample
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores
from mlzsl.engines.engine import Engine, ExecutionInfo, available_cpus
from mlzsl.engines.tolerances import REPEATS_EXACTLY, Tolerances, tolerances_for
from mlzsl.imaging import Preprocessing
from mlzsl.runtime.labelled import LabelledPhotos, levels, targets_sha256
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE, ReadableBatches
from mlzsl.runtime.verify.invariance import variations
from mlzsl.runtime.verify.reference import Reference

GOLDEN, INVARIANCE, PHOTOS, RANKING = "golden sample", "invariance", "photos", "true labels"


@dataclass(frozen=True)
class Verification:
    """What was found out about one engine.

    Attributes:
        model: the file.
        manifest: its manifest.
        running: what ran it.
        reference: what its scores were compared with, and `reference_sha256` of that.
        checks: what was measured.
        agreement: with the reference, on the photos where there are some, else on the golden sample.
        unreadable: photos that could not be read and were left out.
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
        return all(check.passed for check in self.checks)

    @property
    def exceeded(self) -> list[tuple[Check, Measurement]]:
        """The measurements that are beyond their limits."""
        return [(check, found) for check in self.checks for found in check.measurements if not found.passed]

    def certificate(self) -> Certificate:
        """The certificate of an engine that passed.

        Raises:
            FailureError: it did not.
        """
        if not self.passed:
            raise FailureError(f"{self.model}: is beyond its limits and cannot be certified.")
        return Certificate(
            network_sha256=self.manifest.network_sha256,
            backend=self.execution.backend,
            version=self.execution.version,
            provider=self.execution.provider,
            device=self.execution.device,
            precision=self.execution.precision,
            reference=self.reference,
            reference_sha256=self.reference_sha256,
            checks=self.checks,
            mlzsl=importlib.metadata.version("mlzsl"),
            machine=f"{platform.system()} {platform.machine()}, {available_cpus()} cores",
            made=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def verify(
    engine: Engine, model: str | os.PathLike[str], limits: Tolerances | None = None, top_k: int = TOP_K
) -> Verification:
    """Check an engine against the golden sample of its model file; needs neither PyTorch nor photos.

    Checked are the scores, against those of the fp32 PyTorch reference, and that they are the picture's own: each is
    scored again in batches of other sizes, in other places, beside other pictures, repeatedly, and with more in
    flight.

    Args:
        engine: opened from `model`.
        model: the model file.
        limits: what the engine must keep to; None takes the defaults of the precision that runs.
        top_k: how many best labels are compared.
    """
    limits = limits or tolerances_for(engine.execution.precision)
    golden = golden_sample(model)
    thresholds = decision_thresholds(engine.manifest)
    agreement = compare(engine.scores(golden.images), golden.scores, top_k, thresholds)
    data = _sha256_of_pictures([golden.images])
    checks = (
        Check(GOLDEN, len(golden.images), data, _differences(agreement, limits, shares_count=False)),
        Check(INVARIANCE, len(golden.images), data, _invariance(engine, golden.images, limits)),
    )
    return Verification(
        Path(model),
        engine.manifest,
        engine.execution,
        "PyTorch, golden sample",
        engine.manifest.golden_sha256,
        checks,
        agreement,
    )


def verify_on_photos(
    engine: Engine,
    model: str | os.PathLike[str],
    reference: Reference,
    photos: Iterable[str] | LabelledPhotos,
    limits: Tolerances | None = None,
    top_k: int = TOP_K,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    quiet: bool = False,
) -> Verification:
    """Check an engine as `verify` does, and on photos against a reference.

    Memory does not grow with the number of photos, except for labelled ones, whose scores are kept.

    Args:
        engine, model, limits, top_k: as for `verify`.
        reference: see `runtime.verify.reference.open_reference`.
        photos: image files; those that cannot be read are left out and counted. Labelled ones are ranked as well.
        batch_size: photos a batch.
        threads: how many decode at once.
        quiet: show no progress.

    Raises:
        FailureError: not one photo could be read.
    """
    limits = limits or tolerances_for(engine.execution.precision)
    first = verify(engine, model, limits, top_k)
    labelled = photos if isinstance(photos, LabelledPhotos) else None
    paths = photos.paths if isinstance(photos, LabelledPhotos) else photos
    compared = _compare_on_photos(engine, reference, paths, top_k, batch_size, threads, labelled is not None, quiet)
    checks = [Check(PHOTOS, compared.agreement.photos, compared.data_sha256, _differences(compared.agreement, limits))]
    if labelled is not None:
        checks.append(_ranking(engine.manifest, compared, labelled, limits))
    return Verification(
        Path(model),
        engine.manifest,
        engine.execution,
        reference.words,
        reference.sha256,
        (*first.checks, *checks),
        compared.agreement,
        len(compared.unreadable),
    )


@dataclass(frozen=True)
class _Compared:
    """Photos that an engine and its reference have scored; the scores themselves only where they were to be kept."""

    agreement: Agreement
    data_sha256: str
    unreadable: list[int]
    scores: list[Scores]
    reference: list[Scores]


def _compare_on_photos(
    engine: Engine,
    reference: Reference,
    paths: Iterable[str],
    top_k: int,
    batch_size: int,
    threads: int | None,
    keep: bool,
    quiet: bool,
) -> _Compared:
    preprocessing = Preprocessing.from_json(engine.manifest.preprocessing)
    batches = ReadableBatches(paths, preprocessing, batch_size, threads)
    thresholds = decision_thresholds(engine.manifest)
    digest = hashlib.sha256()
    kept: tuple[list[Scores], list[Scores]] = ([], [])
    ours, theirs = itertools.tee(_hashed(batches.images(), digest))

    def parts() -> Iterator[Agreement]:
        with progress("comparing", None, "photos", quiet) as bar:
            for pair in zip(engine.run(ours), reference.scores(theirs), strict=True):
                if keep:
                    for scores, rows in zip(kept, pair, strict=True):
                        scores.append(rows)
                yield compare(*pair, top_k, thresholds)
                bar.advance(len(pair[0]))

    found = parts()
    first = next(found, None)
    if first is None:
        raise FailureError(f"none of the {len(batches.unreadable)} images could be read; nothing was compared.")
    agreement = combined(itertools.chain([first], found))
    return _Compared(agreement, digest.hexdigest(), batches.unreadable, *kept)


def _differences(agreement: Agreement, limits: Tolerances, shares_count: bool = True) -> tuple[Measurement, ...]:
    """What an agreement measures; of a few pictures the shares are reported without a limit."""
    flipped, top = (limits.flipped, limits.top_agreement) if shares_count else (None, None)
    best = f"top-{agreement.top_k}"
    return (
        Measurement("largest difference", agreement.largest, at_most=limits.largest),
        Measurement("mean difference", agreement.mean, at_most=limits.mean),
        Measurement("99.9th percentile", agreement.percentile),
        Measurement("flipped tags", 100 * agreement.flip_rate, "%", at_most=flipped),
        Measurement(f"{best} agreement", 100 * agreement.top_agreement, "%", at_least=top),
        Measurement(f"photos with the same {best}", 100 * agreement.same_top_rate, "%"),
    )


def _invariance(engine: Engine, images: Images, limits: Tolerances) -> tuple[Measurement, ...]:
    exact = ("run", "number in flight") if engine.execution.provider in REPEATS_EXACTLY else ()
    found = variations(engine, images, decision_thresholds(engine.manifest))
    flipped = 100 * sum(way.flipped for way in found) / sum(way.decisions for way in found)
    return (
        *(
            Measurement(f"other {way.changed}", way.largest, at_most=0.0 if way.changed in exact else limits.variation)
            for way in found
        ),
        Measurement("flipped tags", flipped, "%", at_most=limits.flipped),
    )


def _ranking(manifest: Manifest, compared: _Compared, photos: LabelledPhotos, limits: Tolerances) -> Check:
    """How well engine and reference rank the labels that the photos really have."""
    targets = np.delete(photos.targets, compared.unreadable, axis=0)
    seen = np.array([label.seen for label in manifest.labels])
    measurements = []
    for level in levels(np.concatenate(compared.scores), np.concatenate(compared.reference), targets, seen):
        limit = limits.accuracy_drop if level.name.endswith(" mAP") else None
        measurements += [
            Measurement(f"{level.name} of the reference", level.reference, "points"),
            Measurement(level.name, level.engine, "points"),
            Measurement(f"{level.name} lost", level.lost, "points", at_most=limit),
        ]
    data = sha256_of_bytes(compared.data_sha256.encode(), targets_sha256(targets).encode())
    return Check(RANKING, len(targets), data, tuple(measurements))


def _hashed(batches: Iterable[Images], digest: "hashlib._Hash") -> Iterator[Images]:
    """Pass batches on; their bytes go into `digest`, whatever the size of the batches."""
    for batch in batches:
        digest.update(batch.data)
        yield batch


def _sha256_of_pictures(batches: Iterable[Images]) -> str:
    digest = hashlib.sha256()
    for _ in _hashed(map(np.ascontiguousarray, batches), digest):
        pass
    return digest.hexdigest()

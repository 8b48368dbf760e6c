"""The reference of an engine on photos: the PyTorch model of a checkpoint, or the fp32 model file."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.optional import import_optional
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores, read_golden, read_manifest
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tolerances import TOLERANCES
from mlzsl.imaging import Preprocessing

BACKEND = "onnxruntime"  # runs the fp32 model file, as mlzsl-export does to check it


@dataclass(frozen=True)
class Reference:
    """What an engine's scores are compared with.

    Attributes:
        description: what it is.
        sha256: of the checkpoint, or of the network in the model file.
        scores: batches uint8 [n, S, S, 3] -> float32 [n, L] each, labels in the engine's order.
    """

    description: str
    sha256: str
    scores: Callable[[Iterable[Images]], Iterator[Scores]]


def check_against(against: Path, model: Path) -> None:
    """Refuse a missing reference before an engine is opened.

    Raises:
        UsageError: there is no such file.
    """
    if not against.is_file():
        raise UsageError(
            f"--against {against}: no such file; name the checkpoint that {model} was exported from, or the fp32 model "
            "file that it was made from."
        )


@contextlib.contextmanager
def open_reference(
    against: Path, model: Path, manifest: Manifest, embeddings: str | None = None, threads: int | None = None
) -> Iterator[Reference]:
    """Open the reference of a model file.

    Args:
        against: the checkpoint that the model was exported from (needs PyTorch), or the fp32 `.onnx` file that it was
            made from.
        model: the file that is verified.
        manifest: of that file.
        embeddings: for a checkpoint: where the training's embeddings are now; None for where they were.
        threads: for a model file: CPU threads at most.

    Raises:
        UsageError: the file is missing, or not what the model was made from, or PyTorch is not installed.
        FailureError: the fp32 file does not give PyTorch's scores itself.
    """
    check_against(against, model)
    if against.suffix.lower() == ".onnx":
        _check_source(against, read_manifest(against), model, manifest)
        with contextlib.closing(open_engine(against, "cpu", BACKEND, threads=threads)) as engine:
            _check_golden(against, engine)
            description = f"{against}, {engine.execution}"
            yield Reference(description, engine.manifest.network_sha256, lambda images: engine.run(images))
        return
    sha256 = check_checkpoint("--against", against, model, manifest)
    scores = import_optional(
        "mlzsl.export.reference",
        f"--against {against}: comparing with PyTorch needs the extra train, which is not installed or lacks a "
        "package; run `pip install 'mlzsl[train]'`, or name the fp32 .onnx file.",
    ).reference_scores
    yield Reference(f"PyTorch, {against}", sha256, lambda images: scores(against, manifest, images, embeddings))


def _check_source(against: Path, theirs: Manifest, model: Path, manifest: Manifest) -> None:
    """Check that a model was made from an fp32 file."""
    named = {theirs.network_sha256, sha256_of_file(against)} & {manifest.network_sha256, *manifest.sources.values()}
    labels, expected = ([label.name for label in each.labels] for each in (theirs, manifest))
    if theirs.precision != "fp32":
        problem = f"is a file of precision {theirs.precision}"
    elif not named and theirs.golden_sha256 != manifest.golden_sha256:
        problem = f"{model} was not made from it: its manifest has neither its SHA-256 nor its golden sample"
    elif labels != expected:
        problem = f"has other labels than {model}"
    elif Preprocessing.from_json(theirs.preprocessing) != Preprocessing.from_json(manifest.preprocessing):
        problem = f"has another preprocessing than {model}"
    else:
        return
    remedy = f"name the fp32 file that {model} was made from, or the checkpoint"
    raise UsageError(f"--against {against}: {problem}; {remedy}.")


def _check_golden(against: Path, engine: Engine) -> None:
    """Check that an fp32 file gives PyTorch's scores itself."""
    golden = read_golden(against)
    difference = float(np.abs(engine.scores(golden.images) - golden.scores).max())
    if not difference <= TOLERANCES["fp32"].largest:
        raise FailureError(
            f"--against {against}: differs from PyTorch's scores by {difference:.1e} itself, on {engine.execution}, "
            f"where {TOLERANCES['fp32'].largest:.0e} is allowed; export it again, or name the checkpoint."
        )


def check_checkpoint(flag: str, checkpoint: Path, model: Path, manifest: Manifest) -> str:
    """The SHA-256 of the checkpoint that a model was exported from.

    Args:
        flag: the flag of the checkpoint, for the message.
        checkpoint: the checkpoint.
        model, manifest: the model file.

    Raises:
        UsageError: the model was exported from another one.
    """
    expected = manifest.sources.get("checkpoint", "")
    found = sha256_of_file(checkpoint)
    if found != expected:
        raise UsageError(
            f"{flag} {checkpoint}: SHA-256 {found[:12]}…, but {model} was exported from a checkpoint with "
            f"{expected[:12] or 'none'}…; name that one, or export this one with mlzsl-export."
        )
    return found

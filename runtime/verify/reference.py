"""What an engine is compared with on photos: the PyTorch system of a checkpoint, or the fp32 model file."""

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Images, Scores, read_golden, read_manifest
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tolerances import TOLERANCES

BACKEND = "onnxruntime"  # runs the fp32 model file: what mlzsl-export checked it with


@dataclass(frozen=True)
class Reference:
    """Whose scores are the right ones.

    Attributes:
        words: what it is, for a person.
        sha256: of the checkpoint, or of the network in the model file.
        scores: batches uint8 [n, S, S, 3] -> float32 [n, L] each, labels in the engine's order.
    """

    words: str
    sha256: str
    scores: Callable[[Iterable[Images]], Iterator[Scores]]


@contextlib.contextmanager
def open_reference(
    against: Path, model: Path, manifest: Manifest, embeddings: str | None = None, threads: int | None = None
) -> Iterator[Reference]:
    """Open the reference of a model file.

    Args:
        against: the checkpoint that the model was exported from (this needs PyTorch), or the fp32 `.onnx` file that
            it was made from.
        model: the file that is compared.
        manifest: of that file.
        embeddings: for a checkpoint: where the training's embeddings are now; None for where they were.
        threads: for a model file: CPU threads at most.

    Raises:
        UsageError: it is not there, is not what the model was made from, or what runs it is not installed.
        FailureError: an fp32 file does not give PyTorch's scores itself.
    """
    if not against.is_file():
        raise UsageError(
            f"--against {against}: no checkpoint or model file is there; name the checkpoint that {model} was "
            "exported from, or the fp32 model file that it was made from."
        )
    if against.suffix.lower() == ".onnx":
        with contextlib.closing(_open_model(against, model, manifest, threads)) as engine:
            yield Reference(
                f"{against}, {engine.execution}", engine.manifest.network_sha256, lambda images: engine.run(images)
            )
        return
    sha256 = check_checkpoint("--against", against, model, manifest)
    reference_scores = _import_reference()
    yield Reference(
        f"PyTorch, {against}", sha256, lambda images: reference_scores(against, manifest, images, embeddings)
    )


def _open_model(against: Path, model: Path, manifest: Manifest, threads: int | None) -> Engine:
    _check_source(against, read_manifest(against), model, manifest)
    engine = open_engine(against, "cpu", BACKEND, threads=threads)
    try:
        _check_golden(against, engine)
    except FailureError:
        engine.close()
        raise
    return engine


def _check_source(against: Path, theirs: Manifest, model: Path, manifest: Manifest) -> None:
    """Check that an fp32 file is what a model was made from."""
    if theirs.precision != "fp32":
        raise UsageError(
            f"--against {against}: is a file of precision {theirs.precision}; name the fp32 file that {model} was "
            "made from, or the checkpoint."
        )
    named = {theirs.network_sha256, sha256_of_file(against)} & {manifest.network_sha256, *manifest.sources.values()}
    if not named and theirs.golden_sha256 != manifest.golden_sha256:
        raise UsageError(
            f"--against {against}: {model} was not made from it: its manifest names neither its SHA-256 nor its "
            "golden sample; name the fp32 file that it was made from, or the checkpoint."
        )
    if [label.name for label in theirs.labels] != [label.name for label in manifest.labels]:
        raise UsageError(f"--against {against}: has other labels than {model}; name the file that it was made from.")
    if theirs.preprocessing != manifest.preprocessing:
        raise UsageError(f"--against {against}: takes other pictures than {model} (the preprocessing differs).")


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
        flag: that named the checkpoint, for the message.
        checkpoint: the checkpoint.
        model: the model file, and `manifest` of it.

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


ReferenceScores = Callable[[Path, Manifest, Iterable[Images], str | None], Iterator[Scores]]


def _import_reference() -> ReferenceScores:
    """The PyTorch reference, imported only when it is asked for."""
    try:
        module = importlib.import_module("mlzsl.export.reference")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("mlzsl"):
            raise
        raise UsageError(
            f"--against: {error.name} is not installed, and comparing with PyTorch needs it; "
            "run `pip install 'mlzsl[train]'`, or name the fp32 .onnx file."
        ) from error
    return cast(ReferenceScores, module.reference_scores)

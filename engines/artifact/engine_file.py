"""Engine files, `.onnx` or `.plan` alike: read the golden sample, write certificates and thresholds."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Golden, change_manifest, read_golden
from mlzsl.engines.artifact.plan_manifest import change_plan_manifest, read_plan_golden


def golden_sample(path: str | os.PathLike[str]) -> Golden:
    """The golden sample of a file: a few images with the scores of the fp32 PyTorch reference.

    Raises:
        UsageError: the file is missing, not valid, or neither `.onnx` nor `.plan`.
    """
    return _READERS[_suffix(path)](Path(path))


def certify(path: str | os.PathLike[str], certificate: Certificate) -> None:
    """Write a certificate into a file's manifest; it replaces the file's certificate for the same engine, if any.

    Raises:
        UsageError: as `golden_sample`.
        FailureError: the file holds another network than the certified one, or cannot be written. It is then unchanged.
    """
    _change(path, certificate.network_sha256, "verified", lambda manifest: manifest.certified(certificate))


def set_thresholds(path: str | os.PathLike[str], thresholds: Sequence[float], network_sha256: str) -> None:
    """Write the thresholds of all labels into a file's manifest; see `Manifest.with_thresholds`.

    Args:
        path: the file.
        thresholds: one for each label in the manifest's order, in [0, 1].
        network_sha256: of the network whose scores they were chosen on.

    Raises:
        UsageError: as `golden_sample`.
        FailureError: the file holds another network by now, or cannot be written. It is then unchanged.
    """
    _change(path, network_sha256, "measured", lambda manifest: manifest.with_thresholds(thresholds))


_READERS: dict[str, Callable[[Path], Golden]] = {".onnx": read_golden, ".plan": read_plan_golden}
_WRITERS: dict[str, Callable[[Path, Callable[[Manifest], Manifest]], object]] = {
    ".onnx": change_manifest,
    ".plan": change_plan_manifest,
}


def _change(
    path: str | os.PathLike[str], network_sha256: str, done: str, change: Callable[[Manifest], Manifest]
) -> None:
    def checked(manifest: Manifest) -> Manifest:
        if manifest.network_sha256 != network_sha256:
            raise FailureError(f"{os.fspath(path)}: was replaced by another network while it was {done}; start again.")
        return change(manifest)

    _WRITERS[_suffix(path)](Path(os.path.realpath(path)), checked)  # follows a symbolic link instead of replacing it


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise UsageError(f"{os.fspath(path)}: is not an engine file; expected a name that ends in .onnx or .plan.")
    return suffix

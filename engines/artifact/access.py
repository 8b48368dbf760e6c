"""The golden sample, the certificates and the thresholds of a file, whatever kind of file it is."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Golden, change_manifest, read_golden
from mlzsl.engines.artifact.plan_manifest import change_plan_manifest, read_plan_golden


def golden_sample(path: str | os.PathLike[str]) -> Golden:
    """The pictures that a file carries, and the scores that the fp32 PyTorch reference gave them.

    Raises:
        UsageError: the file is missing, unfit, or of no kind known here.
    """
    return _READERS[_kind(path)](Path(path))


def certify(path: str | os.PathLike[str], certificate: Certificate) -> None:
    """Write a certificate into a file's manifest, in place of the one that it may have for the same engine.

    Raises:
        UsageError: as `golden_sample`.
        FailureError: the file holds another network than the one certified, or the file system refuses; the file is
            then unchanged.
    """

    def certified(manifest: Manifest) -> Manifest:
        certificate.check_network(manifest.network_sha256, os.fspath(path))
        return manifest.certified(certificate)

    _change(path, certified)


def set_thresholds(path: str | os.PathLike[str], thresholds: Sequence[float], network_sha256: str) -> None:
    """Write thresholds into a file's manifest, one a label in their order; see `Manifest.with_thresholds`.

    Args:
        path: the file.
        thresholds: each in [0, 1].
        network_sha256: of the network whose scores they were chosen on.

    Raises:
        UsageError: as `golden_sample`.
        FailureError: the file holds another network by now, or the file system refuses; the file is then unchanged.
    """

    def changed(manifest: Manifest) -> Manifest:
        if manifest.network_sha256 != network_sha256:
            raise FailureError(f"{path}: was replaced by another network while thresholds were chosen; choose again.")
        return manifest.with_thresholds(thresholds)

    _change(path, changed)


_READERS: dict[str, Callable[[Path], Golden]] = {".onnx": read_golden, ".plan": read_plan_golden}
_CHANGERS: dict[str, Callable[[Path, Callable[[Manifest], Manifest]], object]] = {
    ".onnx": change_manifest,
    ".plan": change_plan_manifest,
}


def _change(path: str | os.PathLike[str], change: Callable[[Manifest], Manifest]) -> None:
    _CHANGERS[_kind(path)](Path(os.path.realpath(path)), change)  # a link stays a link


def _kind(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise UsageError(f"{os.fspath(path)}: is no kind of engine known here; name one of {', '.join(_READERS)}.")
    return suffix

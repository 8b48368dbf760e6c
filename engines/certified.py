"""The golden sample and the certificates of a file, whatever kind of file it is."""

import os
from collections.abc import Callable
from pathlib import Path

from mlzsl.engines.certificate import Certificate
from mlzsl.engines.manifest import Manifest
from mlzsl.engines.modelfile import Golden, add_certificate, read_golden
from mlzsl.engines.plan_manifest import PlanManifest, change_plan_manifest, read_plan_golden
from mlzsl.shell.errors import UsageError


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
    _WRITERS[_kind(path)](Path(os.path.realpath(path)), certificate)  # a link stays a link


_READERS: dict[str, Callable[[Path], Golden]] = {".onnx": read_golden, ".plan": read_plan_golden}


def _certify_plan(path: Path, certificate: Certificate) -> PlanManifest:
    def certified(model: Manifest) -> Manifest:
        certificate.check_network(model.network_sha256, str(path))
        return model.certified(certificate)

    return change_plan_manifest(path, certified)


_WRITERS: dict[str, Callable[[Path, Certificate], object]] = {".onnx": add_certificate, ".plan": _certify_plan}


def _kind(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise UsageError(f"{os.fspath(path)}: is no kind of engine known here; name one of {', '.join(_READERS)}.")
    return suffix

"""Measures networks of less precision against the fp32 one, on photos that do not calibrate."""

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from mlzsl.calibration.drop import Drop, compare
from mlzsl.calibration.network import Network
from mlzsl.calibration.photos import Photos
from mlzsl.calibration.session import Run, open_network
from mlzsl.calibration.settings import Settings
from mlzsl.calibration.writing import write_calibrated
from mlzsl.cli.errors import UsageError
from mlzsl.cli.progress import log, progress
from mlzsl.engines.artifact.modelfile import Scores, read_manifest
from mlzsl.engines.engine import Engine
from mlzsl.engines.opening import open_engine


@dataclass(frozen=True)
class Gauge:
    """What is needed to measure a network.

    Attributes:
        model: the fp32 file.
        photos: to measure on.
        reference: their scores in fp32, float32 [n, L].
        settings: how the networks are made.
        quiet: show no progress.
    """

    model: Path
    photos: Photos
    reference: Scores
    settings: Settings
    quiet: bool

    @classmethod
    def of(cls, network: Network, model: Path, photos: Photos, settings: Settings, quiet: bool) -> "Gauge":
        """Score the photos in fp32."""
        run = open_network(network.model, threads=settings.threads)
        return cls(model, photos, _scored("scoring in fp32", photos, run, quiet), settings, quiet)

    def drop(self, made: onnx.ModelProto) -> Drop:
        """What a network costs; it is said as well, since a ladder takes minutes."""
        title = f"scoring in {self.settings.precision}"
        # ONNX Runtime's CPU provider has no kernels for bf16.
        if any(tensor.data_type == TensorProto.BFLOAT16 for tensor in made.graph.initializer):
            with self._in_openvino(made) as engine:
                scores = _scored(title, self.photos, lambda images: [engine.scores(images)], self.quiet)
        else:
            scores = _scored(title, self.photos, open_network(made, threads=self.settings.threads), self.quiet)
        drop = compare(scores, self.reference, read_manifest(self.model), self.photos.targets)
        lost = f", {drop.points:.2f} points of mAP lost" if drop.mAP else ""
        log(f"{drop.agreement.top_agreement:.1%} of the best {drop.agreement.top_k} labels stay{lost}", self.quiet)
        return drop

    @contextmanager
    def _in_openvino(self, made: onnx.ModelProto) -> Iterator[Engine]:
        with tempfile.TemporaryDirectory(prefix="mlzsl-calibrate-") as folder:
            candidate = Path(folder) / "model.onnx"
            write_calibrated(candidate, made, self.model, self.settings, {})
            try:
                engine = open_engine(candidate, "cpu", "openvino", threads=self.settings.threads)
            except UsageError as error:
                raise UsageError(
                    f"--precision {self.settings.precision}: what it costs cannot be measured here: {error} "
                    "Without --photos the file is written unmeasured."
                ) from error
            with closing(engine):
                yield engine


def _scored(title: str, photos: Photos, run: Run, quiet: bool) -> Scores:
    parts = []
    with progress(title, len(photos), "photos", quiet) as bar:
        for images in photos.batches():
            parts.append(run(images)[0])
            bar.advance(len(images))
    scores: Scores = np.concatenate(parts)
    return scores

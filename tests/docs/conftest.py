"""The folder in which the commands of the documentation run: a small model, photos and what else pages name."""

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from smallcheckpoint import UNSEEN, write_small_checkpoint
from torchvision.models import resnet50

from mlzsl.calibration.cli import main as calibrate
from mlzsl.export.cli import main as export
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.train.datasets.synthetic.scenes import generate_scenes

CARRIED = ("person", "dog", "cat", "car", "bus", "clock", "book", "bicycle", "boat", "chair")  # the last three unseen
RESNET50 = "resnet50-0676ba61.pth"  # torchvision's file name of IMAGENET1K_V1


@pytest.fixture(scope="session")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's working folder, to be copied before anything is run in it."""
    folder = tmp_path_factory.mktemp("user")
    for name, seed in (("photos", 3), ("images", 4), ("others", 5)):
        write_labelled_photos(folder / name, seed)
    (folder / "my_labels.txt").write_text("\n".join(CARRIED) + "\n")
    for name in ("unseen.txt", "my_unseen.txt"):
        (folder / name).write_text("\n".join(label for label in CARRIED if label in UNSEEN) + "\n")
    (folder / "my_other_labels.txt").write_text("zebra\ntraffic lights\ncrane\tn02012849\n")
    write_vectors(folder / "glove.6B.300d.txt")
    write_backbone_weights(folder / "torch")
    write_small_checkpoint(folder / "checkpoint.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        call(export, "--labels", "coco80")
        call(export, "--labels", "voc20", "-o", "voc20.onnx")
        call(calibrate, "model.onnx", "--photos", "photos", "--max-drop", "100", "--min-agreement", "0")
    shutil.copy(folder / "model.onnx", folder / "coco80.onnx")
    return folder


def call(command: click.Command, *words: str) -> None:
    """Call one of the project's commands, which must succeed."""
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output


def write_labelled_photos(folder: Path, seed: int, count: int = 32) -> None:
    """Scenes that are said to show some of a few labels, each on half of them: enough to choose thresholds."""
    generate_scenes(folder, count, seed=seed, size=96, quiet=True)
    carried = np.random.default_rng(seed).random((count, len(CARRIED))) < 0.5
    carried[:, 0] |= ~carried.any(axis=1)
    names = sorted(json.loads((folder / "labels.json").read_text()))
    labels = {name: np.array(CARRIED)[row].tolist() for name, row in zip(names, carried, strict=True)}
    (folder / "labels.json").write_text(json.dumps(labels))


def write_vectors(path: Path, width: int = 16) -> None:
    """A file in GloVe's format with a random vector for every word of the label sets' names and synonyms."""
    names = [name for each in ("coco80", "nuswide81", "voc20", "imagenet1k") for name in load_label_set(each).labels]
    words = sorted({word for name in names for word in name.lower().replace("_", " ").split()})
    vectors = np.random.default_rng(0).normal(size=(len(words), width)).round(3)
    lines = (" ".join([word, *map(str, vector)]) for word, vector in zip(words, vectors.tolist(), strict=True))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    open_embeddings(str(path))


def write_backbone_weights(torch_home: Path) -> None:
    """Random weights of a ResNet-50 where torchvision keeps what it has downloaded."""
    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(resnet50().state_dict(), folder / RESNET50)

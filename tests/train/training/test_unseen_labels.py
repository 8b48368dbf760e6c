"""No unseen label enters a loss, a sampler or a statistic: shuffling or removing them gives equal tensors."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.imaging.preprocessing import Preprocessing
from mlzsl.train.backbones.backbone import DENSE, Backbone
from mlzsl.train.backbones.resnets import SmallResNet
from mlzsl.train.datasets.registry import load_data
from mlzsl.train.extraction.features import Features
from mlzsl.train.models import initialization
from mlzsl.train.models.model import graph_tensors
from mlzsl.train.models.registry import MODELS, settings_of
from mlzsl.train.training.job import Job, new_model
from mlzsl.train.training.pipeline import training_data
from mlzsl.train.training.trainer import TrainingConfig, train

SEEN, UNSEEN = ("dog", "car", "chair", "person"), ("bird", "bicycle", "cup")
PHOTOS, EXTERNALS = 40, 25


def part_of(name: str, chosen: list[int]) -> LabelSet:
    whole = load_label_set(name)
    return LabelSet(name, tuple(whole.labels[i] for i in chosen), tuple(whole.synsets[i] for i in chosen))


LABELS = part_of("coco80", [load_label_set("coco80").labels.index(label) for label in (*SEEN, *UNSEEN)])
EXTERNAL = part_of("imagenet1k", list(range(0, 1000, 1000 // EXTERNALS)))


@pytest.fixture(scope="module")
def graph() -> ClassGraph:
    return build_class_graph(LABELS, SEEN, EXTERNAL, open_embeddings("taxonomy"))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("small", SmallResNet(len(EXTERNAL)), EXTERNAL, Preprocessing(size=32), DENSE)


def write_coco(root: Path, targets: dict[int, set[str]]) -> Path:
    """MS-COCO's training split with these labels."""
    (root / "train2014").mkdir(parents=True)
    for image in targets:
        Image.new("RGB", (4, 4)).save(root / f"train2014/{image}.jpg")
    content = {
        "images": [{"id": image, "file_name": f"{image}.jpg"} for image in targets],
        "annotations": [
            {"image_id": image, "category_id": LABELS.labels.index(label)}
            for image, labels in targets.items()
            for label in sorted(labels)
        ],
        "categories": [{"id": place, "name": label} for place, label in enumerate(LABELS.labels)],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2014.json").write_text(json.dumps(content))
    return root


def all_targets() -> dict[int, set[str]]:
    rng = random.Random(3)
    return {image: {label for label in LABELS.labels if rng.random() < 0.3} for image in range(PHOTOS)}


def shuffled(targets: dict[int, set[str]]) -> dict[int, set[str]]:
    """The unseen labels of each photo moved to another."""
    images = list(targets)
    others = images[7:] + images[:7]
    return {
        image: targets[image] & set(SEEN) | targets[other] & set(UNSEEN)
        for image, other in zip(images, others, strict=True)
    }


def hidden(targets: dict[int, set[str]]) -> dict[int, set[str]]:
    return {image: labels & set(SEEN) for image, labels in targets.items()}


def features_of(photos: PhotoSet, backbone: Backbone) -> Features:
    """Random backbone outputs that depend on one photo alone."""
    x, logits = [], []
    for path in photos.paths:  # x and log q, for models with dense pooling
        rng = np.random.default_rng(int(path.stem))
        x.append(rng.standard_normal(backbone.num_features, dtype=np.float32))
        logits.append(3 * rng.standard_normal(len(EXTERNAL), dtype=np.float32))
    return Features(np.stack(x), np.stack(logits))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PhotoSet]:
    changes = {"as it is": dict, "shuffled": shuffled, "hidden": hidden}
    targets = all_targets()
    assert shuffled(targets) != targets != hidden(targets)
    return {
        name: load_data(f"coco:{write_coco(tmp_path_factory.mktemp('coco'), change(targets))}", LABELS, True).training
        for name, change in changes.items()
    }


def test_the_training_graph_has_no_unseen_label(graph: ClassGraph) -> None:
    assert graph.training().targets == SEEN
    assert graph_tensors(graph.training()).num_targets == len(SEEN)


@pytest.mark.parametrize("name", MODELS)
def test_unseen_labels_do_not_change_training(
    name: str,
    graph: ClassGraph,
    backbone: Backbone,
    sources: dict[str, PhotoSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(initialization, "FIT_STEPS", 3)
    assert len(sources["hidden"]) < len(sources["as it is"])  # photos with unseen labels only
    width = 16 if "hidden_dim" in settings_of(name) else None
    job = Job(model=name, hidden_dim=width, training=TrainingConfig(epochs=2, batch_size=8))
    outcomes = []
    for photos in sources.values():
        read = backbone.with_pooling(MODELS[name].pooling)
        data = training_data(graph.training(), photos, features_of(photos, backbone).for_backbone(read))
        model = new_model(job, backbone, graph, data)
        tensors = graph_tensors(graph.training())
        model.initialize(tensors, data.features, data.external_probabilities, data.targets)
        history = train(model, tensors, data, job.training, quiet=True)
        outcomes.append((data, model.state_dict(), history))
    expected_data, expected_state, expected_history = outcomes[0]
    for data, state, history in outcomes[1:]:
        assert data.key() == expected_data.key()
        assert all(torch.equal(state[name], expected_state[name]) for name in expected_state)
        assert history == expected_history

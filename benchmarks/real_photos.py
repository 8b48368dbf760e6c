"""How well does a system tag real photos, labels seen and unseen, beside chance and beside no training at all?

Cross-validation over a folder of labelled photos: every photo is scored once, by a system not trained on it, and
the metrics are taken over all photos together. The training-free row carries the backbone's external probabilities to
the targets by embedding similarity: score_y = Σ_e p_e exp(30 cos(s_y, s_e)).

    python benchmarks/real_photos.py PHOTOS --backbone-weights resnet50.pth --embeddings vectors.txt
"""

import time
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mlzsl.graph.classgraph import ClassGraph, build_class_graph
from mlzsl.graph.embeddings import open_embeddings
from mlzsl.graph.labelsets import load_label_set
from mlzsl.train.backbone import open_backbone
from mlzsl.train.data.folder import load_folder
from mlzsl.train.features import Features, extract
from mlzsl.train.job import Job, new_system, score, training_data, truth_matrix, unseen_labels
from mlzsl.train.loop import TrainingConfig, train
from mlzsl.train.metrics import evaluate
from mlzsl.train.models.tensors import graph_tensors

SHARPNESS = 30


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--labels", default="coco80")
@click.option("--backbone", default="resnet50")
@click.option("--backbone-weights", type=click.Path(path_type=Path))
@click.option("--image-size", default=224)
@click.option("--embeddings", default="taxonomy")
@click.option("--folds", default=3)
@click.option("--epochs", default=12)
@click.option("--batch-size", default=16)
@click.option("--learning-rate", default=5e-4)
@click.option("--system", default="RGCN-PosVAE")
@click.option("--hidden-dim", type=int)
@click.option("--seed", default=42)
@click.option("--cache", default=Path("mlzsl-cache"), type=click.Path(path_type=Path))
def main(
    photos: Path,
    labels: str,
    backbone: str,
    backbone_weights: Path | None,
    image_size: int,
    embeddings: str,
    folds: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    system: str,
    hidden_dim: int | None,
    seed: int,
    cache: Path,
) -> None:
    """Cross-validate on a folder of photos with a labels.json."""
    started = time.perf_counter()
    label_set = load_label_set(labels)
    unseen = unseen_labels(None, label_set)
    network = open_backbone(backbone, backbone_weights, image_size)
    graph = build_class_graph(
        label_set,
        [label for label in label_set.labels if label not in unseen],
        network.external,
        open_embeddings(embeddings),
    )
    photo_set = load_folder(photos)
    features = extract(network, photo_set, cache)
    truths = truth_matrix(graph, photo_set)
    config = TrainingConfig(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    job = Job(system=system, training=config, hidden_dim=hidden_dim)
    scores = np.empty(truths.shape, np.float32)
    place_of = {path: place for place, path in enumerate(photo_set.paths)}
    for training, held_out in photo_set.folds(folds, seed):
        inside = [place_of[path] for path in training.paths]
        outside = [place_of[path] for path in held_out.paths]
        data = training_data(graph.training(), training, taken(features, inside))
        model = new_system(job, network, graph, data)
        tensors = graph_tensors(graph.training())
        model.start(tensors, data.features, data.external_probabilities)
        train(model, tensors, data, config)
        scores[outside] = score(model, graph_tensors(graph), taken(features, outside))

    table = Table(
        title=f"{len(photo_set)} photos, {backbone} at {image_size} px, embeddings {Path(embeddings).name}, "
        f"{folds} folds, {epochs} epochs of batches of {batch_size} at {learning_rate:g}, "
        f"{time.perf_counter() - started:.0f} s",
        title_justify="left",
    )
    for heading in ("scores", "seen mAP", "seen miAP", "unseen mAP", "unseen miAP"):
        table.add_column(heading, justify="left" if heading == "scores" else "right")
    chance = evaluate(scores, truths, graph.seen)
    table.add_row(
        "chance",
        f"{chance['seen'].chance_mAP:.3f}",
        f"{chance['seen'].chance_miAP:.3f}",
        f"{chance['unseen'].chance_mAP:.3f}",
        f"{chance['unseen'].chance_miAP:.3f}",
    )
    for name, these in {"training-free": training_free(graph, features), system: scores}.items():
        metrics = evaluate(these, truths, graph.seen)
        table.add_row(
            name,
            *(f"{value:.3f}" for part in ("seen", "unseen") for value in (metrics[part].mAP, metrics[part].miAP)),
        )
    Console(width=140).print(table)


def taken(features: Features, places: list[int]) -> Features:
    """The features of some of the photos."""
    return Features(features.features[places], features.logits[places])


def training_free(graph: ClassGraph, features: Features) -> np.ndarray:
    """External probabilities carried to the targets by embedding similarity, float32 [n, N_t]."""
    S = graph.embeddings / np.linalg.norm(graph.embeddings, axis=1, keepdims=True)
    likeness = np.exp(SHARPNESS * (S[: len(graph.targets)] @ S[len(graph.targets) :].T))  # (N_t, N_a)
    p = graph_tensors(graph).external_probabilities(torch.from_numpy(features.logits)).numpy()
    scores: np.ndarray = p @ likeness.T
    return scores


if __name__ == "__main__":
    main()

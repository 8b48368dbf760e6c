"""How good are the tags that a model without thresholds of its own selects, for seen and for unseen labels?

KIT is the folder of the evaluation kit, with photos and labels in KIT/coco. Scored are training-free, and evidence in
folds, each photo by a model that was not trained on it; all classes of the backbone are kept. Measured are the default
rule of `runtime.tags`, its number of tags alone, and scores alone. Scores are chosen on the seen labels of one half of
the photos and tested on the other half.

    python benchmarks/tags.py KIT
"""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch

from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import UNSEEN, load_label_set
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.runtime.tags import DEFAULT_SCORE, DEFAULT_TOP_K
from mlzsl.train.backbones.backbone import DENSE
from mlzsl.train.backbones.opening import open_backbone
from mlzsl.train.extraction.features import Features, extract
from mlzsl.train.models.evidence import Evidence, EvidenceConfig
from mlzsl.train.models.model import GraphTensors, Model
from mlzsl.train.models.training_free import TrainingFree, TrainingFreeConfig
from mlzsl.train.training.pipeline import score

Scores = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

LABELS = "coco80"
SCORES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
CANDIDATES = np.arange(0.05, 0.95, 0.01)
HALVINGS = 20
SMALL_SET, DRAWS = 6, 100
NO_EDGES = torch.empty(2, 0, dtype=torch.int64)


@click.command()
@click.argument("kit", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--backbone", default="efficientnet-lite0")
@click.option("--embeddings", default="minilm")
@click.option("--sharpness", default=10.0, help="Of training-free.")
@click.option("--folds", default=3, help="Of evidence.")
@click.option("--cache", default="mlzsl-cache", type=click.Path(path_type=Path))
def main(kit: Path, backbone: str, embeddings: str, sharpness: float, folds: int, cache: Path) -> None:
    """Measure on the photos of KIT."""
    network = open_backbone(backbone).with_pooling(DENSE)
    photos = load_folder(kit / "coco")
    labels = load_label_set(LABELS)
    seen = np.array([label not in UNSEEN[LABELS] for label in labels.labels])
    targets = photos.targets(labels.labels)
    features = extract(network, photos, cache)
    source = open_embeddings(embeddings)
    source.preload(labels, network.external)
    vectors = torch.from_numpy(source.embed(labels, "target").vectors)
    externals = torch.from_numpy(source.embed(network.external, "external").vectors)

    def graph(kept: Bools) -> GraphTensors:
        nodes = torch.cat([vectors[torch.from_numpy(kept)], externals])
        return GraphTensors(nodes, NO_EDGES, torch.arange(len(externals)), int(kept.sum()))

    everything = np.ones(len(seen), bool)
    print(f"{backbone}, {embeddings}, {len(photos)} photos, {seen.sum()} seen and {(~seen).sum()} unseen labels")
    model = TrainingFree(TrainingFreeConfig(sharpness=sharpness))
    x = Features(features.features[:, : network.feature_dim], features.logits)
    scores = score(model, graph(everything), x)
    report("training-free", scores, targets, seen)
    report_small_sets(scores, targets)
    own = GraphTensors(torch.cat([externals, externals]), NO_EDGES, torch.arange(len(externals)), len(externals))
    predicted = score(model, own, x) >= DEFAULT_SCORE
    print(
        f"With the {len(externals):,} classes of the backbone as labels, {predicted.sum(axis=1).mean():.1f} reach "
        f"{DEFAULT_SCORE:g} on a photo, of which the default rule keeps {DEFAULT_TOP_K}."
    )
    scores = np.empty(targets.shape, np.float32)
    for rows in np.array_split(np.random.default_rng(0).permutation(len(photos)), folds):
        training = np.setdiff1d(np.arange(len(photos)), rows)
        fitted = fit_evidence(graph(seen), features.take(training.tolist()), targets[training][:, seen])
        scores[rows] = score(fitted, graph(everything), features.take(rows.tolist()))
    report(f"evidence, {folds} folds", scores, targets, seen)


def fit_evidence(graph: GraphTensors, features: Features, targets: Bools) -> Model:
    """Evidence trained on photos that have a label; targets bool [n, S]."""
    labelled = targets.any(axis=1)
    classes = features.logits.shape[1]
    config = EvidenceConfig(
        feature_dim=features.features.shape[1] - classes,
        embedding_dim=graph.embeddings.shape[1],
        backbone_classes=classes,
        seen_labels=graph.num_targets,
    )
    model = Evidence(config)
    x, logits = (torch.from_numpy(part[labelled]) for part in (features.features, features.logits))
    model.initialize(graph, x, graph.external_probabilities(logits), torch.from_numpy(targets[labelled]).float())
    return model


def report(title: str, scores: Scores, targets: Bools, seen: Bools) -> None:
    """Print the table of one model."""
    print(f"\n## {title}\n")
    groups = ("seen", seen), ("unseen", ~seen)
    columns = ("precision", "recall", "F1", "F1 a photo", "tags a photo")
    print("| rule | " + " | ".join(f"{name} {column}" for name, _ in groups for column in columns) + " | no tag |")
    print("| --- |" + " --- |" * (2 * len(columns) + 1))
    for rule, predicted in rules(scores):
        cells = [f"{value:.3f}" for _, of in groups for value in measures(predicted[:, of], targets[:, of])]
        print(f"| {rule} | " + " | ".join(cells) + f" | {(~predicted.any(axis=1)).mean():.1%} |")
    chosen, tested = halved(scores[:, seen], targets[:, seen])
    print(
        f"\nScore chosen for F1 of seen labels on one half, {HALVINGS} halvings: {chosen.mean():.2f} ± "
        f"{chosen.std():.2f}; F1 on the other half {tested.mean():.3f}."
    )


def report_small_sets(scores: Scores, targets: Bools) -> None:
    """Print how often photos get no tag where the label set is small."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(scores.shape[1], SMALL_SET, replace=False) for _ in range(DRAWS)]
    predicted = np.concatenate([(scores[:, labels] >= DEFAULT_SCORE) for labels in drawn])
    present = np.concatenate([targets[:, labels] for labels in drawn])
    none = ~present.any(axis=1)
    print(
        f"\nWith {SMALL_SET} of the labels, drawn {DRAWS} times: of the photos that have none of them, "
        f"{(~predicted[none].any(axis=1)).mean():.1%} get no tag; of the others, "
        f"{(predicted & present)[~none].any(axis=1).mean():.1%} get a right one."
    )


def rules(scores: Scores) -> Iterator[tuple[str, Bools]]:
    """Each rule with the labels that it selects, bool [n, L]."""
    best = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1) < DEFAULT_TOP_K
    yield f"**of the best {DEFAULT_TOP_K}, those from {DEFAULT_SCORE:g}** (default)", best & (scores >= DEFAULT_SCORE)
    yield f"the best {DEFAULT_TOP_K}", best
    for threshold in SCORES:
        yield f"all from {threshold:g}", scores >= threshold


def measures(predicted: Bools, targets: Bools) -> tuple[float, float, float, float, float]:
    """Precision, recall and F1 over all photos and labels; the mean F1 of photos with a label or tag; tags a photo."""
    hits = (predicted & targets).sum()
    counted = predicted.sum(axis=1) + targets.sum(axis=1)
    of_photos = 2 * (predicted & targets).sum(axis=1)[counted > 0] / counted[counted > 0]
    return (
        hits / max(predicted.sum(), 1),
        hits / targets.sum(),
        2 * hits / counted.sum(),
        of_photos.mean(),
        predicted.sum(axis=1).mean(),
    )


def halved(scores: Scores, targets: Bools) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The scores of the highest F1 on one half of the photos, and their F1 on the other half; float64 [HALVINGS]."""
    rng = np.random.default_rng(0)
    chosen, tested = [], []
    for _ in range(HALVINGS):
        one, other = np.array_split(rng.permutation(len(scores)), 2)
        f1 = [measures(scores[one] >= threshold, targets[one])[2] for threshold in CANDIDATES]
        chosen.append(CANDIDATES[int(np.argmax(f1))])
        tested.append(measures(scores[other] >= chosen[-1], targets[other])[2])
    return np.array(chosen), np.array(tested)


if __name__ == "__main__":
    main()

"""The model zero-shot: the formulas of SigLIP and CLIP, from the backbone's classifier."""

import math
from pathlib import Path

import pytest
import torch
from smallgraph import D_S, small_batch, small_graph
from torch import nn
from torch.nn.functional import normalize

from mlzsl.cli.errors import UsageError
from mlzsl.train.models.model import ModelConfig
from mlzsl.train.models.zero_shot import ZeroShot
from mlzsl.train.training.job import Job, check_towers, embeddings_spec

CLASSES, SCALE = 40, 20.0


def clip_classifier(bias: float | None) -> nn.Linear:
    """scale × random unit text embeddings, and one bias for all classes."""
    classifier = nn.Linear(D_S, CLASSES, bias=bias is not None)
    with torch.no_grad():
        classifier.weight.copy_(
            SCALE * normalize(torch.randn(CLASSES, D_S, generator=torch.Generator().manual_seed(2)))
        )
        if bias is not None:
            classifier.bias.fill_(bias)
    return classifier


def scores_of(classifier: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    model = ZeroShot(ModelConfig(D_S, D_S))
    model.use_classifier(classifier)
    return model.eval()(x, torch.zeros(len(x), 15), small_graph())


@torch.no_grad()
def test_a_model_with_a_bias_scores_each_label_by_a_sigmoid() -> None:
    x = normalize(small_batch(name="zero-shot")[0])
    scores = scores_of(clip_classifier(bias=-3), x)
    for photo, row in zip(x, scores, strict=True):
        for label, score in zip(small_graph().target_embeddings, row, strict=True):
            cosine = torch.dot(photo, label) / label.norm()
            assert score == pytest.approx(1 / (1 + math.exp(3 - SCALE * cosine)), abs=1e-5)


@torch.no_grad()
def test_a_model_without_one_compares_each_label_with_the_mean_external_class() -> None:
    classifier, x = clip_classifier(bias=None), normalize(small_batch(name="zero-shot")[0])
    mean_logits = classifier(x).mean(dim=1)
    for photo, mean, row in zip(x, mean_logits, scores_of(classifier, x), strict=True):
        for label, score in zip(small_graph().target_embeddings, row, strict=True):
            logits = torch.full((1 + CLASSES,), float(mean))
            logits[0] = SCALE * torch.dot(photo, label) / label.norm()
            assert score == pytest.approx(float(logits.softmax(dim=0)[0]), abs=1e-5)


def test_it_needs_a_clip_backbone_and_its_own_text_tower() -> None:
    with pytest.raises(UsageError, match=r"needs a CLIP model, but --backbone is resnet18; name a clip:NAME"):
        check_towers(Job(model="zero-shot", backbone="resnet18", embeddings="clip:ViT-B-32/laion2b_s34b_b79k"))
    with pytest.raises(UsageError, match=r"--backbone is clip:a and --embeddings taxonomy; leave --embeddings out"):
        check_towers(Job(model="zero-shot", backbone="clip:a", embeddings="taxonomy"))
    check_towers(Job(model="zero-shot", backbone="clip:a", embeddings="clip:a"))
    check_towers(Job(model="RGCN", backbone="resnet18", embeddings="clip:a"))


def test_the_text_tower_of_a_backbone_has_the_backbones_weights(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    assert embeddings_spec(Job(backbone="clip:a", embeddings="clip:a", backbone_weights=weights)) == f"clip:a:{weights}"
    assert embeddings_spec(Job(backbone="clip:a", embeddings="clip:b", backbone_weights=weights)) == "clip:b"
    assert embeddings_spec(Job(backbone="resnet18", embeddings="taxonomy", backbone_weights=weights)) == "taxonomy"

"""Folds any model on a class graph; docs/folding.md has the algebra and what each step saves.

For a fixed label set everything but x and p^a is constant. Constants are computed in float64 and rounded once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mlzsl.export.folding.embedding import FoldedFast0Tag, FoldedTrainingFree, fold_visual_semantic, fold_zero_shot
from mlzsl.export.folding.evidence import FoldedEvidence
from mlzsl.export.folding.graph import fold_rgcn, fold_rgcn_posvae
from mlzsl.export.folding.skg import FoldedSKG
from mlzsl.train.models.evidence import Evidence
from mlzsl.train.models.fast0tag import Fast0Tag
from mlzsl.train.models.model import GraphTensors, Model
from mlzsl.train.models.registry import config_of, create_model
from mlzsl.train.models.rgcn import RGCN, RGCNXL
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.models.skg import SKG
from mlzsl.train.models.training_free import TrainingFree
from mlzsl.train.models.visual_semantic import VisualSemantic
from mlzsl.train.models.zero_shot import ZeroShot

# By model name: (model, graph), both in float64, -> head: (features, logits) -> scores.
FOLDINGS: dict[str, Callable[[Any, GraphTensors], nn.Module]] = {
    VisualSemantic.name: fold_visual_semantic,
    Fast0Tag.name: FoldedFast0Tag,
    SKG.name: FoldedSKG,
    RGCN.name: fold_rgcn,
    RGCNXL.name: fold_rgcn,
    RGCNPosVAE.name: fold_rgcn_posvae,
    TrainingFree.name: FoldedTrainingFree,
    Evidence.name: FoldedEvidence,
    ZeroShot.name: fold_zero_shot,
}


@torch.no_grad()
def fold(model: Model, graph: GraphTensors) -> nn.Module:
    """Fold a trained model on a class graph.

    Args:
        model: any model; it is not changed.
        graph: the testing graph.

    Returns:
        A head in evaluation mode: features (B, F) or (B, F + C), backbone logits (B, C) -> scores (B, N_t), float32.
    """
    exact = create_model(model.name, config_of(model)).double()
    exact.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    return FOLDINGS[model.name](exact.eval(), graph.double()).eval()

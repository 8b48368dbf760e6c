"""A small class graph, photos, and every model with parameters as large as trained ones."""

from typing import Any

import torch

from mlzsl.train.backbones.backbone import DENSE
from mlzsl.train.models.evidence import Evidence
from mlzsl.train.models.model import GraphTensors, Model
from mlzsl.train.models.registry import MODELS, create_model, find_model

F, D_S, D_H, CLASSES = 12, 10, 8, 30

CONFIGS: dict[str, dict[str, Any]] = {
    "visual-semantic": {},
    "Fast0Tag": {},
    "SKG": {"hidden_dim": D_H, "belief_dim": 5, "steps": 3},
    "RGCN": {"hidden_dim": D_H, "layers": 2},
    "RGCN-XL": {"hidden_dim": D_H, "layers": 2, "external_weight": 0.7},
    "RGCN-PosVAE": {
        "hidden_dim": D_H, "layers": 2, "vae_weight": 1.0, "backbone_classes": CLASSES, "external_score_std": 0.1,
    },
    "training-free": {"sharpness": 5.0, "half_cosine": 0.4},
    "evidence": {"backbone_classes": CLASSES, "seen_labels": 4, "penalty": 0.01},
    "zero-shot": {"feature_dim": D_S},  # x and embeddings are of one space
}  # fmt: skip


def small_graph(targets: int = 6, externals: int = 15, density: float = 0.4) -> GraphTensors:
    """A random graph in float32, with some targets that are hypernyms of others."""
    generator = torch.Generator().manual_seed(targets)
    nodes = targets + externals
    adjacency = (torch.rand(nodes, nodes, generator=generator) < density).fill_diagonal_(False)
    above = torch.rand(targets, targets, generator=generator).triu(1) > 0.7
    return GraphTensors(
        torch.randn(nodes, D_S, generator=generator),
        (adjacency | adjacency.T).nonzero().T.contiguous(),
        torch.randperm(CLASSES, generator=generator)[:externals],
        targets,
        (above | above.T).nonzero().T.contiguous(),
    )


def small_batch(photos: int = 5, name: str = "RGCN") -> tuple[torch.Tensor, torch.Tensor]:
    """Features of a model's pooling, [n, F] or [n, F + C], and backbone logits [n, C] in float32."""
    generator = torch.Generator().manual_seed(9)
    width = CONFIGS[name].get("feature_dim", F)
    x, logits = torch.randn(photos, width, generator=generator), 3 * torch.randn(photos, CLASSES, generator=generator)
    if find_model(name).pooling == DENSE:
        x = torch.cat([x, (2 * torch.randn(photos, CLASSES, generator=generator)).log_softmax(dim=1)], dim=1)
    return x, logits


def small_model(name: str, scale: float = 0.3) -> Model:
    """A model whose parameters are normal with standard deviation `scale`, in evaluation mode."""
    config = {} if name == "training-free" else {"feature_dim": F, "embedding_dim": D_S}
    model = create_model(name, config | CONFIGS[name])
    fill(model, scale, seed=len(name))
    return model.eval()


@torch.no_grad()
def fill(model: Model, scale: float, seed: int = 0) -> None:
    """Set all tensors of a model to random values."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        value.copy_(scale * torch.randn(value.shape, generator=generator))
    if isinstance(model, Evidence):
        model.seen_embeddings.copy_(torch.nn.functional.normalize(model.seen_embeddings))
        model.class_prior.copy_(model.class_prior.softmax(dim=0))


assert CONFIGS.keys() == MODELS.keys()
TRAINABLE = [name for name in MODELS if small_model(name).learns]  # by gradient steps

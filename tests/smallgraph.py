"""A small class graph, photos on it, and every system with parameters as large as trained ones."""

from typing import Any

import torch

from mlzsl.train.models.system import System
from mlzsl.train.models.systems import SYSTEMS, make_system
from mlzsl.train.models.tensors import GraphTensors

F, D_S, D_H, CLASSES = 12, 10, 8, 30

CONFIGS: dict[str, dict[str, Any]] = {
    "visual-semantic": {},
    "Fast0Tag": {},
    "SKG": {"hidden_dim": D_H, "belief_dim": 5, "steps": 3},
    "RGCN": {"hidden_dim": D_H, "layers": 2},
    "RGCN-XL": {"hidden_dim": D_H, "layers": 2, "external_weight": 0.7},
    "RGCN-PosVAE": {
        "hidden_dim": D_H, "layers": 2, "vae_weight": 1.0, "backbone_classes": CLASSES, "evidence_deviation": 0.1,
    },
    "training-free": {"sharpness": 5.0, "half_cosine": 0.4},
}  # fmt: skip


def small_graph(targets: int = 6, externals: int = 15, density: float = 0.4) -> GraphTensors:
    """A random graph in float32, with some targets above others."""
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


def small_batch(photos: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [n, F] and backbone logits [n, C] in float32."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(photos, F, generator=generator), 3 * torch.randn(photos, CLASSES, generator=generator)


def small_system(name: str, scale: float = 0.3) -> System:
    """A system whose parameters are normal of deviation `scale`, in evaluation mode."""
    config = {} if name == "training-free" else {"feature_dim": F, "embedding_dim": D_S}
    model = make_system(name, config | CONFIGS[name])
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


assert CONFIGS.keys() == SYSTEMS.keys()

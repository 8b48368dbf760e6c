"""The folded head equals the model with fewer multiply-adds."""

import pytest
import torch

from mlzsl.export.cost_sheet import multiply_adds
from mlzsl.export.folding.fold import fold
from mlzsl.export.folding.graph import nodes_per_layer
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig

F, D_S, D_H, CLASSES = 24, 12, 16, 60


def make_graph(targets: int, externals: int, density: float) -> GraphTensors:
    generator = torch.Generator().manual_seed(targets)
    nodes = targets + externals
    adjacency = (torch.rand(nodes, nodes, generator=generator) < density).fill_diagonal_(False)
    return GraphTensors(
        torch.randn(nodes, D_S, generator=generator),
        (adjacency | adjacency.T).nonzero().T.contiguous(),
        torch.randperm(CLASSES, generator=generator)[:externals],
        targets,
    )


def make_model(layers: int) -> RGCNPosVAE:
    """A model with parameters as large as trained ones."""
    torch.manual_seed(layers)
    model = RGCNPosVAE(RGCNPosVAEConfig(F, D_S, D_H, layers, backbone_classes=CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def make_batch(size: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(size, F, generator=generator), 3 * torch.randn(size, CLASSES, generator=generator)


def spread_scores(model: RGCNPosVAE, graph: GraphTensors, features: torch.Tensor, logits: torch.Tensor) -> None:
    """Scale the last layer so that the scores of a batch spread over (0, 1)."""
    scores = model.double()(features.double(), graph.external_probabilities(logits.double()), graph.double())
    mean, deviation = scores.logit().mean(), scores.logit().std()
    model.classifier_out.weight /= deviation
    model.classifier_out.bias.sub_(mean).div_(deviation)
    model.float()


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("density", [0.0, 0.05, 0.6])
@torch.no_grad()
def test_folded_scores_equal_the_model(layers: int, density: float) -> None:
    graph, model, (features, logits) = make_graph(7, 40, density), make_model(layers), make_batch()
    spread_scores(model, graph, features, logits)
    expected = model.double()(features.double(), graph.external_probabilities(logits.double()), graph.double())
    folded = fold(model.float(), graph)(features, logits)
    assert expected.std() > 0.05, "scores that hardly vary prove nothing"
    assert (folded - expected).abs().max() <= 1e-5


@torch.inference_mode()
def test_the_unfolded_head_equals_the_model() -> None:
    graph, model, (features, logits) = make_graph(7, 40, 0.3), make_model(2), make_batch()
    expected = model(features, graph.external_probabilities(logits), graph)
    torch.testing.assert_close(unfolded_head(model, graph)(features, logits), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_scores_do_not_depend_on_the_batch() -> None:
    graph, (features, logits) = make_graph(7, 40, 0.3), make_batch(9)
    head = fold(make_model(2), graph)
    together = head(features, logits)
    alone = torch.cat([head(x[None], p[None]) for x, p in zip(features, logits, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_folding_saves_multiply_adds() -> None:
    graph, model, (features, logits) = make_graph(7, 40, 0.1), make_model(2), make_batch(1)
    unfolded = multiply_adds(unfolded_head(model, graph), features, logits)
    assert multiply_adds(fold(model, graph), features, logits) < unfolded / 2


def test_only_nodes_that_a_target_depends_on_are_computed() -> None:
    # 0 ─ 2 ─ 3 ─ 4 and 1 alone; targets are 0 and 1
    adjacency = torch.eye(5)
    for u, v in [(0, 2), (2, 3), (3, 4)]:
        adjacency[u, v] = adjacency[v, u] = 1
    nodes = [layer.tolist() for layer in nodes_per_layer(adjacency, num_targets=2, layers=2)]
    assert nodes == [[0, 1, 2, 3], [0, 1, 2], [0, 1]]

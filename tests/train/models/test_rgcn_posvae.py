"""RGCN-PosVAE against the paper's formulas, written naively in float64."""

import math

import pytest
import torch

from mlzsl.train.models.layers import ConcatLinear, EdgeWeights, normalize
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn_posvae import PosVAE, RGCNPosVAE, RGCNPosVAEConfig

F, D_S, D_H, N_T, N_A, B, C = 11, 7, 6, 4, 5, 3, 9
N = N_T + N_A


@pytest.fixture
def graph() -> GraphTensors:
    generator = torch.Generator().manual_seed(1)
    adjacency = torch.rand(N, N, generator=generator) < 0.5
    adjacency = (adjacency | adjacency.T).fill_diagonal_(False)
    return GraphTensors(
        torch.randn(N, D_S, generator=generator, dtype=torch.float64),
        adjacency.nonzero().T.contiguous(),
        torch.tensor([8, 1, 3, 0, 6]),
        N_T,
    )


@pytest.fixture
def batch(graph: GraphTensors) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(B, C, generator=generator, dtype=torch.float64)
    return torch.randn(B, F, generator=generator, dtype=torch.float64), graph.external_probabilities(logits)


def make_model(layers: int = 2) -> RGCNPosVAE:
    torch.manual_seed(0)
    return RGCNPosVAE(RGCNPosVAEConfig(F, D_S, D_H, layers, backbone_classes=C)).double().eval()


def linear(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return layer.weight @ x + layer.bias


def naive_adjacency(model: RGCNPosVAE, graph: GraphTensors) -> torch.Tensor:
    """Eq. 7 pair by pair, then D^-1/2 (W ⊙ A) D^-1/2."""
    S, mlp = graph.embeddings, model.edge_weights
    W = torch.eye(N, dtype=torch.float64)
    for u, v in graph.edges.T.tolist():
        hidden = linear(mlp.hidden, torch.cat([S[u], S[v]])).relu()
        W[u, v] = linear(mlp.out, hidden).sigmoid()
    degrees = [sum(W[u, v].item() for v in range(N)) for u in range(N)]
    return torch.stack(
        [torch.stack([W[u, v] / math.sqrt(degrees[u] * degrees[v]) for v in range(N)]) for u in range(N)]
    )


def naive_scores(
    model: RGCNPosVAE, graph: GraphTensors, features: torch.Tensor, probabilities: torch.Tensor
) -> torch.Tensor:
    A, S, vae = naive_adjacency(model, graph), graph.embeddings, model.posvae
    scores = torch.empty(B, N_T, dtype=torch.float64)
    for image in range(B):
        states = []
        for y in range(N_T):
            hidden = linear(model.target_encoder.hidden, torch.cat([features[image], S[y]])).relu()
            states.append(linear(model.target_encoder.out, hidden))
        for y in range(N_A):
            projected = linear(vae.projection, (1 + C * probabilities[image, y]).log().reshape(1))
            hidden = linear(vae.encoder_hidden, torch.cat([projected, S[N_T + y]])).relu()
            states.append(linear(vae.encoder_out, hidden)[:D_H])
        H = torch.stack(states)
        for layer in model.graph_layers:
            H = (A @ H @ layer.weight).relu()
        for y in range(N_T):
            hidden = linear(model.classifier_hidden, H[y]).relu()
            scores[image, y] = linear(model.classifier_out, hidden).sigmoid()
    return scores


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_scores_are_the_papers_formulas(layers: int, graph: GraphTensors, batch) -> None:
    model = make_model(layers)
    torch.testing.assert_close(model(*batch, graph), naive_scores(model, graph, *batch), rtol=1e-12, atol=1e-14)


def test_adjacency_is_normalized_edge_weights(graph: GraphTensors) -> None:
    model = make_model()
    torch.testing.assert_close(model.normalized_adjacency(graph), naive_adjacency(model, graph), rtol=1e-12, atol=1e-14)
    W = model.edge_weights(graph)
    assert ((W >= 0) & (W <= 1)).all()
    assert (W.diagonal() == 1).all()


def test_a_graph_without_edges_has_only_self_connections() -> None:
    lonely = GraphTensors(torch.ones(3, D_S), torch.empty(2, 0, dtype=torch.int64), torch.tensor([0]), 2)
    assert torch.equal(normalize(EdgeWeights(D_S, D_H)(lonely)), torch.eye(3))


def test_evaluation_is_deterministic_and_depends_on_one_photo_alone(graph: GraphTensors, batch) -> None:
    model = make_model()
    features, probabilities = batch
    together = model(features, probabilities, graph)
    assert torch.equal(together, model(features, probabilities, graph))
    for image in range(B):
        alone = model(features[image : image + 1], probabilities[image : image + 1], graph)
        torch.testing.assert_close(alone[0], together[image], rtol=1e-12, atol=1e-14)


def test_concat_linear_is_a_linear_layer_over_the_concatenation() -> None:
    torch.manual_seed(0)
    layer = ConcatLinear(3, 5, 2).double()
    a, b = torch.randn(4, 1, 3).double(), torch.randn(1, 6, 5).double()
    pairs = torch.cat([a.expand(4, 6, 3), b.expand(4, 6, 5)], dim=2)
    expected = torch.nn.functional.linear(pairs, layer.weight, layer.bias)
    torch.testing.assert_close(layer(a, b), expected)


def test_vae_loss_is_the_negative_evidence_lower_bound_per_dimension_of_h() -> None:
    generator = torch.Generator().manual_seed(3)
    e, decoded = torch.rand(2, B, N_A, generator=generator, dtype=torch.float64)
    mean, log_sigma = torch.randn(2, N_A, B, D_H, generator=generator, dtype=torch.float64)
    posvae = PosVAE(RGCNPosVAEConfig(F, D_S, D_H, external_score_std=0.3))
    likelihood = torch.distributions.Normal(decoded, 0.3).log_prob(e)
    best = torch.distributions.Normal(e, 0.3).log_prob(e)  # the constant that is left out
    posterior = torch.distributions.Normal(mean, (log_sigma / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(dim=-1)  # (N_a, B)
    expected = ((best - likelihood).T + divergence).mean() / D_H
    torch.testing.assert_close(posvae.loss(e, decoded, mean, log_sigma), expected)


def test_joint_loss_is_cross_entropy_plus_lambda_times_vae(graph: GraphTensors, batch) -> None:
    model = make_model()
    targets = torch.tensor([[1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]], dtype=torch.float64)
    torch.manual_seed(5)
    losses = model.losses(*batch, graph, targets)
    torch.testing.assert_close(losses["loss"], losses["rgcn"] + model.config.vae_weight * losses["vae"])
    torch.manual_seed(5)
    again = model.losses(*batch, graph, targets)
    assert all(torch.equal(losses[name], again[name]) for name in losses)


def test_posterior_samples_follow_eq_5() -> None:
    torch.manual_seed(0)
    mean, log_sigma = torch.full((200_000,), 2.0), torch.full((200_000,), math.log(0.25))
    sampled = PosVAE.sample(mean, log_sigma)
    assert sampled.mean().item() == pytest.approx(2.0, abs=0.01)
    assert sampled.std().item() == pytest.approx(0.5, abs=0.01)  # exp(log σ / 2)


def test_every_parameter_learns(graph: GraphTensors, batch) -> None:
    model = make_model().train()
    targets = torch.eye(B, N_T, dtype=torch.float64)
    model.losses(*batch, graph, targets)["loss"].backward()
    idle = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle

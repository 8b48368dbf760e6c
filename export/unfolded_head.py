"""Unfolded heads: the papers' formulas as written, with only the graph constant; folding is compared with them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mlzsl.train.models.layers import RelationalGCN, TargetEncoder
from mlzsl.train.models.model import GraphTensors, Model
from mlzsl.train.models.rgcn import RGCN, RGCNXL
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.models.skg import SKG


class UnfoldedHead(nn.Module):
    """Features (B, F) or (B, F + C), backbone logits (B, C) -> scores (B, N_t) by the model's own forward."""

    embeddings: Tensor  # S, (N, d_s)
    edges: Tensor  # int64 (2, E)
    external_logits: Tensor  # int64 (N_a,)
    is_a: Tensor  # int64 (2, K)

    def __init__(self, model: Model, graph: GraphTensors) -> None:
        super().__init__()
        self.model, self.num_targets = model, graph.num_targets
        for name in ("embeddings", "edges", "external_logits", "is_a"):
            self.register_buffer(name, getattr(graph, name).clone())

    @property
    def graph(self) -> GraphTensors:
        """The graph, on the device of the head's buffers."""
        return GraphTensors(self.embeddings, self.edges, self.external_logits, self.num_targets, self.is_a)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return self.model(features, self.graph.external_probabilities(logits), self.graph)


class UnfoldedGraphHead(UnfoldedHead):
    """RGCN and RGCN-XL: every formula in its order, concatenations built, Â constant."""

    adjacency: Tensor  # Â, (N, N)
    model: RelationalGCN

    def __init__(self, model: RelationalGCN, graph: GraphTensors) -> None:
        super().__init__(model, graph)
        with torch.no_grad():
            self.register_buffer("adjacency", model.normalized_adjacency(graph))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        H = self.initial_states(features, logits)  # (B, N, d_h)
        for W in self.model.graph_weights:
            H = (self.adjacency @ (H @ W)).relu()  # eq. 6
        hidden = self.model.classifier_hidden(H[:, : self.num_targets]).relu()
        return self.model.classifier_out(hidden).squeeze(2).sigmoid()

    def initial_states(self, features: Tensor, logits: Tensor) -> Tensor:
        """H^0 of nodes that all have states from x."""
        return _encode(self.model.target_encoder, features, self.embeddings)


class UnfoldedPosVAEHead(UnfoldedGraphHead):
    """RGCN-PosVAE."""

    model: RGCNPosVAE

    def initial_states(self, features: Tensor, logits: Tensor) -> Tensor:
        vae, graph = self.model.posvae, self.graph
        H_d = _encode(self.model.target_encoder, features, graph.target_embeddings)
        e = self.model.external_scores(graph.external_probabilities(logits))  # (B, N_a)
        projected = vae.projection(e[..., None])  # (B, N_a, d_s)
        mean_and_log_sigma = _mlp(vae.encoder_hidden, vae.encoder_out, projected, graph.external_embeddings)
        return torch.cat([H_d, mean_and_log_sigma[..., : self.model.config.hidden_dim]], dim=1)


class UnfoldedSKGHead(UnfoldedHead):
    """SKG: concatenations built, A constant."""

    propagation: Tensor  # A, (N_t, N_t)
    model: SKG

    def __init__(self, model: SKG, graph: GraphTensors) -> None:
        super().__init__(model, graph)
        with torch.no_grad():
            self.register_buffer("propagation", model.propagation(graph))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        h = _encode(self.model.first_belief, features, self.graph.target_embeddings)  # (B, N_t, d_h)
        for _ in range(self.model.config.steps):
            h = self.model.update((self.propagation @ h).tanh(), h)
        return self.model.belief_out(self.model.belief_hidden(h).relu()).squeeze(2).sigmoid()


HEADS: dict[str, Callable[[Any, GraphTensors], nn.Module]] = {
    RGCN.name: lambda model, graph: UnfoldedGraphHead(model, model.subgraph(graph)),
    RGCNXL.name: UnfoldedGraphHead,
    RGCNPosVAE.name: UnfoldedPosVAEHead,
    SKG.name: UnfoldedSKGHead,
}


def unfolded_head(model: Model, graph: GraphTensors) -> nn.Module:
    """The unfolded head of a model, in evaluation mode: features, backbone logits (B, C) -> scores (B, N_t)."""
    return HEADS.get(model.name, UnfoldedHead)(model, graph).eval()


def _encode(encoder: TargetEncoder, features: Tensor, embeddings: Tensor) -> Tensor:
    return _mlp(encoder.hidden, encoder.out, features[:, None], embeddings)  # (B, n, d_h)


def _mlp(first: nn.Linear, second: nn.Linear, a: Tensor, embeddings: Tensor) -> Tensor:
    """MLP([a; s_y]) with the concatenation built; a (B, 1 or n, d), s (n, d_s) -> (B, n, out)."""
    pairs = torch.cat([a.expand(-1, len(embeddings), -1), embeddings.expand(a.shape[0], -1, -1)], dim=2)
    out: Tensor = second(nn.functional.linear(pairs, first.weight, first.bias).relu())
    return out

"""The folded head of SKG: A and each label's part of the initial belief are constants; the gated updates remain."""

from torch import Tensor, nn

from mlzsl.export.folding.constants import embedding_term, register_constants
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.skg import SKG


class FoldedSKG(nn.Module):
    """features (B, F) -> scores (B, N_t), without the MLPs of the relations and without concatenations."""

    visual_weight: Tensor  # W_x, (F, d_h)
    node_bias: Tensor  # s_y W_s + b, (N_t, 1, d_h)
    propagation: Tensor  # A, (N_t, N_t)

    def __init__(self, model: SKG, graph: GraphTensors) -> None:
        """Fold `model` on the testing graph, both in float64."""
        super().__init__()
        self.steps, self.belief_dim = model.config.steps, model.config.belief_dim
        register_constants(
            self,
            visual_weight=model.first_belief.hidden.first_weight.T,
            node_bias=embedding_term(model.first_belief.hidden, graph.target_embeddings)[:, None],
            propagation=model.propagation(graph),
        )
        layers = {
            "belief": model.first_belief.out,
            "of_messages": model.update.of_messages,
            "gates": model.update.gates,
            "candidate": model.update.candidate,
            "hidden": model.belief_hidden,
            "score": model.belief_out,
        }
        for name, layer in layers.items():
            weights = {"weight": layer.weight.T} | ({} if layer.bias is None else {"bias": layer.bias})
            register_constants(self, **{f"{name}_{kind}": tensor for kind, tensor in weights.items()})

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        hidden = (features @ self.visual_weight + self.node_bias).relu()  # (N_t, B, d_h)
        h = self._linear("belief", hidden)  # h^0
        for _ in range(self.steps):
            messages = (self.propagation @ h.flatten(1)).reshape(len(self.propagation), -1, self.belief_dim).tanh()
            for_z, for_r, for_candidate = self._linear("of_messages", messages).split(self.belief_dim, dim=2)
            from_z, from_r = (h @ self.get_buffer("gates_weight")).split(self.belief_dim, dim=2)
            z, r = (for_z + from_z).sigmoid(), (for_r + from_r).sigmoid()
            candidate = (for_candidate + (r * h) @ self.get_buffer("candidate_weight")).tanh()
            h = h + z * (candidate - h)
        scores = self._linear("score", self._linear("hidden", h).relu()).squeeze(2).sigmoid()  # (N_t, B)
        return scores.T

    def _linear(self, name: str, states: Tensor) -> Tensor:
        return states @ self.get_buffer(f"{name}_weight") + self.get_buffer(f"{name}_bias")

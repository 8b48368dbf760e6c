"""The folded head of SKG: A and each label's part of the first belief are constants; the gated updates remain."""

from torch import Tensor, nn

from mlzsl.export.folding.constants import keep, of_embeddings
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.skg import SKG


class FoldedSKG(nn.Module):
    """features (B, F) -> scores (B, N_t); the three MLPs of the relations are gone, and no concatenation is built."""

    visual_weight: Tensor  # W_x, (F, d_h)
    node_bias: Tensor  # s_y W_s + b, (N_t, 1, d_h)
    propagation: Tensor  # A, (N_t, N_t)

    def __init__(self, model: SKG, graph: GraphTensors) -> None:
        """Fold `model`, in float64, on the testing graph; `graph` has float64 embeddings."""
        super().__init__()
        self.steps, self.belief_dim = model.config.steps, model.config.belief_dim
        keep(self, "visual_weight", model.first_belief.hidden.first_weight.T)
        keep(self, "node_bias", of_embeddings(model.first_belief.hidden, graph.target_embeddings)[:, None])
        keep(self, "propagation", model.propagation(graph))
        layers = {
            "belief": model.first_belief.out,
            "of_messages": model.update.of_messages,
            "gates": model.update.gates,
            "candidate": model.update.candidate,
            "hidden": model.belief_hidden,
            "score": model.belief_out,
        }
        for name, layer in layers.items():
            assert isinstance(layer, nn.Linear)
            keep(self, f"{name}_weight", layer.weight.T)
            if layer.bias is not None:
                keep(self, f"{name}_bias", layer.bias)

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

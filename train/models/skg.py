"""SKG: beliefs about each label, propagated along a knowledge graph by a gated network.

Lee, Fang, Yeh, Wang, "Multi-Label Zero-Shot Learning with Structured Knowledge Graphs", 2018, with the gated graph
network of Li et al., "Gated Graph Sequence Neural Networks", 2015. Huang et al. 2020 compare with it (section 4.1).

    x with s_y for each target y ── MLP ──► h⁰ ── T times: messages along A, gated update ──► h^T ── MLP ──► scores

A pair of labels has one of three relations: super-subordinate, if one is a hypernym of the other in WordNet; else
positive, if their WUP similarity exceeds the threshold; else negative. Each relation has its own MLP, which computes
the weight of a pair from the two embeddings. External classes are not used. docs/models.md lists the choices made.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.initialization import scale_embeddings, scale_features
from mlzsl.train.models.layers import PairMLP, TargetEncoder
from mlzsl.train.models.model import GraphTensors, LogitModel, ModelConfig, Noise, standard_normal

RELATIONS = ("negative", "positive", "super-subordinate")


@dataclass(frozen=True)
class SKGConfig(ModelConfig):
    """Widths and depth of the model.

    Attributes:
        hidden_dim: d_h, the width of every hidden layer.
        belief_dim: d_b, the width of beliefs.
        steps: T, the number of propagation steps.
    """

    hidden_dim: int = 256
    belief_dim: int = 32
    steps: int = 5


class GatedUpdate(nn.Module):
    """The gated recurrent unit that updates beliefs h by messages u.

    z = σ(W_z u + U_z h), r = σ(W_r u + U_r h), h̃ = tanh(W u + U (r ⊙ h)), h' = (1 − z) ⊙ h + z ⊙ h̃, with biases in W.
    """

    def __init__(self, belief_dim: int) -> None:
        super().__init__()
        self.of_messages = nn.Linear(belief_dim, 3 * belief_dim)  # W_z, W_r, W
        self.gates = nn.Linear(belief_dim, 2 * belief_dim, bias=False)  # U_z, U_r
        self.candidate = nn.Linear(belief_dim, belief_dim, bias=False)  # U

    def forward(self, messages: Tensor, beliefs: Tensor) -> Tensor:
        """u, h (..., d_b) -> h' (..., d_b)."""
        for_z, for_r, for_candidate = self.of_messages(messages).chunk(3, dim=-1)
        from_z, from_r = self.gates(beliefs).chunk(2, dim=-1)
        z, r = (for_z + from_z).sigmoid(), (for_r + from_r).sigmoid()
        candidate = (for_candidate + self.candidate(r * beliefs)).tanh()
        return beliefs + z * (candidate - beliefs)


class SKG(LogitModel):
    """Beliefs are node-major, (N_t, B, d_b): messages are one matrix product A @ (N_t, B·d_b)."""

    name = "SKG"
    config_class = SKGConfig

    def __init__(self, config: SKGConfig) -> None:
        super().__init__(config)
        d_s, d_h, d_b = config.embedding_dim, config.hidden_dim, config.belief_dim
        self.first_belief = TargetEncoder(config.feature_dim, d_s, d_h, d_b)  # F_I
        self.relations = nn.ModuleList(PairMLP(d_s, d_h) for _ in RELATIONS)  # F_R: a_uv, how much v counts for u
        self.update = GatedUpdate(d_b)
        self.belief_hidden = nn.Linear(d_b, d_h)  # F_O
        self.belief_out = nn.Linear(config.hidden_dim, 1)

    @torch.no_grad()
    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Standardize inputs; scale pair weights so that the sum over all labels does not saturate the tanh."""
        scale_features(self.first_belief.hidden, features)
        relations = [relation for relation in self.relations if isinstance(relation, PairMLP)]
        first_layers = [self.first_belief.hidden, *(relation.hidden for relation in relations)]
        scale_embeddings(first_layers, graph.target_embeddings)
        for relation in relations:
            relation.out.weight.div_(graph.num_targets)
            relation.out.bias.div_(graph.num_targets)

    def propagation(self, graph: GraphTensors) -> Tensor:
        """A, [N_t, N_t]: row u has the weights of all other labels in the message to u; 0 on the diagonal."""
        kinds = relation_of_pairs(graph)
        S = graph.target_embeddings
        A = torch.zeros(graph.num_targets, graph.num_targets, dtype=S.dtype, device=S.device)
        for kind, relation in enumerate(self.relations):
            pairs = (kinds == kind).nonzero().T
            A = A.index_put((pairs[0], pairs[1]), relation(S, pairs).to(A.dtype))
        return A

    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> (B, N_t), after T steps."""
        return self._readout(self._beliefs(features, graph)[-1])

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """Binary cross-entropy after each step t = 1 … T, weighted by 1 / (T − t + 1); "last" is the one after T."""
        step_losses = [
            nn.functional.binary_cross_entropy_with_logits(self._readout(beliefs), targets)
            for beliefs in self._beliefs(features, graph)
        ]
        T = self.config.steps
        weighted = [loss / (T - t + 1) for t, loss in enumerate(step_losses, start=1)]
        return {"loss": torch.stack(weighted).sum(), "last": step_losses[-1]}

    def _beliefs(self, features: Tensor, graph: GraphTensors) -> list[Tensor]:
        """h^1 … h^T, each (N_t, B, d_b)."""
        A = self.propagation(graph)
        h = self.first_belief(features, graph.target_embeddings)  # h^0
        beliefs = []
        for _ in range(self.config.steps):
            messages = (A @ h.flatten(1)).unflatten(1, h.shape[1:]).tanh()
            h = self.update(messages, h)
            beliefs.append(h)
        return beliefs

    def _readout(self, beliefs: Tensor) -> Tensor:
        return self.belief_out(self.belief_hidden(beliefs).relu()).squeeze(-1).T  # (B, N_t)


def relation_of_pairs(graph: GraphTensors) -> Tensor:
    """The index in RELATIONS of each ordered pair of targets, int64 [N_t, N_t]; −1 on the diagonal."""
    kinds = torch.zeros(graph.num_targets, graph.num_targets, dtype=torch.int64, device=graph.edges.device)
    for pairs, relation in ((graph.without_externals.edges, "positive"), (graph.is_a, "super-subordinate")):
        kinds[pairs[0], pairs[1]] = RELATIONS.index(relation)
    return kinds.fill_diagonal_(-1)

"""RGCN-PosVAE, the paper's full model (sections 3.2 to 3.4, equations 1 to 9).

    photo ── backbone ──► x, p^a
    x  with s_y for each target y   ── TargetEncoder ──► H^d ┐
    p_y with s_y for each external y ─ PosVAE ─────────► H^a ┴─► H ── RGCN layers ──► target rows ── MLP ──► scores

States of nodes are kept node-major, (N, B, d): a graph layer is then one matrix product Â @ (N, B·d).
Where the paper is silent, docs/model.md tells which reading was taken.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.initialization import fit_edges_to_similarity, scale_embeddings, scale_features
from mlzsl.train.models.layers import ConcatLinear, TargetEncoder
from mlzsl.train.models.noise import noise_like
from mlzsl.train.models.relational_gcn import RelationalGCN

EVIDENCE_SCALE = 3.0  # deviation of the projected e_y at the start: several times that of the noise in h
RELATIVE_DEVIATION = 0.025  # σ_e of the likelihood, as a share of the deviation of e_y
LOG_SIGMA = -4.0  # a posterior that starts narrow; the divergence widens it where nothing is to be kept


@dataclass(frozen=True)
class RGCNPosVAEConfig:
    """Widths of the model; the defaults are the paper's (section 4.1).

    Attributes:
        feature_dim: F, the width of the backbone's features x.
        embedding_dim: d_s, the width of class embeddings.
        hidden_dim: d_h, the width of node states and of every hidden layer.
        layers: the number of RGCN layers.
        vae_weight: λ in eq. 9.
        backbone_classes: C, the number of classes that the backbone's probabilities are over.
        evidence_deviation: σ_e of the Gaussian that section 3.3 assumes, on e_y.
    """

    feature_dim: int
    embedding_dim: int
    hidden_dim: int = 256
    layers: int = 2
    vae_weight: float = 1.0
    backbone_classes: int = 1000
    evidence_deviation: float = 0.01


def evidence_of(probabilities: Tensor, backbone_classes: int) -> Tensor:
    """e_y = log(1 + C p_y): how much likelier a class is than by chance, on a scale on which photos are comparable.

    p_y itself is near 0 for all but a few classes and near 1 for those: as a network's input it is either nothing or
    hundreds of deviations.
    """
    return (1 + backbone_classes * probabilities).log()


class PosVAE(nn.Module):
    """Q(h_y | p_y, s_y) = N(μ, σ²): the states of external nodes by variational inference (section 3.3).

    It sees p_y as e_y, the evidence for the class (`evidence_of`).
    """

    def __init__(self, config: RGCNPosVAEConfig) -> None:
        super().__init__()
        d_s, d_h = config.embedding_dim, config.hidden_dim
        self.evidence_deviation = config.evidence_deviation  # σ_e
        self.projection = nn.Linear(1, d_s)  # e_y into the space of s_y
        self.encoder_hidden = ConcatLinear(d_s, d_s, d_h)
        self.encoder_out = nn.Linear(d_h, 2 * d_h)  # (μ, log σ)
        self.decoder_hidden = ConcatLinear(d_h, d_s, d_h)
        self.decoder_out = nn.Linear(d_h, 1)

    def encode(self, evidence: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(μ, log σ) = Encoder(e_y, s_y) of eq. 5; e (B, N_a), S_a (N_a, d_s) -> 2 × (N_a, B, d_h)."""
        # The projection of a number and the layer after it are one line in e_y: W_a (w e_y + b) = e_y (W_a w) + W_a b.
        slope = self.encoder_hidden.first_weight @ self.projection.weight.squeeze(1)  # (d_h,)
        at_zero = self.encoder_hidden(self.projection.bias, embeddings)[:, None]  # (N_a, 1, d_h)
        hidden = (evidence.T[..., None] * slope + at_zero).relu()  # (N_a, B, d_h)
        mean, log_sigma = self.encoder_out(hidden).chunk(2, dim=-1)
        return mean, log_sigma

    def decode(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """ê_y = Decoder(h_y, s_y); h (N_a, B, d_h), S_a (N_a, d_s) -> (B, N_a)."""
        hidden = self.decoder_hidden(states, embeddings[:, None]).relu()
        return self.decoder_out(hidden).squeeze(-1).T

    @staticmethod
    def sample(mean: Tensor, log_sigma: Tensor) -> Tensor:
        """h_y = μ + exp(log σ / 2) ⊙ z with z ~ N(0, 1) (eq. 5)."""
        return mean + (log_sigma / 2).exp() * noise_like(mean, photos_dim=1)

    def loss(self, evidence: Tensor, decoded: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
        """L_VAE (eq. 4): −log N(e_y; ê_y, σ_e²) up to a constant, plus KL[Q || N(0, 1)], a dimension of h.

        Both are means over external classes and photos. Eq. 5 scales z by exp(log σ / 2), so the variance that
        the divergence sees is exp(log σ).
        """
        likelihood = nn.functional.mse_loss(decoded, evidence) / (2 * self.evidence_deviation**2)
        divergence = 0.5 * (mean.square() + log_sigma.exp() - log_sigma - 1)  # (N_a, B, d_h)
        return likelihood / mean.shape[-1] + divergence.mean()


class RGCNPosVAE(RelationalGCN):
    """The full model: external nodes start from what the backbone says of their classes; h = μ in evaluation."""

    name = "RGCN-PosVAE"
    config_class = RGCNPosVAEConfig

    def __init__(self, config: RGCNPosVAEConfig) -> None:
        super().__init__()
        self.config = config
        d_h = config.hidden_dim
        self.target_encoder = TargetEncoder(config.feature_dim, config.embedding_dim, d_h, d_h)
        self.posvae = PosVAE(config)
        self.add_graph_network(config.embedding_dim, config.hidden_dim, config.layers)

    @classmethod
    def measured(cls, external_probabilities: Tensor, backbone_classes: int) -> dict[str, float]:
        """σ_e of section 3.3's Gaussian, small enough that h_y has to tell a likely class from an unlikely one.

        The paper leaves it open, and with it the weight of reconstruction against divergence. At σ_e = 1, which a plain
        mean-square error stands for, the posterior collapses: h_y then says nothing of p_y.
        """
        evidence = evidence_of(external_probabilities, backbone_classes)
        return {"evidence_deviation": RELATIVE_DEVIATION * _spread(evidence)}

    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """Inputs at one scale (e_y at EVIDENCE_SCALE), a narrow posterior, and edges that follow similarity."""
        vae = self.posvae
        with torch.no_grad():
            scale_features(self.target_encoder.hidden, features)
            scale_embeddings((self.target_encoder.hidden, vae.encoder_hidden, vae.decoder_hidden), graph.embeddings)
            vae.projection.weight.mul_(EVIDENCE_SCALE / _spread(self.evidence(external_probabilities)))
            log_sigma = slice(self.config.hidden_dim, None)  # the second half of the encoder's output
            vae.encoder_out.weight[log_sigma].mul_(0.1)
            vae.encoder_out.bias[log_sigma] = LOG_SIGMA
        fit_edges_to_similarity(self.edge_weights, graph.embeddings)

    def evidence(self, external_probabilities: Tensor) -> Tensor:
        """e_y = log(1 + C p_y) of this system's backbone, [B, N_a]."""
        return evidence_of(external_probabilities, self.config.backbone_classes)

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F), p^a (B, N_a) -> scores (B, N_t) in [0, 1]; deterministic, h = μ."""
        mean, _ = self.posvae.encode(self.evidence(external_probabilities), graph.external_embeddings)
        return self._logits(features, mean, graph).sigmoid()

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """L_all of eq. 9 and its terms."""
        S_a = graph.external_embeddings
        e = self.evidence(external_probabilities)
        mean, log_sigma = self.posvae.encode(e, S_a)
        states = self.posvae.sample(mean, log_sigma)
        vae = self.posvae.loss(e, self.posvae.decode(states, S_a), mean, log_sigma)
        logits = self._logits(features, states, graph)
        rgcn = nn.functional.binary_cross_entropy_with_logits(logits, targets)  # eq. 8
        return {"loss": rgcn + self.config.vae_weight * vae, "rgcn": rgcn, "vae": vae}

    def _logits(self, features: Tensor, external_states: Tensor, graph: GraphTensors) -> Tensor:
        """H^d and H^a joined, the graph layers, and the final MLP on target nodes; -> (B, N_t)."""
        target_states = self.target_encoder(features, graph.target_embeddings)
        node_states = torch.cat([target_states, external_states])  # H^0, (N, B, d_h)
        return self.classify(node_states, graph, rows=graph.targets)


def _spread(evidence: Tensor) -> float:
    """The deviation of e over photos and classes; 1 where there are no external classes."""
    return max(evidence.std(correction=0).item(), 1e-6) if evidence.numel() else 1.0

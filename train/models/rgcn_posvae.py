"""RGCN-PosVAE, the paper's full model (sections 3.2 to 3.4, equations 1 to 9).

    photo ── backbone ──► x, p^a
    x  with s_y for each target y   ── TargetEncoder ──► H^d ┐
    p_y with s_y for each external y ─ PosVAE ─────────► H^a ┴─► H ── RGCN layers ──► target rows ── MLP ──► scores

docs/rgcn-posvae.md lists the choices made where the paper is silent.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.models.initialization import fit_edges_to_similarity, scale_embeddings, scale_features
from mlzsl.train.models.layers import ConcatLinear, RelationalGCN, TargetEncoder
from mlzsl.train.models.model import GraphTensors, Noise, standard_normal
from mlzsl.train.models.rgcn import RGCNConfig

EXTERNAL_SCORE_STD = 3.0  # of the projected e_y after initialization: several times that of the noise in h
RELATIVE_STD = 0.025  # σ_e of the likelihood, relative to the standard deviation of e_y
LOG_SIGMA = -4.0  # of the initial posterior, which is narrow; the KL divergence widens it where p_y says little


@dataclass(frozen=True)
class RGCNPosVAEConfig(RGCNConfig):
    """RGCN's widths, and the settings of the PosVAE.

    Attributes:
        vae_weight: λ in eq. 9; 1 in the paper (section 4.1).
        backbone_classes: C, the number of the backbone's classes.
        external_score_std: σ_e of the Gaussian likelihood of section 3.3, on e_y.
    """

    vae_weight: float = 1.0
    backbone_classes: int = 1000
    external_score_std: float = 0.01


def external_scores(probabilities: Tensor, backbone_classes: int) -> Tensor:
    """e_y = log(1 + C p_y), the score of an external class: its probability relative to chance, in logarithms.

    p_y itself is near 0 for all classes but a few: as a network's input it would be either nothing or hundreds of
    standard deviations.
    """
    return (1 + backbone_classes * probabilities).log()


class PosVAE(nn.Module):
    """Q(h_y | p_y, s_y) = N(μ, σ²): the states of external nodes by variational inference (section 3.3).

    p_y enters as e_y (`external_scores`).
    """

    def __init__(self, config: RGCNPosVAEConfig) -> None:
        super().__init__()
        d_s, d_h = config.embedding_dim, config.hidden_dim
        self.external_score_std = config.external_score_std  # σ_e
        self.projection = nn.Linear(1, d_s)  # e_y into the space of s_y
        self.encoder_hidden = ConcatLinear(d_s, d_s, d_h)
        self.encoder_out = nn.Linear(d_h, 2 * d_h)  # (μ, log σ)
        self.decoder_hidden = ConcatLinear(d_h, d_s, d_h)
        self.decoder_out = nn.Linear(d_h, 1)

    def encode(self, scores: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(μ, log σ) = Encoder(e_y, s_y) of eq. 5; e (B, N_a), S_a (N_a, d_s) -> 2 × (N_a, B, d_h)."""
        # The projection and the layer after it are linear in the number e_y: W_a (w e_y + b) = e_y (W_a w) + W_a b.
        slope = self.encoder_hidden.first_weight @ self.projection.weight.squeeze(1)  # (d_h,)
        at_zero = self.encoder_hidden(self.projection.bias, embeddings)[:, None]  # (N_a, 1, d_h)
        hidden = (scores.T[..., None] * slope + at_zero).relu()  # (N_a, B, d_h)
        mean, log_sigma = self.encoder_out(hidden).chunk(2, dim=-1)
        return mean, log_sigma

    def decode(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """ê_y = Decoder(h_y, s_y); h (N_a, B, d_h), S_a (N_a, d_s) -> (B, N_a)."""
        hidden = self.decoder_hidden(states, embeddings[:, None]).relu()
        return self.decoder_out(hidden).squeeze(-1).T

    @staticmethod
    def sample(mean: Tensor, log_sigma: Tensor, noise: Noise = standard_normal) -> Tensor:
        """h_y = μ + exp(log σ / 2) ⊙ z with z ~ N(0, 1) (eq. 5); all (N_a, B, d_h)."""
        return mean + (log_sigma / 2).exp() * noise(mean, 1)

    def loss(self, scores: Tensor, decoded: Tensor, mean: Tensor, log_sigma: Tensor) -> Tensor:
        """L_VAE (eq. 4): −log N(e_y; ê_y, σ_e²) up to a constant, plus KL[Q || N(0, 1)], per dimension of h.

        Both are means over external classes and photos. Eq. 5 scales z by exp(log σ / 2), so the variance in the
        divergence is exp(log σ).
        """
        likelihood = nn.functional.mse_loss(decoded, scores) / (2 * self.external_score_std**2)
        divergence = 0.5 * (mean.square() + log_sigma.exp() - log_sigma - 1)  # (N_a, B, d_h)
        return likelihood / mean.shape[-1] + divergence.mean()


class RGCNPosVAE(RelationalGCN):
    """The full model: states of external nodes come from their probabilities; h = μ in evaluation."""

    name = "RGCN-PosVAE"
    config_class = RGCNPosVAEConfig

    def __init__(self, config: RGCNPosVAEConfig) -> None:
        super().__init__(config)
        d_h = config.hidden_dim
        self.target_encoder = TargetEncoder(config.feature_dim, config.embedding_dim, d_h, d_h)
        self.posvae = PosVAE(config)
        self.add_graph_network(config.embedding_dim, config.hidden_dim, config.layers)

    @classmethod
    def config_from_data(cls, external_probabilities: Tensor, backbone_classes: int) -> dict[str, float]:
        """σ_e, small enough that h_y has to distinguish likely classes from unlikely ones.

        The paper leaves σ_e open, and with it the weight of reconstruction against divergence. At σ_e = 1, a plain
        mean-square error, the posterior collapses: h_y is then independent of p_y.
        """
        scores = external_scores(external_probabilities, backbone_classes)
        return {"external_score_std": RELATIVE_STD * _std(scores)}

    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Standardize inputs (e_y to EXTERNAL_SCORE_STD), narrow the posterior, fit the edge weights to similarity."""
        vae = self.posvae
        with torch.no_grad():
            scale_features(self.target_encoder.hidden, features)
            scale_embeddings((self.target_encoder.hidden, vae.encoder_hidden, vae.decoder_hidden), graph.embeddings)
            vae.projection.weight.mul_(EXTERNAL_SCORE_STD / _std(self.external_scores(external_probabilities)))
            log_sigma = slice(self.config.hidden_dim, None)  # the second half of the encoder's output
            vae.encoder_out.weight[log_sigma].mul_(0.1)
            vae.encoder_out.bias[log_sigma] = LOG_SIGMA
        fit_edges_to_similarity(self.edge_weights, graph.embeddings)

    def external_scores(self, external_probabilities: Tensor) -> Tensor:
        """e_y = log(1 + C p_y), [B, N_a]."""
        return external_scores(external_probabilities, self.config.backbone_classes)

    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F), p^a (B, N_a) -> (B, N_t); deterministic, h = μ."""
        mean, _ = self.posvae.encode(self.external_scores(external_probabilities), graph.external_embeddings)
        return self.logits_of_states(features, mean, graph)

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """L_all of eq. 9 and its terms."""
        S_a = graph.external_embeddings
        e = self.external_scores(external_probabilities)
        mean, log_sigma = self.posvae.encode(e, S_a)
        states = self.posvae.sample(mean, log_sigma, noise)
        vae = self.posvae.loss(e, self.posvae.decode(states, S_a), mean, log_sigma)
        logits = self.logits_of_states(features, states, graph)
        rgcn = nn.functional.binary_cross_entropy_with_logits(logits, targets)  # eq. 8
        return {"loss": rgcn + self.config.vae_weight * vae, "rgcn": rgcn, "vae": vae}

    def logits_of_states(self, features: Tensor, external_states: Tensor, graph: GraphTensors) -> Tensor:
        """H^0 = [H^d; H^a], the graph layers, and the final MLP on target nodes; -> (B, N_t)."""
        target_states = self.target_encoder(features, graph.target_embeddings)
        node_states = torch.cat([target_states, external_states])  # H^0, (N, B, d_h)
        return self.classify(node_states, graph, rows=graph.num_targets)


def _std(scores: Tensor) -> float:
    """The standard deviation of e over photos and classes; 1 without external classes."""
    return max(scores.std(correction=0).item(), 1e-6) if scores.numel() else 1.0

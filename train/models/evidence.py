"""Evidence: scores of external classes and of seen labels, propagated to any label by the similarity of embeddings.

A model of this project, not of the paper. Nothing in it is specific to one label, so it applies to unseen labels:

    e_k(y) = log Σ_e p_e exp(k (cos(s_y, s_e) − ½))           external classes e in the whole photo
    q_k(y) = the same of q_e, external classes at spatial locations (`backbone.dense_log_probabilities`)
    u_k(y) = the same of the mean of q_e over the training photos: the class prior
    c_k(y) = Σ_s a_k(y, s) g_s(x) / Σ_s a_k(y, s),   a_k = exp(k (cos(s_y, s_s) − 1))
                                                              seen labels s ≠ y similar to y: co-occurrence
    z(y)   = w · [e, q, u, c](y) + b                          one w for all labels

g_s is a ridge regression of seen label s on x. A label that is a seen label, or similar to one, also uses that label's
own classifier:

    t(y)   = max_s a_τ(y, s),   o(y) = Σ_s a_τ(y, s) g_s(x)
    score  = σ((1 − t) z + t (v_1 z + v_2 o + v_3))

w and v are fitted to held-out predictions: each photo's g comes from a fit to all other photos. Both regressions have
one optimum, so there are no epochs, no learning rate and no seed.

e_k is related to Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014, and c_k to
the co-occurrence statistics of Mensink et al., "COSTA", 2014, with similarity instead of counts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.graph.overlap import KEEP
from mlzsl.train.backbones.backbone import DENSE
from mlzsl.train.models.fitting import fit_logistic, fit_ridge
from mlzsl.train.models.model import GraphTensors, LogitModel, ModelConfig

EXTERNAL_SHARPNESS = (10.0, 20.0, 30.0)  # k of e, q and u
SEEN_SHARPNESS = (3.0, 10.0, 30.0)  # k of c
OWN_SHARPNESS = 20.0  # τ
HALF_COSINE = 0.5
SAME_LABEL = 0.999  # the cosine above which a seen label is y itself
SMALLEST_SUM = 1e-7  # of propagated probabilities, relative to the most similar class; float16 can represent it
MAX_PAIRS = 2_000_000  # of photos and seen labels that w and v are fitted to


@dataclass(frozen=True)
class EvidenceConfig(ModelConfig):
    """Sizes of the fitted tensors.

    Attributes:
        backbone_classes: C, the number of classes of q.
        seen_labels: S, the number of labels in training.
        penalty: L2, on the weights of standardized channels.
    """

    backbone_classes: int
    seen_labels: int
    penalty: float = 0.01


@dataclass(frozen=True)
class LabelConstants:
    """What depends on the class graph alone.

    Attributes:
        similarity: exp(k (cos(s_y, s_e) − max_e cos(s_y, s_e))), [N_a, K, N_t].
        log_scale: k (max_e cos(s_y, s_e) − ½), [K, N_t]: the factor left out of `similarity`, in logarithms.
        seen_weights: a_k of c, normalized to sum 1 and 0 for y itself, [S, K', N_t].
        own_similarity: a_τ, [S, N_t].
        gate: t, [N_t].
    """

    similarity: Tensor
    log_scale: Tensor
    seen_weights: Tensor
    own_similarity: Tensor
    gate: Tensor


class Evidence(LogitModel):
    """A ridge regression and two logistic regressions, all fitted in closed form or by Newton's method."""

    name = "evidence"
    learns = False
    uses_graph = False
    pooling = DENSE
    overlap = KEEP
    config_class = EvidenceConfig

    seen_embeddings: Tensor  # of the seen labels, normalized, (S, d_s)
    class_prior: Tensor  # E[q], (C,)
    classifier_weight: Tensor  # of g, (F, S)
    classifier_bias: Tensor  # (S,)
    weights: Tensor  # w, of e, q, u and c in this order, each for its k
    offset: Tensor  # b, (1,)
    own_weights: Tensor  # v, (3,)

    def __init__(self, config: EvidenceConfig) -> None:
        super().__init__(config)
        S, C = config.seen_labels, config.backbone_classes
        buffers = {
            "seen_embeddings": torch.zeros(S, config.embedding_dim),
            "class_prior": torch.full((C,), 1 / C),
            "classifier_weight": torch.zeros(config.feature_dim, S),
            "classifier_bias": torch.zeros(S),
            "weights": torch.zeros(3 * len(EXTERNAL_SHARPNESS) + len(SEEN_SHARPNESS)),
            "offset": torch.zeros(1),
            "own_weights": torch.tensor([1.0, 0.0, 0.0]),
        }
        for name, values in buffers.items():
            self.register_buffer(name, values)

    @torch.no_grad()
    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Fit g, then w and b, then v.

        Raises:
            UsageError: the graph has no external class.
        """
        self.require_external_classes(graph)
        x, q = self.split_features(features)
        self.seen_embeddings.copy_(nn.functional.normalize(graph.target_embeddings))
        self.class_prior.copy_(q.double().mean(dim=0))
        ridge = fit_ridge(x, targets)
        mean, std = ridge.left_out.mean(dim=0), ridge.left_out.std(dim=0).clamp_min(1e-3)
        self.classifier_weight.copy_(ridge.weight / std)
        self.classifier_bias.copy_((ridge.bias - mean) / std)

        count = max(min(len(features), MAX_PAIRS // graph.num_targets), 1)
        photos = torch.linspace(0, len(features) - 1, count).long()  # evenly spaced
        g = ((ridge.left_out - mean) / std).float()[photos]
        constants, labels = self.constants(graph), targets[photos].flatten()
        channels = self.channels(q[photos], external_probabilities[photos], g, graph, constants)
        weights, offset = fit_logistic(channels.transpose(1, 2).flatten(0, 1), labels, self.config.penalty)
        self.weights.copy_(weights)
        self.offset.copy_(offset)
        own = torch.stack([self._z(channels), g @ constants.own_similarity], dim=2)
        self.own_weights.copy_(torch.cat(fit_logistic(own.flatten(0, 1), labels, self.config.penalty)))

    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x and log q (B, F + C), p^a (B, N_a) -> (B, N_t)."""
        x, q = self.split_features(features)
        g = x @ self.classifier_weight + self.classifier_bias  # (B, S)
        constants = self.constants(graph)
        z = self._z(self.channels(q, external_probabilities, g, graph, constants))
        v, t = self.own_weights, constants.gate
        return (1 - t) * z + t * (v[0] * z + v[1] * (g @ constants.own_similarity) + v[2])

    def split_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, F + C) -> x (n, F), q (n, C)."""
        return features[:, : self.config.feature_dim], features[:, self.config.feature_dim :].exp()

    def constants(self, graph: GraphTensors) -> LabelConstants:
        """The constants of each target label; in float64, as sharpness multiplies the rounding error of a cosine."""
        dtype = graph.embeddings.dtype
        targets = nn.functional.normalize(graph.target_embeddings.double())
        to_externals = nn.functional.normalize(graph.external_embeddings.double()) @ targets.T  # (N_a, N_t)
        to_seen = self.seen_embeddings.double() @ targets.T  # (S, N_t)
        k = targets.new_tensor(EXTERNAL_SHARPNESS)[:, None]  # (K, 1)
        nearest = to_externals.amax(dim=0) if len(to_externals) else torch.zeros_like(to_seen[0])
        a_k = (targets.new_tensor(SEEN_SHARPNESS)[:, None] * (to_seen[:, None] - 1)).exp()
        a_k = a_k * (to_seen < SAME_LABEL)[:, None]
        a_tau = (OWN_SHARPNESS * (to_seen - 1)).exp()
        return LabelConstants(
            similarity=(k * (to_externals - nearest)[:, None]).exp().to(dtype),
            log_scale=(k * (nearest - HALF_COSINE)).to(dtype),
            seen_weights=(a_k / a_k.sum(dim=0).clamp_min(torch.finfo(a_k.dtype).tiny)).to(dtype),
            own_similarity=a_tau.to(dtype),
            gate=a_tau.amax(dim=0).clamp_max(1).to(dtype),
        )

    def channels(
        self, q: Tensor, external_probabilities: Tensor, g: Tensor, graph: GraphTensors, constants: LabelConstants
    ) -> Tensor:
        """e, q, u and c of every photo and label, each for its k.

        Args:
            q: float [B, C].
            external_probabilities: p^a, float [B, N_a].
            g: float [B, S].
            graph: the graph of the labels.
            constants: of the graph.

        Returns:
            float [B, 3 K + K', N_t].
        """
        externals = graph.external_logits
        e, q, u = (
            propagated(probabilities, constants.similarity) + constants.log_scale
            for probabilities in (external_probabilities, q[:, externals], self.class_prior[None, externals])
        )
        c = torch.einsum("bs,sky->bky", g, constants.seen_weights)
        return torch.cat([e, q, u.expand_as(e), c], dim=1)

    def _z(self, channels: Tensor) -> Tensor:
        """w · [e, q, u, c] + b, (B, N_t)."""
        return (self.weights[:, None] * channels).sum(dim=1) + self.offset


def propagated(probabilities: Tensor, similarity: Tensor) -> Tensor:
    """log Σ_e p_e similarity_e; p [B, N_a], similarity [N_a, K, N_t] -> [B, K, N_t]."""
    return torch.einsum("be,eky->bky", probabilities, similarity).clamp_min(SMALLEST_SUM).log()

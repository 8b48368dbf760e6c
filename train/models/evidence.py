"""Evidence: what a photo says of the classes that are known, carried to any label by how alike the labels are.

Our own system; no row of the paper. Nothing in it belongs to one label, so all of it holds for labels never seen:

    e_k(y) = log Σ_e p_e exp(k (cos(s_y, s_e) − ½))           the whole photo, external classes e
    q_k(y) = the same of q_e, the classifier's say at the photo's places (`backbone.evidence_at_places`)
    u_k(y) = the same of q_e's mean over the training photos: what is usual
    c_k(y) = Σ_s a_k(y, s) g_s(x) / Σ_s a_k(y, s),   a_k = exp(k (cos(s_y, s_s) − 1))
                                                              seen labels s ≠ y that are like y: things that go together
    z(y)   = w · [e, q, u, c](y) + b                          one w for all labels

g_s is a ridge regression of seen label s on x. Where y is a seen label, or next to one, its own classifier counts:

    t(y)   = max_s a_τ(y, s),   o(y) = Σ_s a_τ(y, s) g_s(x)
    score  = σ((1 − t) z + t (v_1 z + v_2 o + v_3))

g, w and v are fitted to photos that they are not asked about: every photo's g is that of a fit to all others. Both
regressions have one optimum, so there is no epoch, no learning rate and no seed.

e_k is akin to Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014, and c_k to the
co-occurrence statistics of Mensink et al., "COSTA", 2014, with likeness instead of counts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.train.backbones.backbone import PLACES
from mlzsl.train.models.fitting import fit_logistic, fit_ridge
from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.model import Model

EXTERNAL_SHARPNESS = (10.0, 20.0, 30.0)  # k of e, q and u
SEEN_SHARPNESS = (3.0, 10.0, 30.0)  # k of c
OWN_SHARPNESS = 20.0  # τ
HALF_COSINE = 0.5
ITSELF = 0.999  # a cosine from which on a seen label is y itself
LEAST = 1e-7  # evidence, as a share of what the nearest class alone could give; float16 still has it
PAIRS_FITTED = 2_000_000  # photos × seen labels that w and v are fitted to, at most


@dataclass(frozen=True)
class EvidenceConfig:
    """Sizes of what is fitted.

    Attributes:
        feature_dim: F, the width of x.
        embedding_dim: d_s, the width of class embeddings.
        backbone_classes: C, how many classes the photo's places speak of.
        seen_labels: how many labels the training sees.
        penalty: on the weights of channels at deviation 1.
    """

    feature_dim: int
    embedding_dim: int
    backbone_classes: int
    seen_labels: int
    penalty: float = 0.01


@dataclass(frozen=True)
class LabelConstants:
    """What the class graph alone decides of each label.

    Attributes:
        likeness: exp(k (cos(s_y, s_e) − max_e cos(s_y, s_e))), [N_a, K, N_t].
        nearness: k (max_e cos(s_y, s_e) − ½), [K, N_t]: what `likeness` leaves out.
        others: the weights of c, [S, K, N_t], that of a label's own 0; they sum to 1.
        own: a_τ, [S, N_t].
        seen: t, [N_t].
    """

    likeness: Tensor
    nearness: Tensor
    others: Tensor
    own: Tensor
    seen: Tensor


class Evidence(Model):
    """Two regressions fitted to evidence; no parameter is learned by steps."""

    name = "evidence"
    learns = False
    reading = PLACES
    config_class = EvidenceConfig

    seen_embeddings: Tensor  # of the seen labels at length 1, (S, d_s)
    usual: Tensor  # E[q], (C,)
    classifier_weight: Tensor  # of g, (F, S)
    classifier_bias: Tensor  # (S,)
    weights: Tensor  # w: of e, q, u and c in turn, each for its k
    offset: Tensor  # b, (1,)
    own_weights: Tensor  # v, (3,)

    def __init__(self, config: EvidenceConfig) -> None:
        super().__init__()
        self.config = config
        S = config.seen_labels
        channels = 3 * len(EXTERNAL_SHARPNESS) + len(SEEN_SHARPNESS)
        self.register_buffer("seen_embeddings", torch.zeros(S, config.embedding_dim))
        self.register_buffer("usual", torch.full((config.backbone_classes,), 1 / config.backbone_classes))
        self.register_buffer("classifier_weight", torch.zeros(config.feature_dim, S))
        self.register_buffer("classifier_bias", torch.zeros(S))
        self.register_buffer("weights", torch.zeros(channels))
        self.register_buffer("offset", torch.zeros(1))
        self.register_buffer("own_weights", torch.tensor([1.0, 0.0, 0.0]))

    @torch.no_grad()
    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """Fit everything.

        Raises:
            UsageError: the label set leaves no external class.
        """
        self.need_externals(graph)
        x, q = self.parted(features)
        self.seen_embeddings.copy_(nn.functional.normalize(graph.target_embeddings))
        self.usual.copy_(q.double().mean(dim=0))
        ridge = fit_ridge(x, targets)
        level, spread = ridge.left_out.mean(dim=0), ridge.left_out.std(dim=0).clamp_min(1e-3)
        self.classifier_weight.copy_(ridge.weight / spread)
        self.classifier_bias.copy_((ridge.bias - level) / spread)

        fitted = _spread_over(len(features), PAIRS_FITTED // graph.targets)
        seen = ((ridge.left_out - level) / spread).float()[fitted]
        constants, truth = self.constants(graph), targets[fitted].flatten()
        channels = self.channels(q[fitted], external_probabilities[fitted], seen, graph, constants)
        weights, offset = fit_logistic(channels.transpose(1, 2).flatten(0, 1), truth, self.config.penalty)
        self.weights.copy_(weights)
        self.offset.copy_(offset)
        own = torch.stack([self._weighed(channels), seen @ constants.own], dim=2)
        self.own_weights.copy_(torch.cat(fit_logistic(own.flatten(0, 1), truth, self.config.penalty)))

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x and log q (B, F + C), p^a (B, N_a) -> scores (B, N_t) in [0, 1]."""
        return self._logits(features, external_probabilities, graph).sigmoid()

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, to compare with; `start` has minimized it."""
        logits = self._logits(features, external_probabilities, graph)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, targets)}

    def parted(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, F + C) -> x (n, F), q (n, C)."""
        return features[:, : self.config.feature_dim], features[:, self.config.feature_dim :].exp()

    def constants(self, graph: GraphTensors) -> LabelConstants:
        """What the graph decides of each target label; in float64, as sharpness enlarges the error of a cosine."""
        dtype = graph.embeddings.dtype
        targets = nn.functional.normalize(graph.target_embeddings.double())
        to_externals = nn.functional.normalize(graph.external_embeddings.double()) @ targets.T  # (N_a, N_t)
        to_seen = self.seen_embeddings.double() @ targets.T  # (S, N_t)
        k = targets.new_tensor(EXTERNAL_SHARPNESS)[:, None]  # (K, 1)
        nearest = to_externals.amax(dim=0) if len(to_externals) else torch.zeros_like(to_seen[0])
        others = (targets.new_tensor(SEEN_SHARPNESS)[:, None] * (to_seen[:, None] - 1)).exp()
        others = others * (to_seen < ITSELF)[:, None]
        own = (OWN_SHARPNESS * (to_seen - 1)).exp()
        return LabelConstants(
            likeness=(k * (to_externals - nearest)[:, None]).exp().to(dtype),
            nearness=(k * (nearest - HALF_COSINE)).to(dtype),
            others=(others / others.sum(dim=0).clamp_min(torch.finfo(others.dtype).tiny)).to(dtype),
            own=own.to(dtype),
            seen=own.amax(dim=0).clamp_max(1).to(dtype),
        )

    def channels(
        self,
        q: Tensor,
        external_probabilities: Tensor,
        seen: Tensor,
        graph: GraphTensors,
        constants: LabelConstants,
    ) -> Tensor:
        """e, q, u and c of every photo and label, each for its k.

        Args:
            q: float [B, C].
            external_probabilities: p^a, float [B, N_a].
            seen: g of each seen label, float [B, S].
            graph: whose labels.
            constants: of the graph.

        Returns:
            float [B, 3 K + K', N_t].
        """
        externals = graph.external_logits
        e, q, u = (
            carried(evidence, constants.likeness) + constants.nearness
            for evidence in (external_probabilities, q[:, externals], self.usual[None, externals])
        )
        c = torch.einsum("bs,sky->bky", seen, constants.others)
        return torch.cat([e, q, u.expand_as(e), c], dim=1)

    def _weighed(self, channels: Tensor) -> Tensor:
        """z, (B, N_t)."""
        return (self.weights[:, None] * channels).sum(dim=1) + self.offset

    def _logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        x, q = self.parted(features)
        g = x @ self.classifier_weight + self.classifier_bias  # (B, S)
        constants = self.constants(graph)
        z = self._weighed(self.channels(q, external_probabilities, g, graph, constants))
        v, t = self.own_weights, constants.seen
        return (1 - t) * z + t * (v[0] * z + v[1] * (g @ constants.own) + v[2])


def carried(evidence: Tensor, likeness: Tensor) -> Tensor:
    """log Σ_e evidence_e likeness_e; evidence [B, N_a], likeness [N_a, K, N_t] -> [B, K, N_t]."""
    return torch.einsum("be,eky->bky", evidence, likeness).clamp_min(LEAST).log()


def _spread_over(photos: int, most: int) -> Tensor:
    """At most so many photos, evenly spread over all, int64."""
    return torch.linspace(0, photos - 1, max(min(photos, most), 1)).long()

"""The folded head of the evidence model: one linear layer of x, two products and a logarithm."""

import torch
from torch import Tensor, nn

from mlzsl.export.folding.constants import register_constants
from mlzsl.train.models.evidence import EXTERNAL_SHARPNESS, SEEN_SHARPNESS, Evidence, propagated
from mlzsl.train.models.model import GraphTensors


class FoldedEvidence(nn.Module):
    """z is linear in g and g is linear in x; u and the gate t are constants of a label."""

    similarity: Tensor  # (N_a, K, N_t)
    whole_weight: Tensor  # of e, (K, N_t)
    dense_weight: Tensor  # of q, (K, N_t)
    weight: Tensor  # of x, (F, N_t)
    bias: Tensor  # (N_t,)
    external_logits: Tensor  # int64 (N_a,)

    def __init__(self, model: Evidence, graph: GraphTensors) -> None:
        super().__init__()
        constants = model.constants(graph)
        K = len(EXTERNAL_SHARPNESS)
        e, q, u, c = model.weights.split([K, K, K, len(SEEN_SHARPNESS)])
        v, t = model.own_weights, constants.gate
        scale = 1 - t + t * v[0]  # of z, (N_t,)
        prior = propagated(model.class_prior[None, graph.external_logits], constants.similarity)[0]
        fixed = model.offset + u @ (prior + constants.log_scale) + (e + q) @ constants.log_scale  # (N_t,)
        seen_weight = torch.einsum("k,sky->sy", c, constants.seen_weights) * scale  # of g, (S, N_t)
        seen_weight = seen_weight + t * v[1] * constants.own_similarity
        self.feature_dim = model.config.feature_dim
        register_constants(
            self,
            similarity=constants.similarity,
            whole_weight=e[:, None] * scale,
            dense_weight=q[:, None] * scale,
            weight=model.classifier_weight @ seen_weight,
            bias=model.classifier_bias @ seen_weight + fixed * scale + t * v[2],
            external_logits=graph.external_logits,
        )

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        x, log_q = features[:, : self.feature_dim], features[:, self.feature_dim :]
        p = logits.softmax(dim=1).index_select(1, self.external_logits)
        q = log_q.index_select(1, self.external_logits).exp()
        z = x @ self.weight + self.bias
        z = z + (propagated(p, self.similarity) * self.whole_weight).sum(dim=1)
        z = z + (propagated(q, self.similarity) * self.dense_weight).sum(dim=1)
        return z.sigmoid()

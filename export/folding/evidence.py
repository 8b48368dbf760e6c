"""The folded head of the evidence system: one layer for all that is linear in x, two products and a logarithm."""

import torch
from torch import Tensor, nn

from mlzsl.export.folding.constants import keep
from mlzsl.train.models.evidence import EXTERNAL_SHARPNESS, SEEN_SHARPNESS, Evidence, carried
from mlzsl.train.models.graph_tensors import GraphTensors


class FoldedEvidence(nn.Module):
    """z is linear in g, g is linear in x; u and the gate t are constants of a label."""

    likeness: Tensor  # (N_a, K, N_t)
    whole_weight: Tensor  # of e, (K, N_t)
    place_weight: Tensor  # of q, (K, N_t)
    weight: Tensor  # of x, (F, N_t)
    bias: Tensor  # (N_t,)
    places: Tensor  # int64 (N_a,), of the external classes among the backbone's

    def __init__(self, model: Evidence, graph: GraphTensors) -> None:
        super().__init__()
        constants = model.constants(graph)
        K = len(EXTERNAL_SHARPNESS)
        e, q, u, c = model.weights.split([K, K, K, len(SEEN_SHARPNESS)])
        v, t = model.own_weights, constants.seen
        scale = 1 - t + t * v[0]  # of z, (N_t,)
        usual = carried(model.usual[None, graph.external_logits], constants.likeness)[0] + constants.nearness
        fixed = model.offset + u @ usual + (e + q) @ constants.nearness  # (N_t,)
        of_seen = torch.einsum("k,sky->sy", c, constants.others) * scale + t * v[1] * constants.own  # (S, N_t)
        self.feature_dim = model.config.feature_dim
        keep(self, "likeness", constants.likeness)
        keep(self, "whole_weight", e[:, None] * scale)
        keep(self, "place_weight", q[:, None] * scale)
        keep(self, "weight", model.classifier_weight @ of_seen)
        keep(self, "bias", model.classifier_bias @ of_seen + fixed * scale + t * v[2])
        keep(self, "places", graph.external_logits)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        x, log_q = features[:, : self.feature_dim], features[:, self.feature_dim :]
        p = logits.softmax(dim=1).index_select(1, self.places)
        q = log_q.index_select(1, self.places).exp()
        z = x @ self.weight + self.bias
        z = z + (carried(p, self.likeness) * self.whole_weight).sum(dim=1)
        z = z + (carried(q, self.likeness) * self.place_weight).sum(dim=1)
        return z.sigmoid()

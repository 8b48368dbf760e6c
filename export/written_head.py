"""The head evaluated as the paper writes it, only Â frozen: what folding is measured and tested against."""

import torch
from torch import Tensor, nn

from mlzsl.train.models.rgcn_posvae import RGCNPosVAE
from mlzsl.train.models.tensors import GraphTensors


class WrittenHead(nn.Module):
    """x (B, F), backbone logits (B, C) -> scores (B, N_t), every formula in its order, concatenations built."""

    target_embeddings: Tensor  # (N_t, d_s)
    external_embeddings: Tensor  # (N_a, d_s)
    external_logits: Tensor  # int64 (N_a,)
    adjacency: Tensor  # Â, (N, N)

    def __init__(self, model: RGCNPosVAE, graph: GraphTensors) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("target_embeddings", graph.target_embeddings.clone())
        self.register_buffer("external_embeddings", graph.external_embeddings.clone())
        self.register_buffer("external_logits", graph.external_logits)
        with torch.no_grad():
            self.register_buffer("adjacency", model.normalized_adjacency(graph))

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        model, vae = self.model, self.model.posvae
        p = logits.softmax(dim=1)[:, self.external_logits]  # (B, N_a)
        H_d = _mlp(model.target_encoder.hidden, model.target_encoder.out, features[:, None], self.target_embeddings)
        projected = vae.projection(model.evidence(p)[..., None])  # (B, N_a, d_s)
        mean_and_log_sigma = _mlp(vae.encoder_hidden, vae.encoder_out, projected, self.external_embeddings)
        H = torch.cat([H_d, mean_and_log_sigma[..., : model.config.hidden_dim]], dim=1)  # (B, N, d_h)
        for W in model.graph_weights:
            H = (self.adjacency @ (H @ W)).relu()  # eq. 6
        hidden = model.classifier_hidden(H[:, : len(self.target_embeddings)]).relu()
        return model.classifier_out(hidden).squeeze(2).sigmoid()


def _mlp(first: nn.Linear, second: nn.Linear, a: Tensor, embeddings: Tensor) -> Tensor:
    """MLP([a; s_y]) with the concatenation built; a (B, 1 or n, d), s (n, d_s) -> (B, n, out)."""
    n = len(embeddings)
    pairs = torch.cat([a.expand(-1, n, -1), embeddings.expand(len(a), -1, -1)], dim=2)
    out: Tensor = second(nn.functional.linear(pairs, first.weight, first.bias).relu())
    return out

"""Data-dependent initialization, which the paper leaves open: initial parameters computed from the training data.

Two choices decide whether training on seen labels transfers to unseen ones (benchmarks/README.md has measurements):

- Edge weights are initialized to a similarity. With random edge weights each class averages hundreds of neighbours
  equally, and external classes contribute the same to every label.
- Inputs are standardized (Krähenbühl et al., "Data-dependent Initializations of Convolutional Neural Networks", 2016).
  Otherwise external-class scores are lost among features of a larger scale and noise of standard deviation 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlzsl.train.models.layers import ConcatLinear, EdgeWeights

STRONG_NEIGHBOURS = 2.0  # the mean number of neighbours of a node with an initial weight above ½
INITIAL_LOGIT = -4.0  # of an edge weight before the fit
SHARPNESS = 15.0  # the slope of the logistic function of the cosine
FIT_STEPS, FIT_BATCH, FIT_LEARNING_RATE = 200, 4096, 3e-3


def scale_features(layer: nn.Linear, features: Tensor) -> None:
    """Scale a first layer so that it effectively takes x standardized over the training photos, in place.

    Args:
        layer: a linear layer over x, or a `ConcatLinear` over [x; s_y].
        features: x, float32 [n, F].
    """
    std = features.std(dim=0, correction=0)
    std[std < 1e-6] = 1  # a constant feature
    weight = layer.weight[:, : features.shape[1]]
    weight.div_(std)
    layer.bias.sub_(weight @ features.mean(dim=0))


def scale_embeddings(layers: Sequence[ConcatLinear], embeddings: Tensor) -> None:
    """Scale layers over [·; s_y] so that they effectively take S [n, d_s] at a root mean square of 1, in place."""
    scale = embeddings.square().mean().sqrt().clamp_min(1e-6)
    for layer in layers:
        layer.second_weight.div_(scale)


def similarity(embeddings: Tensor) -> Tensor:
    """The initial edge weights: a logistic function of the cosine of s_u and s_v, [N, N].

    It is ½ at the cosine that STRONG_NEIGHBOURS other classes of a node exceed on average.
    """
    unit = nn.functional.normalize(embeddings)
    cosines = unit @ unit.T
    others = cosines[~torch.eye(len(unit), dtype=torch.bool)]
    half_cosine = others.topk(min(int(STRONG_NEIGHBOURS * len(unit)), len(others))).values[-1]
    return (SHARPNESS * (cosines - half_cosine)).sigmoid()


def fit_edges_to_similarity(edge_weights: EdgeWeights, embeddings: Tensor) -> None:
    """Fit w_uv = MLP(s_u, s_v) to `similarity` over all pairs of classes, by FIT_STEPS of Adam.

    The MLP is a function of embeddings, so that it also gives the edge weights of unseen labels.
    """
    count = len(embeddings)
    if count < 2:
        return
    initial = similarity(embeddings)
    with torch.no_grad():
        _initialize_as_inner_product(edge_weights, embeddings)
    optimizer = torch.optim.Adam(edge_weights.parameters(), lr=FIT_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FIT_STEPS)
    for _ in range(FIT_STEPS):
        u = torch.randint(count, (FIT_BATCH,))
        v = (u + torch.randint(1, count, (FIT_BATCH,))) % count  # another class
        hidden = edge_weights.hidden(embeddings[u], embeddings[v]).relu()
        loss = nn.functional.binary_cross_entropy_with_logits(edge_weights.out(hidden).squeeze(1), initial[u, v])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _initialize_as_inner_product(edge_weights: EdgeWeights, embeddings: Tensor) -> None:
    """Set hidden units to |d·(s_u + s_v)| and |d·(s_u − s_v)| for the principal directions d of the embeddings.

    |a + b| − |a − b| increases with a·b, so the MLP approximates an inner product, which random units learn slowly.
    """
    hidden, out = edge_weights.hidden, edge_weights.out
    quarter = hidden.out_features // 4
    directions = torch.linalg.svd(embeddings, full_matrices=False).Vh[:quarter]  # (k, d_s)
    directions /= (embeddings @ directions.T).std(dim=0, correction=0).mean().clamp_min(1e-6)
    hidden.bias.zero_()
    out.bias.fill_(INITIAL_LOGIT)
    for block, (sign_u, sign_v, slope) in enumerate(((1, 1, 0.05), (-1, -1, 0.05), (1, -1, -0.05), (-1, 1, -0.05))):
        units = slice(block * quarter, block * quarter + len(directions))
        hidden.weight[units] = torch.cat([sign_u * directions, sign_v * directions], dim=1)
        out.weight[:, units] = slope

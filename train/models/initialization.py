"""Where training starts from, which the paper leaves open: parameters set from the training data, no architecture.

Two things decide whether what is learned on seen labels reaches unseen ones (benchmarks/README.md has figures):

- Edges start as a similarity. With random edges, every class hears all of its hundreds of neighbours alike, and the
  way over external classes says nothing about one label that it does not say about the others.
- Inputs start at one scale, as in data-dependent initialization (Krähenbühl et al. 2016). Otherwise what external
  classes say is lost beside features of other sizes and noise of deviation 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlzsl.train.models.layers import ConcatLinear, EdgeWeights

STRONG_NEIGHBOURS = 2.0  # the mean number of classes that a node hears well at the start
FIRST_LOGIT = -4.0  # of an edge before the fit
SHARPNESS = 15.0  # of the edge weight's rise with the cosine of two embeddings
FIT_STEPS, FIT_BATCH, FIT_RATE = 200, 4096, 3e-3


def scale_features(layer: nn.Linear, features: Tensor) -> None:
    """Let a first layer see each of the features x at mean 0 and deviation 1 over the training photos, in place.

    Args:
        layer: a linear layer over x, or a `ConcatLinear` over [x; s_y].
        features: x, float32 [n, F].
    """
    deviation = features.std(dim=0, correction=0)
    deviation[deviation < 1e-6] = 1  # a feature that never varies
    weight = layer.weight[:, : features.shape[1]]
    weight.div_(deviation)
    layer.bias.sub_(weight @ features.mean(dim=0))


def scale_embeddings(layers: Sequence[ConcatLinear], embeddings: Tensor) -> None:
    """Let layers over [·; s_y] see embeddings at a root mean square of 1, in place; S [n, d_s]."""
    size = embeddings.square().mean().sqrt().clamp_min(1e-6)
    for layer in layers:
        layer.second_weight.div_(size)


def similarity(embeddings: Tensor) -> Tensor:
    """The weights that edges start from: a logistic function of the cosine of s_u and s_v, [N, N].

    Its middle lies where a node has STRONG_NEIGHBOURS others above it in the mean.
    """
    unit = nn.functional.normalize(embeddings)
    cosines = unit @ unit.T
    others = cosines[~torch.eye(len(unit), dtype=torch.bool)]
    middle = others.topk(min(int(STRONG_NEIGHBOURS * len(unit)), len(others))).values[-1]
    return (SHARPNESS * (cosines - middle)).sigmoid()


def fit_edges_to_similarity(edge_weights: EdgeWeights, embeddings: Tensor) -> None:
    """Fit w_uv = MLP(s_u, s_v) to `similarity` over all pairs of classes, by FIT_STEPS of Adam.

    It is the function that is fitted, not a table: a label that training never saw finds its neighbours by it.
    """
    count = len(embeddings)
    if count < 2:
        return
    goals = similarity(embeddings)
    with torch.no_grad():
        _as_sums_and_differences(edge_weights, embeddings)
    optimizer = torch.optim.Adam(edge_weights.parameters(), lr=FIT_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FIT_STEPS)
    for _ in range(FIT_STEPS):
        u = torch.randint(count, (FIT_BATCH,))
        v = (u + torch.randint(1, count, (FIT_BATCH,))) % count  # another class
        hidden = edge_weights.hidden(embeddings[u], embeddings[v]).relu()
        loss = nn.functional.binary_cross_entropy_with_logits(edge_weights.out(hidden).squeeze(1), goals[u, v])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _as_sums_and_differences(edge_weights: EdgeWeights, embeddings: Tensor) -> None:
    """Let hidden units measure |d·(s_u + s_v)| and |d·(s_u − s_v)| along the embeddings' principal directions d.

    |a + b| − |a − b| grows with a·b, so that the MLP starts near an inner product, which random units approach slowly.
    """
    hidden, out = edge_weights.hidden, edge_weights.out
    quarter = hidden.out_features // 4
    directions = torch.linalg.svd(embeddings, full_matrices=False).Vh[:quarter]  # (k, d_s)
    directions /= (embeddings @ directions.T).std(dim=0, correction=0).mean().clamp_min(1e-6)
    hidden.bias.zero_()
    out.bias.fill_(FIRST_LOGIT)
    for place, (sign_u, sign_v, slope) in enumerate(((1, 1, 0.05), (-1, -1, 0.05), (1, -1, -0.05), (-1, 1, -0.05))):
        units = slice(place * quarter, place * quarter + len(directions))
        hidden.weight[units] = torch.cat([sign_u * directions, sign_v * directions], dim=1)
        out.weight[:, units] = slope

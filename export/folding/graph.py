"""The folded head of the RGCN systems: constants of one label set, and the products that are left (docs/folding.md).

1. Â comes from the edge MLP once; the MLP is gone.
2. [x; s_y] W = x W_x + (s_y W_s + b): the second term is a constant of the label.
3. The PosVAE encoder's first layer is rank one in e_y = log(1 + C p_y): e_y · u + c_y.
4. h = μ: the half of the encoder's last layer that makes log σ is gone, and so is the decoder.
5. A linear last layer followed by the next graph layer's W is one matrix; its bias becomes a constant of the node.
6. Only the target rows of the last graph layer are needed, only their neighbours of the layer before, and so on.
7. Rows of Â with the same empty regions are multiplied together, without these (`export.folding.block_product`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlzsl.export.folding.block_product import BlockProduct
from mlzsl.export.folding.constants import keep, of_embeddings
from mlzsl.train.models.layers import RelationalGCN, TargetEncoder
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn import RGCN
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, external_scores
from mlzsl.train.models.rgcn_xl import RGCNXL


@dataclass(frozen=True)
class Reach:
    """The nodes whose states matter: `nodes[l]` at the input of graph layer l, and the targets at the very end."""

    nodes: tuple[Tensor, ...]  # int64 [n_l], ascending, for l = 0 … L


def reach(adjacency: Tensor, targets: int, layers: int) -> Reach:
    """Follow the non-zero entries of Â back from the target rows, layer by layer (step 6)."""
    needed = [torch.arange(targets)]
    for _ in range(layers):
        needed.append((adjacency[needed[-1]] != 0).any(dim=0).nonzero().squeeze(1))
    return Reach(tuple(reversed(needed)))


class FeatureMessages(nn.Module):
    """H^0 W^0 of nodes that start from x, without its bias: steps 2 and 5."""

    visual_weight: Tensor  # W_x, (F, d_h)
    node_bias: Tensor  # s_y W_s + b, (n, 1, d_h)
    message_weight: Tensor  # W₂ W⁰, (d_h, d_h)

    def __init__(self, encoder: TargetEncoder, embeddings: Tensor, graph_weight: Tensor) -> None:
        super().__init__()
        keep(self, "visual_weight", encoder.hidden.first_weight.T)
        keep(self, "node_bias", of_embeddings(encoder.hidden, embeddings)[:, None])
        keep(self, "message_weight", encoder.out.weight.T @ graph_weight)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return (features @ self.visual_weight + self.node_bias).relu() @ self.message_weight  # (n, B, d_h)


class EvidenceMessages(nn.Module):
    """H^0 W^0 of nodes that start from the PosVAE's μ, without its bias: steps 3 to 5."""

    places: Tensor  # int64 (n,), among the backbone's logits
    slope: Tensor  # u, (d_h,)
    node_bias: Tensor  # c_y, (n, 1, d_h)
    message_weight: Tensor  # W₂ W⁰, (d_h, d_h)

    def __init__(self, model: RGCNPosVAE, embeddings: Tensor, places: Tensor, graph_weight: Tensor) -> None:
        super().__init__()
        vae, d_h = model.posvae, model.config.hidden_dim
        self.backbone_classes = model.config.backbone_classes
        first = vae.encoder_hidden.first_weight
        keep(self, "places", places)
        keep(self, "slope", first @ vae.projection.weight.squeeze(1))
        at_zero = first @ vae.projection.bias + of_embeddings(vae.encoder_hidden, embeddings)
        keep(self, "node_bias", at_zero[:, None])
        keep(self, "message_weight", vae.encoder_out.weight[:d_h].T @ graph_weight)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=1).index_select(1, self.places)  # (B, n)
        evidence = external_scores(probabilities, self.backbone_classes).T.unsqueeze(2)  # (n, B, 1)
        return (evidence * self.slope + self.node_bias).relu() @ self.message_weight  # (n, B, d_h)


class FoldedGraphHead(nn.Module):
    """features (B, F), logits (B, C) -> scores (B, N_t).

    Attributes:
        reached: how many nodes are computed at the input of each graph layer, and targets at the end.
    """

    first_bias: Tensor  # (n_1, 1, d_h)
    classifier_weight: Tensor  # (d_h, d_h)
    classifier_bias: Tensor  # (d_h,)
    score_weight: Tensor  # (d_h, 1)
    score_bias: Tensor  # (1,)
    target_places: Tensor  # int64 (N_t,), each target's place among the last layer's rows

    def __init__(
        self,
        model: RelationalGCN,
        messages: Sequence[nn.Module],
        message_biases: Tensor,
        adjacency: Tensor,
        reached: Reach,
    ) -> None:
        """Fold the graph layers and the classifier.

        Args:
            model: the trained system, in float64.
            messages: (features, logits) -> H^0 W^0 of some nodes; one after another they give `reached.nodes[0]`.
            message_biases: what step 5 left over, float64 [n_0, d_h].
            adjacency: Â, float64 [N, N].
            reached: the nodes that matter.
        """
        super().__init__()
        self.messages = nn.ModuleList(messages)
        self.propagations = nn.ModuleList()
        nodes = reached.nodes[0]
        for rows in reached.nodes[1:]:
            product = BlockProduct(adjacency[rows][:, nodes])
            nodes = rows[product.row_order]  # the next layer's columns come in the order of these blocks
            self.propagations.append(product)
            if len(self.propagations) == 1:
                keep(self, "first_bias", (adjacency[nodes][:, reached.nodes[0]] @ message_biases)[:, None])
        keep(self, "target_places", nodes.argsort())
        for index, weight in enumerate(model.graph_weights[1:], start=1):
            keep(self, f"layer_weight_{index}", weight)
        keep(self, "classifier_weight", model.classifier_hidden.weight.T)
        keep(self, "classifier_bias", model.classifier_hidden.bias)
        keep(self, "score_weight", model.classifier_out.weight.T)
        keep(self, "score_bias", model.classifier_out.bias)
        self.reached = tuple(len(nodes) for nodes in reached.nodes)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        parts = [part(features, logits) for part in self.messages]  # (n, B, d_h) each
        messages = torch.cat(parts) if len(parts) > 1 else parts[0]  # H^0 W^0 without its bias, (n_0, B, d_h)
        states = (self._propagate(0, messages) + self.first_bias).relu()  # H^1, (n_1, B, d_h)
        for index in range(1, len(self.propagations)):
            # Fewer rows come out than go in, so Â goes first and W after it.
            states = (self._propagate(index, states) @ getattr(self, f"layer_weight_{index}")).relu()
        hidden = (states @ self.classifier_weight + self.classifier_bias).relu()  # (N_t, B, d_h)
        scores = (hidden @ self.score_weight + self.score_bias).squeeze(2).sigmoid()  # (N_t, B)
        return scores.index_select(0, self.target_places).T

    def _propagate(self, index: int, states: Tensor) -> Tensor:
        propagated: Tensor = self.propagations[index](states.flatten(1))
        return propagated.reshape(len(propagated), -1, states.shape[2])


def fold_rgcn(model: RGCN, graph: GraphTensors) -> nn.Module:
    """RGCN on the target nodes."""
    return _fold_of_features(model, graph.without_externals)


def fold_rgcn_xl(model: RGCNXL, graph: GraphTensors) -> nn.Module:
    """RGCN-XL: external classes that reach a target start like targets; what is said of them is not computed."""
    return _fold_of_features(model, graph)


def fold_rgcn_posvae(model: RGCNPosVAE, graph: GraphTensors) -> nn.Module:
    """RGCN-PosVAE: external classes that reach a target start from their evidence."""
    adjacency = model.normalized_adjacency(graph)
    reached = reach(adjacency, graph.num_targets, len(model.graph_layers))
    first = reached.nodes[0]
    externals = first[first >= graph.num_targets] - graph.num_targets
    encoder, vae, W = model.target_encoder, model.posvae, model.graph_weights[0]
    messages = [
        FeatureMessages(encoder, graph.target_embeddings, W),
        EvidenceMessages(model, graph.external_embeddings[externals], graph.external_logits[externals], W),
    ]
    mean_bias = vae.encoder_out.bias[: model.config.hidden_dim]
    biases = torch.cat(
        [(encoder.out.bias @ W).expand(graph.num_targets, -1), (mean_bias @ W).expand(len(externals), -1)]
    )  # (n_0, d_h)
    return FoldedGraphHead(model, messages, biases, adjacency, reached)


def _fold_of_features(model: RelationalGCN, graph: GraphTensors) -> nn.Module:
    adjacency = model.normalized_adjacency(graph)
    reached = reach(adjacency, graph.num_targets, len(model.graph_layers))
    first, encoder, W = reached.nodes[0], model.target_encoder, model.graph_weights[0]
    messages = [FeatureMessages(encoder, graph.embeddings[first], W)]
    biases = (encoder.out.bias @ W).expand(len(first), -1)
    return FoldedGraphHead(model, messages, biases, adjacency, reached)

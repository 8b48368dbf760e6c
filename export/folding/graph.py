"""The folded head of the RGCN models; docs/folding.md has the steps with their savings.

1. Â comes from the edge MLP once; the MLP is gone.
2. [x; s_y] W = x W_x + (s_y W_s + b): the second term is a constant of the label.
3. The PosVAE encoder's first layer is rank one in e_y = log(1 + C p_y): e_y · u + c_y.
4. h = μ: the half of the encoder's last layer for log σ is gone, and so is the decoder.
5. A linear last layer followed by the graph layer's W is one matrix; its bias becomes a constant of the node.
6. Only the target rows of the last graph layer are computed, only their neighbours in the layer before, and so on.
7. Rows of Â with zeros in the same columns are multiplied together, without those columns (`export.folding.blocks`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlzsl.export.folding.blocks import BlockProduct
from mlzsl.export.folding.constants import embedding_term, register_constants
from mlzsl.train.models.layers import RelationalGCN, TargetEncoder
from mlzsl.train.models.model import GraphTensors
from mlzsl.train.models.rgcn import RGCN
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, external_scores


def nodes_per_layer(adjacency: Tensor, num_targets: int, layers: int) -> list[Tensor]:
    """Follow the non-zero entries of Â back from the target rows, layer by layer (step 6).

    Returns:
        The nodes that a target depends on, int64 [n_l], ascending: at the input of graph layer l = 0 … L − 1, and the
        targets last.
    """
    needed = [torch.arange(num_targets)]
    for _ in range(layers):
        needed.append((adjacency[needed[-1]] != 0).any(dim=0).nonzero().squeeze(1))
    return needed[::-1]


class FeatureMessages(nn.Module):
    """H^0 W^0 of nodes with states from x, without its bias: steps 2 and 5."""

    visual_weight: Tensor  # W_x, (F, d_h)
    node_bias: Tensor  # s_y W_s + b, (n, 1, d_h)
    message_weight: Tensor  # W₂ W⁰, (d_h, d_h)

    def __init__(self, encoder: TargetEncoder, embeddings: Tensor, graph_weight: Tensor) -> None:
        super().__init__()
        register_constants(
            self,
            visual_weight=encoder.hidden.first_weight.T,
            node_bias=embedding_term(encoder.hidden, embeddings)[:, None],
            message_weight=encoder.out.weight.T @ graph_weight,
        )

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        return (features @ self.visual_weight + self.node_bias).relu() @ self.message_weight  # (n, B, d_h)


class ExternalMessages(nn.Module):
    """H^0 W^0 of nodes with states from the PosVAE's μ, without its bias: steps 3 to 5."""

    external_logits: Tensor  # int64 (n,), of the nodes
    slope: Tensor  # u, (d_h,)
    node_bias: Tensor  # c_y, (n, 1, d_h)
    message_weight: Tensor  # W₂ W⁰, (d_h, d_h)

    def __init__(self, model: RGCNPosVAE, embeddings: Tensor, external_logits: Tensor, graph_weight: Tensor) -> None:
        super().__init__()
        vae, d_h = model.posvae, model.config.hidden_dim
        self.backbone_classes = model.config.backbone_classes
        first = vae.encoder_hidden.first_weight
        at_zero = first @ vae.projection.bias + embedding_term(vae.encoder_hidden, embeddings)
        register_constants(
            self,
            external_logits=external_logits,
            slope=first @ vae.projection.weight.squeeze(1),
            node_bias=at_zero[:, None],
            message_weight=vae.encoder_out.weight[:d_h].T @ graph_weight,
        )

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=1).index_select(1, self.external_logits)  # (B, n)
        e = external_scores(probabilities, self.backbone_classes).T.unsqueeze(2)  # (n, B, 1)
        return (e * self.slope + self.node_bias).relu() @ self.message_weight  # (n, B, d_h)


class FoldedGraphHead(nn.Module):
    """features (B, F), logits (B, C) -> scores (B, N_t).

    Attributes:
        computed_nodes: the number of nodes computed at the input of each graph layer, then of targets.
    """

    first_bias: Tensor  # (n_1, 1, d_h)
    classifier_weight: Tensor  # (d_h, d_h)
    classifier_bias: Tensor  # (d_h,)
    score_weight: Tensor  # (d_h, 1)
    score_bias: Tensor  # (1,)
    target_rows: Tensor  # int64 (N_t,), the row of each target in the last layer's output

    def __init__(
        self,
        model: RelationalGCN,
        messages: Sequence[nn.Module],
        message_biases: Tensor,
        adjacency: Tensor,
        layers: list[Tensor],
    ) -> None:
        """Fold the graph layers and the classifier.

        Args:
            model: the trained model, in float64.
            messages: (features, logits) -> H^0 W^0 of some nodes; concatenated they give `layers[0]`.
            message_biases: the biases of step 5, float64 [n_0, d_h].
            adjacency: Â, float64 [N, N].
            layers: from `nodes_per_layer`.
        """
        super().__init__()
        self.messages = nn.ModuleList(messages)
        self.propagations = nn.ModuleList()
        nodes = layers[0]
        for rows in layers[1:]:
            product = BlockProduct(adjacency[rows][:, nodes])
            nodes = rows[product.row_order]  # the next layer's columns are in the order of these blocks
            self.propagations.append(product)
            if len(self.propagations) == 1:
                first_bias = (adjacency[nodes][:, layers[0]] @ message_biases)[:, None]
        register_constants(
            self,
            first_bias=first_bias,
            target_rows=nodes.argsort(),
            classifier_weight=model.classifier_hidden.weight.T,
            classifier_bias=model.classifier_hidden.bias,
            score_weight=model.classifier_out.weight.T,
            score_bias=model.classifier_out.bias,
            **{f"layer_weight_{index}": weight for index, weight in enumerate(model.graph_weights) if index},
        )
        self.computed_nodes = tuple(len(nodes) for nodes in layers)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        parts = [part(features, logits) for part in self.messages]  # (n, B, d_h) each
        messages = torch.cat(parts) if len(parts) > 1 else parts[0]  # H^0 W^0 without its bias, (n_0, B, d_h)
        states = (self._propagate(0, messages) + self.first_bias).relu()  # H^1, (n_1, B, d_h)
        for index in range(1, len(self.propagations)):
            # Â has fewer rows than columns, so Â H is computed before the product with W.
            states = (self._propagate(index, states) @ getattr(self, f"layer_weight_{index}")).relu()
        hidden = (states @ self.classifier_weight + self.classifier_bias).relu()  # (N_t, B, d_h)
        scores = (hidden @ self.score_weight + self.score_bias).squeeze(2).sigmoid()  # (N_t, B)
        return scores.index_select(0, self.target_rows).T

    def _propagate(self, index: int, states: Tensor) -> Tensor:
        propagated: Tensor = self.propagations[index](states.flatten(1))
        return propagated.reshape(len(propagated), -1, states.shape[2])


def fold_rgcn(model: RGCN, graph: GraphTensors) -> nn.Module:
    """RGCN on the target nodes, RGCN-XL on all nodes; the outputs of external classes are not computed."""
    nodes = model.subgraph(graph)
    adjacency = model.normalized_adjacency(nodes)
    layers = nodes_per_layer(adjacency, nodes.num_targets, len(model.graph_layers))
    first, encoder, W = layers[0], model.target_encoder, model.graph_weights[0]
    messages = [FeatureMessages(encoder, nodes.embeddings[first], W)]
    biases = (encoder.out.bias @ W).expand(len(first), -1)
    return FoldedGraphHead(model, messages, biases, adjacency, layers)


def fold_rgcn_posvae(model: RGCNPosVAE, graph: GraphTensors) -> nn.Module:
    """RGCN-PosVAE: external classes that a target depends on have states from their external-class scores."""
    adjacency = model.normalized_adjacency(graph)
    layers = nodes_per_layer(adjacency, graph.num_targets, len(model.graph_layers))
    first = layers[0]
    externals = first[first >= graph.num_targets] - graph.num_targets
    encoder, vae, W = model.target_encoder, model.posvae, model.graph_weights[0]
    messages = [
        FeatureMessages(encoder, graph.target_embeddings, W),
        ExternalMessages(model, graph.external_embeddings[externals], graph.external_logits[externals], W),
    ]
    mean_bias = vae.encoder_out.bias[: model.config.hidden_dim]
    biases = torch.cat(
        [(encoder.out.bias @ W).expand(graph.num_targets, -1), (mean_bias @ W).expand(len(externals), -1)]
    )  # (n_0, d_h)
    return FoldedGraphHead(model, messages, biases, adjacency, layers)

"""Exact algebra that turns a trained system and a fixed class graph into constants and few products.

For a fixed label set everything but x and p^a is constant, and so is much of the arithmetic (docs/folding.md shows
each step with its saving):

1. Â comes from the edge MLP once; the MLP is gone.
2. [x; s_y] W = x W_x + (s_y W_s + b): the second term is a constant of the label.
3. The PosVAE encoder's first layer is rank one in e_y = log(1 + C p_y): e_y · u + c_y.
4. h = μ: the half of the encoder's last layer that makes log σ is gone, and so is the decoder.
5. A linear last layer followed by the next graph layer's W is one matrix; its bias becomes a constant of the node.
6. Only the target rows of the last graph layer are needed, only their neighbours of the layer before, and so on.
7. Rows of Â with the same empty regions are multiplied together, without these regions (`export.blocks`).

All constants are computed in float64 and rounded once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mlzsl.export.blocks import dense_blocks
from mlzsl.train.models.layers import ConcatLinear
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, evidence_of
from mlzsl.train.models.tensors import GraphTensors


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


class BlockProduct(nn.Module):
    """Â @ X over dense blocks (step 7); X (columns, width) -> (rows, width), rows in the order of the blocks.

    Attributes:
        row_order: int64 [rows], the row of the matrix that stands at each place of the result.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        blocks = dense_blocks((matrix != 0).numpy())
        self.products = sum(block.products for block in blocks)
        self.blocks = len(blocks)
        self.column_ranges = [_range(block.columns) for block in blocks]
        for index, block in enumerate(blocks):
            rows, columns = torch.from_numpy(block.rows), torch.from_numpy(block.columns)
            self.register_buffer(f"matrix_{index}", matrix[rows][:, columns].float())
            self.register_buffer(f"columns_{index}", columns)
        self.row_order = torch.from_numpy(np.concatenate([block.rows for block in blocks]))

    def forward(self, states: Tensor) -> Tensor:
        products = []
        for index, bounds in enumerate(self.column_ranges):
            block, columns = getattr(self, f"matrix_{index}"), getattr(self, f"columns_{index}")
            taken = states[bounds[0] : bounds[1]] if bounds else states.index_select(0, columns)
            products.append(block @ taken)
        return torch.cat(products) if len(products) > 1 else products[0]


def _range(columns: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """(first, last + 1) where columns follow one another without a gap: a slice is cheaper than a gather."""
    if len(columns) and columns[-1] - columns[0] + 1 == len(columns):
        return int(columns[0]), int(columns[-1]) + 1
    return None


class FoldedHead(nn.Module):
    """x (B, F), backbone logits (B, C) -> scores (B, N_t): the system with its graph folded in.

    The states of nodes are node-major, (n, B, d_h), as in the system itself.
    """

    visual_weight: Tensor  # W_x, (F, d_h)
    target_bias: Tensor  # s_y W_s + b, (N_t, 1, d_h)
    target_weight: Tensor  # W₂ W⁰ of the target encoder, (d_h, d_h)
    external_places: Tensor  # int64 (N_a',), among the backbone's logits
    external_slope: Tensor  # u, (d_h,)
    external_bias: Tensor  # c_y, (N_a', 1, d_h)
    external_weight: Tensor  # W₂ W⁰ of the PosVAE encoder, (d_h, d_h)
    first_bias: Tensor  # (n_1, 1, d_h)
    classifier_weight: Tensor  # (d_h, d_h)
    classifier_bias: Tensor  # (d_h,)
    score_weight: Tensor  # (d_h, 1)
    score_bias: Tensor  # (1,)
    target_places: Tensor  # int64 (N_t,), each target's place among the last layer's rows

    def __init__(self, model: RGCNPosVAE, graph: GraphTensors, adjacency: Tensor) -> None:
        """Fold `model` on `graph`.

        Args:
            model: the trained system, in float64 (`fold` takes care of it).
            graph: the testing graph with float64 embeddings.
            adjacency: Â, float64 [N, N].
        """
        super().__init__()
        reached = reach(adjacency, graph.targets, len(model.graph_layers))
        first = reached.nodes[0]
        externals = first[first >= graph.targets] - graph.targets  # the external classes that reach a target
        W = model.graph_weights

        encoder = model.target_encoder
        self._keep("visual_weight", encoder.hidden.first_weight.T)  # W_x, (F, d_h)
        self._keep("target_bias", _of_embeddings(encoder.hidden, graph.target_embeddings)[:, None])  # step 2
        self._keep("target_weight", encoder.out.weight.T @ W[0])  # step 5, (d_h, d_h)

        vae = model.posvae
        self.backbone_classes = model.config.backbone_classes
        d_h = model.config.hidden_dim
        per_evidence = vae.encoder_hidden.first_weight @ vae.projection.weight.squeeze(1)  # u, (d_h,)
        at_zero = vae.encoder_hidden.first_weight @ vae.projection.bias + _of_embeddings(
            vae.encoder_hidden, graph.external_embeddings[externals]
        )  # c_y, (N_a', d_h)
        mean_weight, mean_bias = vae.encoder_out.weight[:d_h], vae.encoder_out.bias[:d_h]  # step 4
        self._keep("external_places", graph.external_logits[externals])
        self._keep("external_slope", per_evidence)  # step 3
        self._keep("external_bias", at_zero[:, None])
        self._keep("external_weight", mean_weight.T @ W[0])  # step 5

        node_bias = torch.cat(
            [
                (encoder.out.bias @ W[0]).expand(graph.targets, -1),
                (mean_bias @ W[0]).expand(len(externals), -1),
            ]
        )  # what step 5 left over, (n_0, d_h)
        self.propagations = nn.ModuleList()
        nodes = first
        for rows in reached.nodes[1:]:
            product = BlockProduct(adjacency[rows][:, nodes])
            nodes = rows[product.row_order]  # the next layer's columns come in the order of these blocks
            self.propagations.append(product)
            if len(self.propagations) == 1:
                self._keep("first_bias", (adjacency[nodes][:, first] @ node_bias)[:, None])
        self._keep("target_places", nodes.argsort())
        for index, weight in enumerate(W[1:], start=1):
            self._keep(f"layer_weight_{index}", weight)

        self._keep("classifier_weight", model.classifier_hidden.weight.T)
        self._keep("classifier_bias", model.classifier_hidden.bias)
        self._keep("score_weight", model.classifier_out.weight.T)
        self._keep("score_bias", model.classifier_out.bias)
        self.reached = tuple(len(nodes) for nodes in reached.nodes)

    def _keep(self, name: str, tensor: Tensor) -> None:
        kept = tensor.detach().clone().contiguous()
        self.register_buffer(name, kept.float() if kept.is_floating_point() else kept)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        target_hidden = (features @ self.visual_weight + self.target_bias).relu()  # (N_t, B, d_h)
        probabilities = logits.softmax(dim=1).index_select(1, self.external_places)  # (B, N_a')
        external_hidden = (
            evidence_of(probabilities, self.backbone_classes).T.unsqueeze(2) * self.external_slope + self.external_bias
        ).relu()  # (N_a', B, d_h)
        messages = torch.cat(
            [target_hidden @ self.target_weight, external_hidden @ self.external_weight]
        )  # H^0 W^0 without its bias, (n_0, B, d_h)
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


def _of_embeddings(layer: ConcatLinear, embeddings: Tensor) -> Tensor:
    """The constant part of a ConcatLinear: s_y W_s + b."""
    return nn.functional.linear(embeddings, layer.second_weight, layer.bias)


def fold(model: RGCNPosVAE, graph: GraphTensors) -> FoldedHead:
    """Fold a trained system on a class graph; the constants are computed in float64 and rounded to float32."""
    exact = type(model)(model.config).double()
    exact.load_state_dict({name: tensor.double() for name, tensor in model.state_dict().items()})
    with torch.no_grad():
        adjacency = exact.normalized_adjacency(graph.double())
        return FoldedHead(exact.eval(), graph.double(), adjacency).eval()

"""RGCN-XL, the paper's model with external classes treated like targets (section 4.1, "Baselines").

    x with s_y for every class y ── TargetEncoder ──► H ── RGCN layers ── MLP ──► scores, and p̂ of external classes

External classes have no labels: what is learned of them is to say what the ImageNet classifier says, by a mean-square
error. Its probabilities are the goal of the training and no input.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.rgcn import RGCN, RGCNConfig


@dataclass(frozen=True)
class RGCNXLConfig(RGCNConfig):
    """Widths of the model, as RGCN's, and one weight more.

    Attributes:
        external_weight: of the mean-square error beside the cross-entropy; the paper names none.
    """

    external_weight: float = 1.0


class RGCNXL(RGCN):
    """The graph network over target and external classes that all start from the photo's features."""

    name = "RGCN-XL"
    config_class = RGCNXLConfig
    config: RGCNXLConfig

    def nodes(self, graph: GraphTensors) -> GraphTensors:
        """All classes."""
        return graph

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """L_RGCN of eq. 8 on targets, and the mean-square error on external classes."""
        logits = self.logits(features, graph, rows=graph.nodes)  # (B, N)
        of_targets, externals = logits[:, : graph.targets], logits[:, graph.targets :]
        rgcn = nn.functional.binary_cross_entropy_with_logits(of_targets, targets)
        if externals.shape[1] == 0:
            return {"loss": rgcn, "rgcn": rgcn}
        external = nn.functional.mse_loss(externals.sigmoid(), external_probabilities)
        return {"loss": rgcn + self.config.external_weight * external, "rgcn": rgcn, "external": external}

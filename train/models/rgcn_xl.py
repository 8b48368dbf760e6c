"""RGCN-XL, the paper's model with external classes treated like targets (section 4.1, "Baselines").

    x with s_y for every class y ── TargetEncoder ──► H ── RGCN layers ── MLP ──► scores, and p̂ of external classes

External classes have no labels: their outputs are trained with a mean-square error towards the probabilities of the
ImageNet classifier, which are a training target and no input.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mlzsl.train.models.model import GraphTensors, Noise, standard_normal
from mlzsl.train.models.rgcn import RGCN, RGCNConfig


@dataclass(frozen=True)
class RGCNXLConfig(RGCNConfig):
    """RGCN's widths, and one weight.

    Attributes:
        external_weight: of the mean-square error relative to the cross-entropy; the paper states none.
    """

    external_weight: float = 1.0


class RGCNXL(RGCN):
    """The graph network over target and external classes, all with initial states from the photo's features."""

    name = "RGCN-XL"
    config_class = RGCNXLConfig
    config: RGCNXLConfig

    def subgraph(self, graph: GraphTensors) -> GraphTensors:
        """All classes."""
        return graph

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """L_RGCN of eq. 8 on targets, and the mean-square error on external classes."""
        logits = self.node_logits(features, graph, rows=graph.num_nodes)  # (B, N)
        target_logits, external_logits = logits[:, : graph.num_targets], logits[:, graph.num_targets :]
        rgcn = nn.functional.binary_cross_entropy_with_logits(target_logits, targets)
        if external_logits.shape[1] == 0:
            return {"loss": rgcn, "rgcn": rgcn}
        external = nn.functional.mse_loss(external_logits.sigmoid(), external_probabilities)
        return {"loss": rgcn + self.config.external_weight * external, "rgcn": rgcn, "external": external}

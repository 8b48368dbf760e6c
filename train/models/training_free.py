"""Training-free: external probabilities carried to the labels by the likeness of embeddings.

    v_y = Σ_e p_e exp(k (cos(s_y, s_e) − m)),   score = v_y / (1 + v_y)

No parameter, no photo, no label of the training takes part. What a trained system adds is what it does better
than this. Akin to Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.model import Model


@dataclass(frozen=True)
class TrainingFreeConfig:
    """How near an embedding has to be.

    Attributes:
        sharpness: k, the larger the fewer neighbours count.
        half_cosine: m, the cosine at which one certain external class gives a label the score ½; it moves scores and
            thresholds, but no order.
    """

    sharpness: float = 20.0
    half_cosine: float = 0.5


class TrainingFree(Model):
    """A fixed function of external probabilities and embeddings."""

    name = "training-free"
    learns = False
    config_class = TrainingFreeConfig

    def __init__(self, config: TrainingFreeConfig) -> None:
        super().__init__()
        self.config = config

    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """Check that there is something to carry over.

        Raises:
            UsageError: the label set leaves no external class.
        """
        self.need_externals(graph)

    def likeness(self, graph: GraphTensors) -> Tensor:
        """exp(k (cos(s_y, s_e) − m)), [N_a, N_t]."""
        targets = nn.functional.normalize(graph.target_embeddings)
        externals = nn.functional.normalize(graph.external_embeddings)
        return (self.config.sharpness * (externals @ targets.T - self.config.half_cosine)).exp()

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """p^a (B, N_a) -> scores (B, N_t) in [0, 1)."""
        carried = external_probabilities @ self.likeness(graph)  # v, (B, N_t)
        return carried / (1 + carried)

    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, to compare with; there is nothing to minimize it by."""
        scores = self(features, external_probabilities, graph)
        return {"loss": nn.functional.binary_cross_entropy(scores, targets)}

"""Training-free: external probabilities propagated to labels by the similarity of embeddings.

    v_y = Σ_e p_e exp(k (cos(s_y, s_e) − m)),   score = v_y / (1 + v_y)

It uses no parameter, no training photo and no training label: the baseline that a trained model has to exceed. Related
to Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", 2014.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from mlzsl.graph.overlap import KEEP
from mlzsl.train.models.model import GraphTensors, Model, Noise, standard_normal


@dataclass(frozen=True)
class TrainingFreeConfig:
    """How similar embeddings have to be.

    Attributes:
        sharpness: k; the larger it is, the fewer neighbours count.
        half_cosine: m, the cosine at which an external class of probability 1 gives a label the score ½; it changes
            scores and thresholds, but no ranking.
    """

    sharpness: float = 10.0
    half_cosine: float = 0.5


class TrainingFree(Model):
    """A fixed function of external probabilities and embeddings."""

    name = "training-free"
    fitted = False
    learns = False
    uses_graph = False
    overlap = KEEP
    config_class = TrainingFreeConfig

    def initialize(
        self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor
    ) -> None:
        """Check that the graph has external classes; nothing is fitted.

        Raises:
            UsageError: it has none.
        """
        self.require_external_classes(graph)

    def similarity(self, graph: GraphTensors) -> Tensor:
        """exp(k (cos(s_y, s_e) − m)), [N_a, N_t]."""
        targets = nn.functional.normalize(graph.target_embeddings)
        externals = nn.functional.normalize(graph.external_embeddings)
        return (self.config.sharpness * (externals @ targets.T - self.config.half_cosine)).exp()

    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """p^a (B, N_a) -> scores (B, N_t) in [0, 1)."""
        propagated = external_probabilities @ self.similarity(graph)  # v, (B, N_t)
        return propagated / (1 + propagated)

    def losses(
        self,
        features: Tensor,
        external_probabilities: Tensor,
        graph: GraphTensors,
        targets: Tensor,
        noise: Noise = standard_normal,
    ) -> dict[str, Tensor]:
        """Binary cross-entropy, for comparison only: there are no parameters to minimize it with."""
        scores = self(features, external_probabilities, graph)
        return {"loss": nn.functional.binary_cross_entropy(scores, targets)}

"""What every system is, so that training, evaluation, checkpoint, export and tables treat them all alike."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from mlzsl.cli.errors import UsageError
from mlzsl.train.backbones.backbone import AVERAGE
from mlzsl.train.models.graph_tensors import GraphTensors


class Model(nn.Module, ABC):
    """Scores for target labels from features x, external probabilities p^a and a class graph.

    The same parameters serve any graph: more labels, other labels, other external classes. In evaluation mode a system
    is a function of one photo.

    Attributes:
        name: its name, as `--system`, checkpoints and manifests have it.
        learns: whether it has parameters that training changes in steps; if not, `start` does all.
        reading: what it reads of a photo: AVERAGE, x [B, F], or PLACES, x and log q side by side [B, F + C]
            (`backbone.evidence_at_places`).
        config_class: the frozen dataclass of its configuration: positive numbers only.
        config: its configuration.
    """

    name: ClassVar[str]
    learns: ClassVar[bool] = True
    reading: ClassVar[str] = AVERAGE
    config_class: ClassVar[type]
    config: Any

    def need_externals(self, graph: GraphTensors) -> None:
        """Check that there are external classes to read, for a system that reads nothing else of unseen labels.

        Raises:
            UsageError: the label set leaves none.
        """
        if graph.nodes == graph.targets:
            raise UsageError(
                f"system {self.name}: the label set contains all of the backbone's classes, which leaves no external "
                "class to read; choose other labels with --labels, or another --system."
            )

    @abstractmethod
    def forward(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """Features (B, F) or (B, F + C), p^a (B, N_a) -> scores (B, N_t) in [0, 1]; deterministic."""

    @abstractmethod
    def losses(
        self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors, targets: Tensor
    ) -> dict[str, Tensor]:
        """The loss terms on a batch; "loss" is the one to minimize.

        Args:
            features: float [B, F] or [B, F + C].
            external_probabilities: p^a, float [B, N_a].
            graph: the training graph: seen and external classes.
            targets: I(y), float [B, N_t], 1 where the photo carries the label.
        """

    @classmethod
    def measured(cls, external_probabilities: Tensor, backbone_classes: int) -> dict[str, float]:
        """Entries of the configuration that are read off the training photos.

        Args:
            external_probabilities: p^a of the training photos, float32 [n, N_a].
            backbone_classes: C, the number of classes that the probabilities are over.
        """
        return {}

    def start(self, graph: GraphTensors, features: Tensor, external_probabilities: Tensor, targets: Tensor) -> None:
        """Set the first values of a fresh system in place, where they follow from the training data.

        For a system without parameters these are its last values as well.

        Args:
            graph: the training graph.
            features: of the training photos, float32 [n, F] or [n, F + C].
            external_probabilities: p^a of the training photos, float32 [n, N_a].
            targets: I(y) of the training photos, float32 [n, N_t].
        """
        return

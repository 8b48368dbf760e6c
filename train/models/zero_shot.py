"""Zero-shot: a CLIP model as it was trained, the cosine of image and label embedding.

    SigLIP      z(y) = scale cos(x, t_y) + bias                                              with its own bias
    CLIP        z(y) = scale cos(x, t_y) − mean_e scale cos(x, t_e) − log C                  e: ImageNet's C classes
    score(y) = σ(z(y))

CLIP is trained with a softmax and has no bias. Here a label is compared with ImageNet's classes: the score is its
probability in a softmax over itself and C classes whose logits all equal their mean. It uses no training photo.
Both are linear in x, which has unit length. Radford et al. 2021, Zhai et al. 2023 (`train/backbones/clip.py`).
"""

import math

import torch
from torch import Tensor, nn

from mlzsl.graph.overlap import KEEP
from mlzsl.train.models.model import GraphTensors, LogitModel, ModelConfig


class ZeroShot(LogitModel):
    """A linear function of x for any label, from scale, bias and external classes of a CLIP backbone."""

    name = "zero-shot"
    learns = False
    fitted = False
    uses_graph = False
    overlap = KEEP
    needs_clip = True
    config_class = ModelConfig

    scale: Tensor  # (1,)
    external_mean: Tensor  # mean_e scale t_e, (F,); 0 for a model with a bias
    bias: Tensor  # (1,)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("external_mean", torch.zeros(config.feature_dim))
        self.register_buffer("bias", torch.zeros(1))

    @torch.no_grad()
    def use_classifier(self, classifier: nn.Linear) -> None:
        """Take scale, bias and the mean of external classes from the backbone's classifier, scale × t_e."""
        self.scale.fill_(classifier.weight.double().norm(dim=1).mean().item())
        if classifier.bias is None:
            self.external_mean.copy_(classifier.weight.double().mean(dim=0))
            self.bias.fill_(-math.log(classifier.out_features))
        else:
            self.bias.fill_(classifier.bias.double().mean().item())

    def label_weights(self, graph: GraphTensors) -> Tensor:
        """The row of each label in the linear layer, [N_t, F]."""
        return self.scale * nn.functional.normalize(graph.target_embeddings) - self.external_mean

    def logits(self, features: Tensor, external_probabilities: Tensor, graph: GraphTensors) -> Tensor:
        """x (B, F) -> z (B, N_t)."""
        return features @ self.label_weights(graph).T + self.bias

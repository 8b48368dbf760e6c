"""One step of training: this process's photos forward and backward, the gradients of all, Adam.

In mixed precision parameters, gradients and Adam's moments stay fp32; autocast computes matrix products in 16 bits.
fp16 has few exponents, so its loss is scaled up before `backward` and steps that overflow are left out (`GradScaler`).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.model import Model
from mlzsl.train.models.noise import part_of_batch
from mlzsl.train.training.devices import PRECISIONS
from mlzsl.train.training.distributed import ALONE, Processes


@dataclass
class Stepper:
    """Takes steps; all tensors are on one device.

    Attributes:
        model: the system, changed in place.
        graph: the training graph.
        optimizer: over the model's parameters.
        precision: a name of `PRECISIONS`.
        processes: those that share every batch.
        scaler: of the loss in fp16; does nothing otherwise.
    """

    model: Model
    graph: GraphTensors
    optimizer: torch.optim.Optimizer
    precision: str = "fp32"
    processes: Processes = ALONE
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.graph.embeddings.device.type, enabled=self.precision == "fp16")

    def take(
        self, features: Tensor, external_probabilities: Tensor, targets: Tensor, chosen: Tensor
    ) -> dict[str, float]:
        """Take one step and return the losses before it, of the whole batch.

        A loss that is a mean over photos is the same however many processes share the batch, to rounding: each
        process's mean counts by its number of photos, and so does its gradient.

        Args:
            features: x of all photos, float32 [n, F].
            external_probabilities: p^a, float32 [n, N_a].
            targets: I(y), float32 [n, N_t].
            chosen: the photos of the whole batch, int64 [B] on the CPU.

        Raises:
            FailureError: another process has gone.
        """
        device = self.graph.embeddings.device
        share = self.processes.share(len(chosen))
        own = chosen[share.photos].to(device)
        with (
            part_of_batch(share.photos, len(chosen)),
            torch.autocast(device.type, PRECISIONS[self.precision], enabled=self.precision != "fp32"),
        ):
            losses = self.model.losses(features[own], external_probabilities[own], self.graph, targets[own])
        self.optimizer.zero_grad()
        self.scaler.scale(share.weight * losses["loss"]).backward()
        values = share.weight * torch.stack([loss.detach().float() for loss in losses.values()])
        gradients = [each.grad for each in self.model.parameters() if each.grad is not None]
        self.processes.add_up([*gradients, values])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return dict(zip(losses, values.tolist(), strict=True))

"""The training loop: Adam on a model's loss over cached features, resumable to bitwise equal tensors.

The order of photos and the noise of an epoch depend on (seed, epoch) alone, so an interrupted run that resumes ends
with the same tensors as an uninterrupted one. Several processes may share each batch (`distributed`).

In mixed precision parameters, gradients and Adam's moments stay fp32 and autocast computes matrix products in 16 bits.
fp16 has a narrow exponent range, so `GradScaler` scales its loss and skips steps that overflow.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.json_decoding import convert_json
from mlzsl.cli.outputs import sha256_of_bytes, written_atomically
from mlzsl.cli.progress import log, progress
from mlzsl.train.models.model import GraphTensors, Model, Noise
from mlzsl.train.models.registry import NAMES_IN_0_1, config_of
from mlzsl.train.training.devices import PRECISIONS, check_precision
from mlzsl.train.training.distributed import SINGLE_PROCESS, Processes

HEADER = "mlzsl training"


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters; the defaults are the paper's (section 4.1) where it states them.

    Attributes:
        epochs: passes over the photos.
        batch_size: photos per step, of all processes together.
        learning_rate: Adam's initial learning rate.
        edge_rate: the edge MLP's learning rate relative to it; the MLP is initialized to a similarity worth keeping.
        plateau_decay: the factor on the learning rate when the epoch's mean loss plateaus.
        plateau_patience: epochs without an improvement of 1 ‰ before a plateau.
        seed: of parameters, photo order and noise.
        precision: "fp32", or "bf16" or "fp16" for matrix products in 16 bits; parameters stay fp32.
    """

    epochs: int = 9
    batch_size: int = 32
    learning_rate: float = 5e-4
    edge_rate: float = 0.1
    plateau_decay: float = 0.1
    plateau_patience: int = 3
    seed: int = 42
    precision: str = "fp32"


@dataclass(frozen=True)
class TrainingData:
    """The training photos, with targets of seen labels only.

    Attributes:
        features: float32 [n, F] or [n, F + C].
        external_probabilities: p^a, float32 [n, N_a].
        targets: I(y) of the seen labels in graph order, float32 [n, N_t].
    """

    features: Tensor
    external_probabilities: Tensor
    targets: Tensor

    def key(self) -> str:
        """A hash of all tensors: a run does not resume on other data."""
        return sha256_of_bytes(
            *(tensor.cpu().numpy().tobytes() for tensor in (self.features, self.external_probabilities, self.targets))
        )

    def to(self, device: torch.device) -> "TrainingData":
        """The same data on a device."""
        return TrainingData(self.features.to(device), self.external_probabilities.to(device), self.targets.to(device))


class _StateHeader(Struct, kw_only=True):
    run: str
    torch: str = ""  # of PyTorch; mlzsl 0.1 did not write it
    groups: list[dict[str, Any]]
    plateau: dict[str, Any]
    scaler: dict[str, Any]
    history: list[dict[str, float]]


def train(
    model: Model,
    graph: GraphTensors,
    data: TrainingData,
    config: TrainingConfig,
    state_path: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    processes: Processes = SINGLE_PROCESS,
) -> list[dict[str, float]]:
    """Train `model` in place and return the mean losses and learning rate of each epoch.

    A model without learned parameters is only set to evaluation mode. Model, graph and data are on one device.

    Args:
        model: a new model after `initialize`, or any state of it to resume.
        graph: the training graph.
        data: the training photos.
        config: hyperparameters.
        state_path: the file for the training state after each epoch, written atomically; None writes none.
        resume: continue from `state_path`.
        quiet: show no progress.
        processes: those that share every batch; each calls this with equal arguments, the main one writes.

    Raises:
        UsageError: no state to resume from, a state of another run, a precision that the device lacks, or a batch with
            fewer photos than processes.
        FailureError: the loss is not finite, the disk is full, or another process ended.
    """
    if not model.learns:
        model.eval()
        return []
    with processes.barrier():
        check_precision(config.precision, data.features.device)
        if config.batch_size < processes.count:
            raise UsageError(
                f"--batch-size {config.batch_size}: fewer photos than the {processes.count} processes that share them; "
                "choose a larger one, or start fewer processes."
            )
        trainer = Trainer(model, graph, data, config, processes)
        history = trainer.load_state(state_path, quiet or not processes.is_main) if resume else []
    processes.broadcast(model)
    steps = -(-len(data.features) // config.batch_size)
    model.train()
    with progress("training", config.epochs * steps, "steps", quiet or not processes.is_main) as bar:
        bar.advance(len(history) * steps)
        for epoch in range(len(history), config.epochs):
            order, noise = trainer.generators(epoch)
            sums: dict[str, float] = {}
            for batch in torch.randperm(len(data.features), generator=order).split(config.batch_size):
                losses = trainer.train_step(batch, noise)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value * len(batch)
                bar.advance(1, note=f"epoch {epoch + 1}/{config.epochs}, loss {losses['loss']:.4f}")
            means = {name: total / len(data.features) for name, total in sums.items()}
            with processes.barrier():
                _check_finite(means, epoch, config)
                history.append(means | {"learning_rate": trainer.optimizer.param_groups[0]["lr"]})
                trainer.plateau.step(means["loss"])
                if state_path is not None and processes.is_main:
                    trainer.save_state(state_path, history)
    model.eval()
    return history


class Trainer:
    """A model with its optimizer: takes steps, and saves and loads the training state.

    Attributes:
        optimizer: Adam, with parameter groups for the edge MLP and for all else.
        plateau: the learning rate schedule.
        scaler: of the loss in fp16; disabled otherwise.
    """

    def __init__(
        self,
        model: Model,
        graph: GraphTensors,
        data: TrainingData,
        config: TrainingConfig,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.model, self.graph, self.data, self.config, self.processes = model, graph, data, config, processes
        self.device = data.features.device
        self.optimizer = torch.optim.Adam(_parameter_groups(model, config), lr=config.learning_rate)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=config.plateau_decay, patience=config.plateau_patience, threshold=1e-3
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")

    def generators(self, epoch: int) -> tuple[torch.Generator, torch.Generator]:
        """The generators of an epoch's photo order (CPU) and noise (the device); on the CPU one for both."""
        seed = self.config.seed * 1_000_003 + epoch
        order = torch.Generator().manual_seed(seed)
        return order, order if self.device.type == "cpu" else torch.Generator(self.device).manual_seed(seed)

    def train_step(self, batch: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Update the parameters once and return the losses of the whole batch before the update.

        A loss that is a mean over photos does not depend on the number of processes, up to rounding: each process's
        mean is weighted by its number of photos, and so is its gradient.

        Args:
            batch: indices of the photos of the whole batch, int64 [B] on the CPU.
            generator: of the noise, on the device.

        Raises:
            FailureError: another process ended.
        """
        shard, precision = self.processes.shard(len(batch)), self.config.precision
        own = batch[shard.photos].to(self.device)
        data, noise = self.data, batch_noise(generator, shard.photos.start, len(batch))
        with torch.autocast(self.device.type, PRECISIONS[precision], enabled=precision != "fp32"):
            losses = self.model.losses(
                data.features[own], data.external_probabilities[own], self.graph, data.targets[own], noise
            )
        self.optimizer.zero_grad()
        self.scaler.scale(shard.weight * losses["loss"]).backward()
        values = shard.weight * torch.stack([loss.detach().float() for loss in losses.values()])
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        self.processes.all_reduce([*gradients, values])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return dict(zip(losses, values.tolist(), strict=True))

    def save_state(self, path: Path, history: list[dict[str, float]]) -> None:
        """Write model, optimizer, schedule and history as `.safetensors`.

        Raises:
            FailureError: the file system refuses.
        """
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        optimizer = self.optimizer.state_dict()
        for index, moments in optimizer["state"].items():
            tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
        groups = [_of_types(group, int | float | bool | list | tuple) for group in optimizer["param_groups"]]
        plateau = _of_types(self.plateau.state_dict(), int | float | list)
        header = _StateHeader(
            run=self.run_key,
            torch=str(torch.__version__),
            groups=groups,
            plateau=plateau,
            scaler=self.scaler.state_dict(),
            history=history,
        )
        with written_atomically(path) as temporary:
            temporary.write_bytes(save(tensors, metadata={HEADER: json.dumps(msgspec.to_builtins(header))}))

    def load_state(self, path: Path | None, quiet: bool = False) -> list[dict[str, float]]:
        """Read what `save_state` wrote and return the history.

        Raises:
            UsageError: the file is missing or damaged, belongs to another run, or has more epochs than asked for.
        """
        if path is None or not path.is_file():
            raise UsageError(f"{path}: no such training state to resume from; train without --resume first.")
        try:
            with safe_open(path, framework="pt") as file:
                content = json.loads((file.metadata() or {}).get(HEADER, "null"))  # it has infinity
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: is not a readable training state ({error}); train without --resume.") from error
        header = convert_json(content, _StateHeader, f"{path}: the training state", "train without --resume")
        if header.run != self.run_key:
            raise UsageError(
                f"{path}: belongs to a run with other photos, labels, embeddings, settings or device; "
                "resume with the same flags, or train without --resume."
            )
        if len(header.history) > self.config.epochs:
            raise UsageError(
                f"--epochs {self.config.epochs}: {path} has {len(header.history)} epochs already; ask for as many or "
                "more, or train without --resume."
            )
        if header.torch not in ("", str(torch.__version__)):
            log(f"note: {path} was written with PyTorch {header.torch}; this is {torch.__version__}", quiet)
        try:
            self._apply(header, tensors)
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise UsageError(f"{path}: is damaged ({reason_of(error)}); train without --resume.") from error
        return header.history

    def _apply(self, header: _StateHeader, tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict({name[6:]: each for name, each in tensors.items() if name.startswith("model.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensor
        new_groups = self.optimizer.state_dict()["param_groups"]
        groups = [new | saved for new, saved in zip(new_groups, header.groups, strict=True)]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.plateau.load_state_dict(header.plateau)
        self.scaler.load_state_dict(header.scaler)

    @cached_property
    def run_key(self) -> str:
        """A hash of all that must be equal for a resumed run to end like an uninterrupted one, except the epochs.

        The kind of device is included, as each draws other noise; the number of processes is not, as it changes
        rounding only. Names are those of mlzsl 0.1, whose runs resume.
        """
        settings = {
            "system": self.model.name,
            "model": {NAMES_IN_0_1.get(name, name): value for name, value in config_of(self.model).items()},
            "training": asdict(self.config) | {"epochs": None},
            "device": self.device.type,
        }
        graph = self.graph
        return sha256_of_bytes(
            json.dumps(settings, sort_keys=True).encode(),
            *(tensor.cpu().numpy().tobytes() for tensor in (graph.embeddings, graph.edges, graph.is_a)),
            self.data.key().encode(),
        )


def batch_noise(generator: torch.Generator, start: int, batch_size: int) -> Noise:
    """Noise of the photos from `start` on in a batch, the same however the batch is divided among processes.

    Every process draws the noise of the whole batch from an equal generator and takes the part of its own photos.
    """

    def noise(states: Tensor, photos_dim: int) -> Tensor:
        shape = list(states.shape)
        shape[photos_dim] = batch_size
        whole = torch.randn(shape, generator=generator, dtype=states.dtype, device=states.device)
        return whole.narrow(photos_dim, start, states.shape[photos_dim])

    return noise


def _check_finite(means: dict[str, float], epoch: int, config: TrainingConfig) -> None:
    if not all(torch.isfinite(torch.tensor(list(means.values())))):
        other = "" if config.precision == "fp32" else f" or train in fp32 instead of {config.precision} (--precision)"
        raise FailureError(
            f"the loss became {means} in epoch {epoch + 1}; lower the learning rate (--learning-rate){other}."
        )


def _parameter_groups(model: Model, config: TrainingConfig) -> list[dict[str, Any]]:
    """Edge weights have a learning rate of their own, as `initialization` fits them to a similarity."""
    edges = [each for name, each in model.named_parameters() if name.startswith("edge_weights.")]
    others = [each for name, each in model.named_parameters() if not name.startswith("edge_weights.")]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": edges, "lr": config.edge_rate * config.learning_rate},
    ]
    return [group for group in groups if group["params"]]


def _of_types(values: dict[str, Any], types: Any) -> dict[str, Any]:
    """The entries that JSON can hold."""
    return {name: value for name, value in values.items() if isinstance(value, types)}

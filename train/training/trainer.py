"""The training loop: Adam on a system's loss over cached features, resumable to the same result.

Every epoch draws its order and its noise from (seed, epoch) alone, so a run that was broken and resumed ends with
the very tensors of one that was not. Several processes may share each batch (`distributed`).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_bytes, written_atomically
from mlzsl.cli.progress import progress
from mlzsl.train.models.graph_tensors import GraphTensors
from mlzsl.train.models.model import Model
from mlzsl.train.models.registry import config_of
from mlzsl.train.training.devices import check_precision
from mlzsl.train.training.distributed import ALONE, Processes
from mlzsl.train.training.train_step import Stepper


@dataclass(frozen=True)
class TrainingConfig:
    """How a system is trained; the defaults are the paper's (section 4.1) where it states them.

    Attributes:
        epochs: passes over the photos.
        batch_size: photos a step.
        learning_rate: Adam's initial learning rate.
        edge_rate: the share of it that the edge MLP learns at; it starts from a similarity worth keeping.
        plateau_decay: the factor on the learning rate when the epoch's mean loss plateaus.
        plateau_patience: epochs without a better loss (by 1 ‰) that make a plateau.
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
    """What the loop sees of the photos: seen labels only.

    Attributes:
        features: x, float32 [n, F].
        external_probabilities: p^a, float32 [n, N_a].
        targets: I(y) for the seen labels in graph order, float32 [n, N_t].
    """

    features: Tensor
    external_probabilities: Tensor
    targets: Tensor

    def key(self) -> str:
        """A hash of all of it: resuming on other data is refused."""
        return sha256_of_bytes(
            *(tensor.cpu().numpy().tobytes() for tensor in (self.features, self.external_probabilities, self.targets))
        )

    def to(self, device: torch.device) -> "TrainingData":
        """The same on a device."""
        return TrainingData(self.features.to(device), self.external_probabilities.to(device), self.targets.to(device))


def train(
    model: Model,
    graph: GraphTensors,
    data: TrainingData,
    config: TrainingConfig,
    state_path: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    processes: Processes = ALONE,
) -> list[dict[str, float]]:
    """Train `model` in place and return each epoch's mean losses and learning rate; none if nothing can be learned.

    Model, graph and data are on one device, which computes.

    Args:
        model: freshly made (after `torch.manual_seed(config.seed)`), or of any state when resuming.
        graph: the training graph: seen and external classes.
        data: cached features, external probabilities and seen targets of the training photos.
        config: how to train.
        state_path: where the state after each epoch is kept, written atomically; None keeps nothing.
        resume: go on from `state_path`.
        quiet: show no progress.
        processes: those that share every batch; each calls this with the same arguments, the first one writes.

    Raises:
        UsageError: there is nothing to resume from, the state belongs to another run, the device does not compute in
            the precision, or a batch has fewer photos than there are processes.
        FailureError: the loss is not finite, the disk is full, or another process has gone.
    """
    if not model.learns:
        model.eval()
        return []
    with processes.together():
        check_precision(config.precision, data.features.device)
        if config.batch_size < processes.count:
            raise UsageError(
                f"--batch-size {config.batch_size}: fewer photos than the {processes.count} processes that share them; "
                "choose a larger one, or start fewer processes."
            )
    optimizer = torch.optim.Adam(_parameter_groups(model, config), lr=config.learning_rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=config.plateau_decay, patience=config.plateau_patience, threshold=1e-3
    )
    stepper = Stepper(model, graph, optimizer, config.precision, processes)
    run_key = _run_key(model, graph, data, config)
    history: list[dict[str, float]] = []
    with processes.together():
        if resume:
            history = _load_state(_existing(state_path), run_key, model, optimizer, plateau, stepper.scaler)
    processes.take_over(model)
    steps = -(-len(data.features) // config.batch_size)
    model.train()
    with progress("training", config.epochs * steps, "steps", quiet or not processes.first) as bar:
        bar.advance(len(history) * steps)
        for epoch in range(len(history), config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            sums: dict[str, float] = {}
            for chosen in torch.randperm(len(data.features)).split(config.batch_size):
                losses = stepper.take(data.features, data.external_probabilities, data.targets, chosen)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value * len(chosen)
                bar.advance(1, note=f"epoch {epoch + 1}/{config.epochs}, loss {losses['loss']:.4f}")
            means = {name: total / len(data.features) for name, total in sums.items()}
            with processes.together():
                _check_finite(means, epoch, config)
            history.append(means | {"learning_rate": optimizer.param_groups[0]["lr"]})
            plateau.step(means["loss"])
            with processes.together():
                if state_path is not None and processes.first:
                    _save_state(state_path, run_key, model, optimizer, plateau, stepper.scaler, history)
    model.eval()
    return history


def _check_finite(means: dict[str, float], epoch: int, config: TrainingConfig) -> None:
    if not all(torch.isfinite(torch.tensor(list(means.values())))):
        other = "" if config.precision == "fp32" else f" or train in fp32 instead of {config.precision} (--precision)"
        raise FailureError(
            f"the loss became {means} in epoch {epoch + 1}; lower the learning rate (--learning-rate){other}."
        )


def _parameter_groups(model: Model, config: TrainingConfig) -> list[dict[str, Any]]:
    """Edge weights apart, where a system has them: `starting` gives them values worth keeping."""
    edges = [each for name, each in model.named_parameters() if name.startswith("edge_weights.")]
    others = [each for name, each in model.named_parameters() if not name.startswith("edge_weights.")]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": edges, "lr": config.edge_rate * config.learning_rate},
    ]
    return [group for group in groups if group["params"]]


def _run_key(model: Model, graph: GraphTensors, data: TrainingData, config: TrainingConfig) -> str:
    """What must be the same for a resumed run to end like an unbroken one; the number of epochs may grow.

    The kind of device is part of it, as each draws other noise. The number of processes is not: it moves only rounding.
    """
    settings = {
        "system": model.name,
        "model": config_of(model),
        "training": asdict(config) | {"epochs": None},
        "device": data.features.device.type,
    }
    return sha256_of_bytes(
        json.dumps(settings, sort_keys=True).encode(),
        *(tensor.cpu().numpy().tobytes() for tensor in (graph.embeddings, graph.edges, graph.is_a)),
        data.key().encode(),
    )


def _save_state(
    path: Path,
    run_key: str,
    model: Model,
    optimizer: torch.optim.Adam,
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau,
    scaler: torch.amp.GradScaler,
    history: list[dict[str, float]],
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer_state = optimizer.state_dict()
    for index, moments in optimizer_state["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in moments.items()}
    header = {
        "run": run_key,
        "groups": [
            {name: value for name, value in group.items() if isinstance(value, int | float | bool | list | tuple)}
            for group in optimizer_state["param_groups"]
        ],
        "plateau": {
            name: value for name, value in plateau.state_dict().items() if isinstance(value, int | float | list)
        },
        "scaler": scaler.state_dict(),
        "history": history,
    }
    with written_atomically(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={"mlzsl training": json.dumps(header)}))


def _existing(path: Path | None) -> Path:
    if path is None or not path.is_file():
        raise UsageError(f"{path}: there is no training state to resume from; train without --resume first.")
    return path


def _load_state(
    path: Path,
    run_key: str,
    model: Model,
    optimizer: torch.optim.Adam,
    plateau: torch.optim.lr_scheduler.ReduceLROnPlateau,
    scaler: torch.amp.GradScaler,
) -> list[dict[str, float]]:
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, Any] = json.loads((file.metadata() or {})["mlzsl training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: is not a readable training state ({error}); train without --resume.") from error
    if header.get("run") != run_key:
        raise UsageError(
            f"{path}: belongs to a run with other photos, labels, embeddings, settings or device; "
            "resume with the flags it began with, or train without --resume."
        )
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, moment = name.split(".")
            moments.setdefault(int(index), {})[moment] = tensor
    groups = [
        fresh | kept for fresh, kept in zip(optimizer.state_dict()["param_groups"], header["groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    plateau.load_state_dict(header["plateau"])
    scaler.load_state_dict(header["scaler"])
    history: list[dict[str, float]] = header["history"]
    return history

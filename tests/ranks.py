"""Process groups for tests: each process calls one function and writes its result to a file."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from smallgraph import small_batch, small_graph, small_model
from torch import Tensor
from torch.multiprocessing import get_context

from mlzsl.train.models.model import GraphTensors, Model
from mlzsl.train.models.registry import config_of, create_model
from mlzsl.train.training.distributed import Processes, process_group
from mlzsl.train.training.trainer import TrainingData

T, A, PHOTOS = 6, 15, 61


def small_training(name: str) -> tuple[Model, GraphTensors, TrainingData]:
    """An initialized model, and 61 photos with labels that depend on their features."""
    graph, (x, logits) = small_graph(T, A), small_batch(PHOTOS)
    targets = (x[:, :T] > 0.8).float()
    targets[:, 0] = 1 - targets[:, 1:].amax(dim=1)  # no photo without a label
    data = TrainingData(x, graph.external_probabilities(logits), targets)
    torch.manual_seed(42)
    model = create_model(name, config_of(small_model(name)))
    model.initialize(graph, data.features, data.external_probabilities, data.targets)
    return model, graph, data


def run_ranks(work: Callable[[Processes, Path], Any], folder: Path, count: int = 2) -> list[int | None]:
    """Call `work` in processes connected over localhost and return their exit codes; `result_of` reads the results."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("spawn")
    ranks = [context.Process(target=_rank, args=(work, rank, count, port, folder)) for rank in range(count)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    return [rank.exitcode for rank in ranks]


def result_of(folder: Path, rank: int) -> Any:
    """The result of `work` in the process of a rank."""
    return json.loads((folder / f"rank{rank}.json").read_text())


def tensors_to_json(model: Model) -> dict[str, list[float]]:
    """A model's tensors as JSON, exactly."""
    return {name: tensor.flatten().tolist() for name, tensor in model.state_dict().items()}


def largest_difference(model: Model, tensors: dict[str, list[float]]) -> float:
    """The largest difference of a model's tensors from those of `tensors_to_json`."""

    def apart(name: str, tensor: Tensor) -> float:
        return float((tensor.flatten() - torch.tensor(tensors[name])).abs().max())

    return max(apart(name, tensor) for name, tensor in model.state_dict().items())


def _rank(work: Callable[[Processes, Path], Any], rank: int, count: int, port: int, folder: Path) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    processes = Processes(rank, count, rank)
    with process_group(processes, f"tcp://127.0.0.1:{port}"):
        (folder / f"rank{rank}.json").write_text(json.dumps(work(processes, folder)))

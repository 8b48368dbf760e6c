"""How long does a training step of each model take on cached features, and what does avoiding concatenations save?

Random features of a photo set's size, the training graph of a label set with the external classes of ImageNet. Each
model takes the same steps twice, interleaved: as it is, and with [x; s_y] built for every pair of photo and label,
as its paper writes it.

    python benchmarks/training_step.py [--labels coco80] [--batch 32] [--steps 5] [--threads 2]
"""

import statistics
import time
from contextlib import nullcontext
from dataclasses import asdict
from unittest.mock import patch

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import UNSEEN, load_label_set
from mlzsl.train.models.layers import ConcatLinear
from mlzsl.train.models.model import GraphTensors, Model, graph_tensors
from mlzsl.train.models.registry import MODELS, create_model, settings_of

WITHOUT_STEPS = ("training-free", "evidence")


@click.command()
@click.option("--labels", default="coco80", help="The label set.")
@click.option("--features", default=2048, help="F, the width of the features.")
@click.option("--batch", default=32, help="Photos a step.")
@click.option("--steps", default=5, help="Timed steps of each kind; medians are shown.")
@click.option("--threads", default=2, help="CPU threads.")
@click.option("--model", "chosen", multiple=True, help="Only these models.")
def main(labels: str, features: int, batch: int, steps: int, threads: int, chosen: tuple[str, ...]) -> None:
    """Time a training step of each model."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    label_set = load_label_set(labels)
    seen = [label for label in label_set.labels if label not in UNSEEN.get(labels, ())]
    embeddings = open_embeddings("taxonomy")
    graph = graph_tensors(build_class_graph(label_set, seen, load_label_set("imagenet1k"), embeddings).training())
    x, p = torch.rand(batch, features), graph.external_probabilities(3 * torch.randn(batch, 1000))
    targets = (torch.rand(batch, graph.num_targets) < 0.05).float()
    table = Table(
        title=f"{graph.num_targets} labels + {graph.num_nodes - graph.num_targets} external classes, batch {batch}, "
        f"{features} features, {threads} threads, median of {steps}",
        title_justify="left",
    )
    for heading in ("model", "ms a step", "ms a step, concatenations built", "saved"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name in chosen or [name for name in MODELS if name not in WITHOUT_STEPS]:
        known = {"feature_dim": features, "embedding_dim": graph.embeddings.shape[1]}
        config_class = MODELS[name].config_class
        config = asdict(config_class(**{key: value for key, value in known.items() if key in settings_of(name)}))
        plain, built = interleaved_times(create_model(name, config), graph, (x, p, targets), steps)
        table.add_row(name, f"{plain:.0f}", f"{built:.0f}", f"{1 - plain / built:.0%}")
    Console(width=120).print(table)


def interleaved_times(
    model: Model, graph: GraphTensors, batch: tuple[Tensor, Tensor, Tensor], steps: int
) -> tuple[float, float]:
    """Median milliseconds of a step as it is and with concatenations built, interleaved after a warm-up."""
    optimizer = torch.optim.Adam(model.parameters())
    times: tuple[list[float], list[float]] = ([], [])
    for step in range(steps + 1):
        for kind in (0, 1):
            started = time.perf_counter()
            with patch.object(ConcatLinear, "forward", concatenated) if kind else nullcontext():
                take_step(model, graph, batch, optimizer)
            if step:
                times[kind].append(1000 * (time.perf_counter() - started))
    return statistics.median(times[0]), statistics.median(times[1])


def take_step(
    model: Model, graph: GraphTensors, batch: tuple[Tensor, Tensor, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """One step of Adam on the model's loss."""
    x, p, targets = batch
    optimizer.zero_grad()
    model.losses(x, p, graph, targets)["loss"].backward()
    optimizer.step()


def concatenated(self: ConcatLinear, a: Tensor, b: Tensor) -> Tensor:
    """What ConcatLinear computes, by building [a; b] for each pair and multiplying it, as the papers write it."""
    shape = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    pairs = torch.cat([a.expand(*shape, -1), b.expand(*shape, -1)], dim=-1)
    return nn.functional.linear(pairs, self.weight, self.bias)


if __name__ == "__main__":
    main()

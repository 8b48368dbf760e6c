"""What does the head cost for more labels, folded and unfolded: in time, multiply-adds and bytes?

Labels are random nouns of WordNet beside the external classes of ImageNet; features and logits are random, and so are
the model's parameters. Edge weights are all 1: their values change no time, and computing them for 22,000 labels would
take longer than everything else. Both heads run in PyTorch, eager, fp32, interleaved. Each number of labels has a
process of its own, limited to the free memory; a head that does not fit is marked.

    python benchmarks/labels.py [--counts 20,80,320,1000,4000,10000,22000] [--batch 2] [--threads 2]
"""

import multiprocessing
import random
import resource
import statistics
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mlzsl.cli.progress import progress
from mlzsl.export.cost_sheet import multiply_adds
from mlzsl.export.folding.fold import FOLDINGS
from mlzsl.export.unfolded_head import unfolded_head
from mlzsl.graph.classgraph import build_class_graph
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet, load_label_set
from mlzsl.graph.taxonomy import Taxonomy
from mlzsl.train.models.model import GraphTensors, graph_tensors
from mlzsl.train.models.rgcn_posvae import RGCNPosVAE, RGCNPosVAEConfig

COLUMNS = ("labels", "nodes", "joined", "head", "M multiply-adds", "of backbone", "MB", "ms an image", "speed-up")
HEADS = ("unfolded", "folded")
FEATURES, CLASSES = 2048, 1000
OF_FREE_MEMORY = 0.85
NOT_READ = ("edges", "is_a", "model.posvae.decoder")  # in the unfolded head: what Â was made from, and for training


@dataclass(frozen=True)
class Cost:
    """Of one head: multiply-adds an image, bytes of its constants, median milliseconds an image."""

    multiply_adds: int
    constants: int
    milliseconds: float


@dataclass(frozen=True)
class Row:
    """One number of labels: nodes of the graph, the share of pairs that are joined, and the heads that fitted."""

    nodes: int
    joined: float
    heads: dict[str, Cost]


class EveryEdgeOne(nn.Module):
    """A + I in place of learned edge weights."""

    def forward(self, graph: GraphTensors) -> Tensor:
        weights = torch.eye(graph.num_nodes)
        weights[graph.edges[0], graph.edges[1]] = 1
        return weights


@click.command()
@click.option("--counts", default="20,80,320,1000,4000,10000,22000", help="Numbers of labels.")
@click.option("--batch", default=2, help="Images a call.")
@click.option("--seconds", default=2.0, help="How long each head is measured, at least three calls.")
@click.option("--threads", default=2, help="Threads of PyTorch.")
@click.option("--backbone-mmac", default=7800.0, help="To compare with: a ResNet-101 at 224 px has 7,800.")
def main(counts: str, batch: int, seconds: float, threads: int, backbone_mmac: float) -> None:
    """Measure the folded and the unfolded head on graphs of many sizes."""
    table = Table(
        title=f"RGCN-PosVAE's head, PyTorch fp32, batches of {batch}, {threads} threads, random nouns as labels",
        title_justify="left",
    )
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading == "head" else "right")
    asked = [int(count) for count in counts.split(",")]
    with progress("measuring", len(asked), "numbers of labels") as bar:
        for count in asked:
            add_rows(table, count, in_its_own_process(count, batch, seconds, threads), backbone_mmac)
            bar.advance(note=f"{count:,} labels")
    Console(width=140).print(table)


def add_rows(table: Table, count: int, row: Row | None, backbone_mmac: float) -> None:
    """A row for each head."""
    if row is None:
        table.add_row(f"{count:,}", "", "", "the graph", "does not fit")
        return
    facts = [f"{count:,}", f"{row.nodes:,}", f"{row.joined:.0%}"]
    for name in HEADS:
        cost, slower = row.heads.get(name), row.heads.get(HEADS[0])
        if cost is None:
            table.add_row(*facts, name, "does not fit")
        else:
            table.add_row(
                *facts,
                name,
                f"{cost.multiply_adds / 1e6:,.0f}",
                f"{cost.multiply_adds / 1e6 / backbone_mmac:.2f}",
                f"{cost.constants / 1e6:,.1f}",
                f"{cost.milliseconds:,.2f}",
                f"{slower.milliseconds / cost.milliseconds:.1f}" if slower else "",
            )
        facts = ["", "", ""]


def in_its_own_process(count: int, batch: int, seconds: float, threads: int) -> Row | None:
    """Measure one number of labels; None where not even the graph fits."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(theirs, count, batch, seconds, threads))
    process.start()
    theirs.close()
    try:
        row: Row | None = ours.recv()
    except EOFError:
        row = None
    process.join()
    return row


def measure(connection: Connection, count: int, batch: int, seconds: float, threads: int) -> None:
    """Build the graph and both heads within the free memory, and run them interleaved."""
    limit = int(OF_FREE_MEMORY * available_memory())
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, logits = torch.rand(batch, FEATURES), 3 * torch.randn(batch, CLASSES)
    graph = tensors_of(count)
    model = RGCNPosVAE(RGCNPosVAEConfig(FEATURES, graph.embeddings.shape[1])).eval()
    model.edge_weights = EveryEdgeOne()
    heads = {}
    with torch.inference_mode():
        for name, make in (("folded", FOLDINGS[model.name]), ("unfolded", unfolded_head)):
            try:
                head = make(model, graph)
                head(x, logits)  # what it needs while it runs must fit as well
                heads[name] = head
            except (MemoryError, RuntimeError) as error:  # PyTorch has no error of its own for memory on the CPU
                if "memory" not in str(error) and not isinstance(error, MemoryError):
                    raise
        times = interleaved_times(heads, x, logits, seconds)
    costs = {
        name: Cost(multiply_adds(head, x, logits) // batch, constants(head), 1000 * times[name] / batch)
        for name, head in heads.items()
    }
    pairs = graph.num_nodes * (graph.num_nodes - 1)
    connection.send(Row(graph.num_nodes, graph.edges.shape[1] / pairs, costs))


def tensors_of(count: int) -> GraphTensors:
    """The class graph of so many random nouns and ImageNet's classes."""
    taxonomy = Taxonomy.shipped()
    synsets = tuple(random.Random(0).sample(taxonomy.names, count))
    labels = LabelSet(f"{count} nouns", synsets, synsets)
    return graph_tensors(build_class_graph(labels, (), load_label_set("imagenet1k"), open_embeddings("taxonomy")))


def constants(head: nn.Module) -> int:
    """Bytes of the tensors that a head reads."""
    return sum(tensor.nbytes for name, tensor in head.state_dict().items() if not name.startswith(NOT_READ))


def interleaved_times(heads: dict[str, nn.Module], x: Tensor, logits: Tensor, seconds: float) -> dict[str, float]:
    """Median seconds a call of each head."""
    times: dict[str, list[float]] = {name: [] for name in heads}
    started = time.perf_counter()
    while len(next(iter(times.values()), [0.0] * 3)) < 3 or time.perf_counter() - started < seconds * len(heads):
        for name, head in heads.items():
            begun = time.perf_counter()
            head(x, logits)
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def available_memory() -> int:
    """Bytes of available memory, as Linux reports."""
    with open("/proc/meminfo") as file:
        fields = dict(line.split(":", 1) for line in file)
    return 1024 * int(fields["MemAvailable"].split()[0])


if __name__ == "__main__":
    main()

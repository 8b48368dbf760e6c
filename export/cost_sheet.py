"""The cost sheet of an export: multiply-adds before and after folding, file size, largest score difference."""

from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class CostSheet:
    """The cost of an exported model.

    Attributes:
        labels: the number of target labels.
        external_classes: the number of external classes in the graph.
        edges: pairs of different nodes with an edge.
        computed_nodes: the number of nodes computed at the input of each graph layer, then of targets.
        backbone: multiply-adds per image of the backbone.
        unfolded: multiply-adds per image of the head with the paper's formulas as written (Â precomputed).
        folded: multiply-adds per image of the exported head.
        file_bytes: size of the model file.
        largest_difference: of a score from the PyTorch reference on the golden sample.
    """

    labels: int
    external_classes: int
    edges: int
    computed_nodes: tuple[int, ...]
    backbone: int
    unfolded: int
    folded: int
    file_bytes: int
    largest_difference: float

    def table(self) -> Table:
        """The sheet as a table to print."""
        table = Table(title="Cost sheet", title_justify="left", show_header=False)
        nodes = self.labels + self.external_classes
        pairs = max(nodes * (nodes - 1) // 2, 1)
        rows = {
            "nodes": f"{nodes:,} ({self.labels:,} labels + {self.external_classes:,} external classes)",
            "edges": f"{self.edges:,} ({self.edges / pairs:.1%} of all pairs)",
            "nodes computed per layer": " → ".join(f"{count:,}" for count in self.computed_nodes),
            "backbone, multiply-adds per image": _millions(self.backbone),
            "unfolded head, multiply-adds per image": _millions(self.unfolded),
            "folded head, multiply-adds per image": f"{_millions(self.folded)} (÷ {self.unfolded / self.folded:.1f})",
            "file size": f"{self.file_bytes / 1e6:.1f} MB",
            "largest score difference from PyTorch": f"{self.largest_difference:.1e}",
        }
        for row in rows.items():
            table.add_row(*row)
        return table


def multiply_adds(module: nn.Module, *inputs: torch.Tensor) -> int:
    """Count the multiply-adds of matrix products and convolutions in one call of a module."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M"

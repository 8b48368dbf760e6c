"""What folding saved: the cost sheet that every export prints and records."""

from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class CostSheet:
    """The cost of one exported model.

    Attributes:
        targets: target labels.
        externals: external classes in the graph.
        edges: pairs of nodes that are joined, self-connections left out.
        reached: nodes whose states are computed at the input of each graph layer, then the targets.
        backbone: multiply-adds an image of the feature extractor.
        written: multiply-adds an image of the head as the paper writes it (Â precomputed).
        folded: multiply-adds an image of the folded head.
        file_bytes: size of the model file.
        largest_difference: of a score from the PyTorch reference on the golden sample.
    """

    targets: int
    externals: int
    edges: int
    reached: tuple[int, ...]
    backbone: int
    unfolded_head: int
    folded: int
    file_bytes: int
    largest_difference: float

    def table(self) -> Table:
        """The sheet as a table to print."""
        table = Table(title="Cost sheet", title_justify="left", show_header=False)
        nodes = self.targets + self.externals
        pairs = nodes * (nodes - 1) // 2
        rows = [
            ("nodes", f"{nodes:,} ({self.targets:,} labels + {self.externals:,} external classes)"),
            ("edges", f"{self.edges:,} ({self.edges / max(pairs, 1):.1%} of all pairs)"),
            ("nodes computed, layer by layer", " → ".join(f"{count:,}" for count in self.reached)),
            ("backbone, multiply-adds an image", _millions(self.backbone)),
            ("head as written, multiply-adds an image", _millions(self.unfolded_head)),
            (
                "head folded, multiply-adds an image",
                f"{_millions(self.folded)} (÷ {self.unfolded_head / self.folded:.1f})",
            ),
            ("file size", f"{self.file_bytes / 1e6:.1f} MB"),
            ("largest score difference from PyTorch", f"{self.largest_difference:.1e}"),
        ]
        for name, value in rows:
            table.add_row(name, value)
        return table


def multiply_adds(module: nn.Module, *inputs: torch.Tensor) -> int:
    """Count the multiply-adds of matrix products and convolutions in one call of a module."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(*inputs)
    return int(counter.get_total_flops()) // 2


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M"

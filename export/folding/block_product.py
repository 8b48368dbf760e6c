"""A product with a sparse constant matrix, as products with its dense blocks."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mlzsl.export.folding.blocks import dense_blocks


class BlockProduct(nn.Module):
    """Â @ X over dense blocks (step 7 of docs/folding.md); X (columns, width) -> (rows, width), rows in block order.

    Attributes:
        row_order: int64 [rows], the row of the matrix that stands at each place of the result.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        blocks = dense_blocks((matrix != 0).numpy())
        self.products = sum(block.products for block in blocks)
        self.blocks = len(blocks)
        self.column_ranges = [_range(block.columns) for block in blocks]
        for index, block in enumerate(blocks):
            rows, columns = torch.from_numpy(block.rows), torch.from_numpy(block.columns)
            self.register_buffer(f"matrix_{index}", matrix[rows][:, columns].float())
            self.register_buffer(f"columns_{index}", columns)
        self.row_order = torch.from_numpy(np.concatenate([block.rows for block in blocks]))

    def forward(self, states: Tensor) -> Tensor:
        products = []
        for index, bounds in enumerate(self.column_ranges):
            block, columns = getattr(self, f"matrix_{index}"), getattr(self, f"columns_{index}")
            taken = states[bounds[0] : bounds[1]] if bounds else states.index_select(0, columns)
            products.append(block @ taken)
        return torch.cat(products) if len(products) > 1 else products[0]


def _range(columns: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """(first, last + 1) where columns follow one another without a gap: a slice is cheaper than a gather."""
    if len(columns) and columns[-1] - columns[0] + 1 == len(columns):
        return int(columns[0]), int(columns[-1]) + 1
    return None

"""Products with a sparse constant matrix as products with its dense blocks (step 7 of docs/folding.md).

WUP > 0.5 connects classes within their branch of the taxonomy: animals with animals, artefacts with artefacts. Rows of
Â with the same non-zero columns form a block, and Â H becomes one small product per block. It is exact: only products
with zeros are left out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

READ_COST = 48  # of a block's columns, in rows of multiply-adds with them
BLOCK_COST = 4096  # of one more product, in multiply-adds per column of X
MAX_DISTINCT_ROWS = 4096  # 22,000 nouns have some 2,000; pairwise merging is quadratic in memory


class BlockProduct(nn.Module):
    """Â @ X over dense blocks; X (columns, width) -> (rows, width), rows in block order.

    Attributes:
        row_order: int64 [rows], the row of Â of each row of the result.
    """

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        blocks = dense_blocks((matrix != 0).numpy())
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
            products.append(block @ (states[slice(*bounds)] if bounds else states.index_select(0, columns)))
        return torch.cat(products) if len(products) > 1 else products[0]


def _range(columns: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """(first, last + 1) of contiguous columns, else None: a slice is cheaper than a gather."""
    if len(columns) and columns[-1] - columns[0] + 1 == len(columns):
        return int(columns[0]), int(columns[-1]) + 1
    return None


@dataclass(frozen=True)
class Block:
    """Rows of a matrix, and the columns in which any of them is not zero, both int64."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    @property
    def products(self) -> int:
        """Multiply-adds per column of X."""
        return len(self.rows) * len(self.columns)


def dense_blocks(nonzero: npt.NDArray[np.bool_]) -> list[Block]:
    """Group the rows of a matrix into blocks of low total cost: products, and reading of columns.

    Rows with zeros in the same columns start as one group. Groups are merged greedily: each step merges the two whose
    union saves most, until none saves. Blocks are in the order of their first rows.

    Args:
        nonzero: bool [M, N], where the matrix is not zero.

    Returns:
        Blocks that contain each row once; a single one if more than MAX_DISTINCT_ROWS rows are distinct.
    """
    first_rows, kind_of_row = _kinds(nonzero)
    if not 0 < len(first_rows) <= MAX_DISTINCT_ROWS:
        return [_block(nonzero, np.arange(len(nonzero)))]
    first_columns, kind_of_column = _kinds(nonzero.T)
    members = [np.flatnonzero(kind_of_row == kind) for kind in range(len(first_rows))]
    sizes = np.array([len(rows) for rows in members])
    supports, weights = nonzero[np.ix_(first_rows, first_columns)], np.bincount(kind_of_column)
    for kept, gone in _merges(supports, sizes, weights):
        members[kept] = np.concatenate([members[kept], members[gone]])
        members[gone] = members[gone][:0]
    groups = sorted((np.sort(rows) for rows in members if len(rows)), key=lambda rows: rows[0])
    return [_block(nonzero, rows) for rows in groups]


def _kinds(matrix: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Distinct rows: the index of the first of each kind, in lexicographic order, and the kind of every row."""
    _, first, kind = np.unique(np.packbits(matrix, axis=1), axis=0, return_index=True, return_inverse=True)
    return first, kind.reshape(-1)


def _block(nonzero: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> Block:
    return Block(rows, np.flatnonzero(nonzero[rows].any(axis=0)))


def _merges(
    supports: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64], weights: npt.NDArray[np.int64]
) -> list[tuple[int, int]]:
    """The merges (kept, gone) of greedy clustering.

    A group costs (rows + READ_COST) · columns + BLOCK_COST.

    Args:
        supports: bool [G, K], the kinds of columns that each group reads.
        sizes: int [G], rows of each group.
        weights: int [K], columns of each kind.
    """
    bits, weights = supports.astype(np.float32), weights.astype(np.float32)  # (G, K), (K,)
    rows = sizes.astype(np.float32)  # (G,)
    widths = bits @ weights
    unions = widths[:, None] + widths[None, :] - (bits * weights) @ bits.T  # |C_g ∪ C_h|
    alive = np.ones(len(rows), dtype=bool)

    def savings(g: int) -> npt.NDArray[np.float32]:
        apart = (rows[g] + READ_COST) * widths[g] + (rows + READ_COST) * widths
        gain = apart - (rows[g] + rows + READ_COST) * unions[g] + BLOCK_COST
        gain[~alive] = -np.inf
        gain[g] = -np.inf
        return gain.astype(np.float32)

    best = np.stack([savings(g) for g in range(len(rows))])
    merges = []
    while alive.sum() > 1:
        kept, gone = sorted(int(i) for i in np.unravel_index(np.argmax(best), best.shape))
        if best[kept, gone] <= 0:
            break
        merges.append((kept, gone))
        bits[kept] = np.maximum(bits[kept], bits[gone])
        rows[kept] += rows[gone]
        widths[kept] = bits[kept] @ weights
        alive[gone] = False
        best[gone, :] = best[:, gone] = -np.inf
        unions[kept] = unions[:, kept] = widths[kept] + widths - bits @ (bits[kept] * weights)
        best[kept] = best[:, kept] = savings(kept)
    return merges

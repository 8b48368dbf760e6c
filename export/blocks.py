"""A sparse matrix with large empty regions as a few dense blocks, so that a dense engine skips the emptiness.

WUP > 0.5 joins classes within their branch of the taxonomy: animals with animals, artefacts with artefacts. Rows of
Â that have their non-zero columns in common form a block, and Â H becomes one small product a block. Exact: only
products with zeros are left out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROWS_FOR_FREE = 48  # reading a block's columns costs about as much as this many more rows of products with them
BLOCK_FOR_FREE = 4096  # starting one more product costs about as much as this many multiply-adds a column
LARGEST_CLUSTERING = 4096  # pairwise merging is quadratic in memory


@dataclass(frozen=True)
class Block:
    """Rows of a matrix, and the columns in which any of these rows is not zero."""

    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    @property
    def products(self) -> int:
        """Multiply-adds with one column vector."""
        return len(self.rows) * len(self.columns)


def dense_blocks(nonzero: npt.NDArray[np.bool_]) -> list[Block]:
    """Group the rows of a matrix so that the blocks' products, and what reading their columns costs, are few.

    Rows are merged greedily: each step joins the two groups whose union saves most, until none saves. Groups come
    in the order of their first rows.

    Args:
        nonzero: bool [M, N], where the matrix is not zero.

    Returns:
        Blocks that hold each row once.
    """
    rows, columns = nonzero.shape
    if max(rows, columns) > LARGEST_CLUSTERING or rows == 0:
        return [_block(nonzero, np.arange(rows))]
    supports, group_of_row = np.unique(nonzero, axis=0, return_inverse=True)
    group_of_row = group_of_row.reshape(-1)
    members = [np.flatnonzero(group_of_row == group) for group in range(len(supports))]
    for kept, gone in _merges(supports, np.array([len(rows_of) for rows_of in members])):
        members[kept] = np.concatenate([members[kept], members[gone]])
        members[gone] = members[gone][:0]
    groups = sorted((np.sort(rows_of) for rows_of in members if len(rows_of)), key=lambda rows_of: rows_of[0])
    return [_block(nonzero, rows_of) for rows_of in groups]


def _block(nonzero: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> Block:
    return Block(rows, np.flatnonzero(nonzero[rows].any(axis=0)))


def _merges(supports: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The merges (kept, gone) of greedy clustering.

    A group costs (rows + ROWS_FOR_FREE) · columns + BLOCK_FOR_FREE.
    """
    bits = supports.astype(np.float32)  # (G, N)
    rows = sizes.astype(np.float32)  # (G,)
    widths = bits.sum(axis=1)
    unions = widths[:, None] + widths[None, :] - bits @ bits.T  # |C_g ∪ C_h|
    alive = np.ones(len(rows), dtype=bool)

    def savings(g: int) -> npt.NDArray[np.float32]:
        apart = (rows[g] + ROWS_FOR_FREE) * widths[g] + (rows + ROWS_FOR_FREE) * widths
        gain = apart - (rows[g] + rows + ROWS_FOR_FREE) * unions[g] + BLOCK_FOR_FREE
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
        widths[kept] = bits[kept].sum()
        alive[gone] = False
        best[gone, :] = best[:, gone] = -np.inf
        unions[kept] = unions[:, kept] = widths[kept] + widths - bits @ bits[kept]
        best[kept] = best[:, kept] = savings(kept)
    return merges

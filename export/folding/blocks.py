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
LARGEST_CLUSTERING = 4096  # kinds of rows; 22,000 nouns have some 2,000. Pairwise merging is quadratic in memory


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

    Rows of one kind, zero in the same columns, go together. Groups are merged greedily: each step joins the two whose
    union saves most, until none saves. They come in the order of their first rows.

    Args:
        nonzero: bool [M, N], where the matrix is not zero.

    Returns:
        Blocks that hold each row once; a single one where there are too many kinds of rows to compare.
    """
    first_rows, kind_of_row = _kinds(nonzero)
    if not 0 < len(first_rows) <= LARGEST_CLUSTERING:
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
    """Equal rows: the first of each kind, in lexicographic order, and the kind of every row."""
    _, first, kind = np.unique(np.packbits(matrix, axis=1), axis=0, return_index=True, return_inverse=True)
    return first, kind.reshape(-1)


def _block(nonzero: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64]) -> Block:
    return Block(rows, np.flatnonzero(nonzero[rows].any(axis=0)))


def _merges(
    supports: npt.NDArray[np.bool_], sizes: npt.NDArray[np.int64], weights: npt.NDArray[np.int64]
) -> list[tuple[int, int]]:
    """The merges (kept, gone) of greedy clustering.

    A group costs (rows + ROWS_FOR_FREE) · columns + BLOCK_FOR_FREE.

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
        widths[kept] = bits[kept] @ weights
        alive[gone] = False
        best[gone, :] = best[:, gone] = -np.inf
        unions[kept] = unions[:, kept] = widths[kept] + widths - bits @ (bits[kept] * weights)
        best[kept] = best[:, kept] = savings(kept)
    return merges

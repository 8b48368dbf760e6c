"""Blocks of a sparse matrix: complete, and without the empty regions."""

import numpy as np
import pytest
import torch

from mlzsl.export.folding import blocks
from mlzsl.export.folding.blocks import BlockProduct, dense_blocks


def two_communities(rows: int = 300) -> np.ndarray:
    """Two groups of nodes with edges inside only, in shuffled order."""
    generator = np.random.default_rng(0)
    group = generator.integers(0, 2, rows)
    joined = (group[:, None] == group[None, :]) & (generator.random((rows, rows)) < 0.8)
    np.fill_diagonal(joined, True)
    return joined


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_every_entry_is_in_exactly_one_block(density: float) -> None:
    nonzero = np.random.default_rng(1).random((70, 90)) < density
    covered = np.zeros(nonzero.shape, dtype=int)
    for block in dense_blocks(nonzero):
        covered[np.ix_(block.rows, block.columns)] += 1
    assert covered.max(initial=0) <= 1
    assert (covered[nonzero] == 1).all()


def test_every_row_is_in_exactly_one_block() -> None:
    rows = np.concatenate([block.rows for block in dense_blocks(two_communities())])
    assert sorted(rows.tolist()) == list(range(300))


def test_too_many_distinct_rows_are_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_DISTINCT_ROWS", 299)
    (whole,) = dense_blocks(two_communities())
    assert (len(whole.rows), len(whole.columns)) == (300, 300)


def test_equal_rows_and_columns_are_counted_each() -> None:
    nonzero = two_communities(60)
    often = np.repeat(np.repeat(nonzero, 3, axis=0), 2, axis=1)
    found = dense_blocks(often)
    assert sorted(np.concatenate([block.rows for block in found]).tolist()) == list(range(180))
    for block in found:
        assert np.array_equal(block.columns, np.flatnonzero(often[block.rows].any(axis=0)))
        kinds = set((block.rows // 3).tolist())
        assert sorted(block.rows.tolist()) == [3 * kind + copy for kind in sorted(kinds) for copy in range(3)]


def test_separate_communities_become_separate_blocks() -> None:
    nonzero = two_communities()
    blocks = dense_blocks(nonzero)
    assert len(blocks) == 2
    assert sum(block.products for block in blocks) < 0.55 * nonzero.size


def test_block_product_is_the_matrix_product() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(300, 300, generator=generator, dtype=torch.float64) * torch.from_numpy(two_communities())
    states = torch.randn(300, 20, generator=generator)
    product = BlockProduct(matrix)
    expected = (matrix @ states.double())[product.row_order].float()
    torch.testing.assert_close(product(states), expected, rtol=1e-5, atol=1e-5)

"""Wu-Palmer similarity of many noun synsets at once, equal to nltk's `Synset.wup_similarity` bit for bit.

nltk's version of Wu and Palmer, for a and b with a lowest common hypernym c:

    wup(a, b) = 2 d / (len(a, c) + len(b, c) + 2 d),   d = max_depth(c) + 1

- c is a common hypernym (a and b are hypernyms of themselves) of greatest *min_depth*. Of several, it is a itself if
  a is one of them, else the one whose name sorts first. So ties are broken differently for (a, b) and (b, a).
- len(x, c) is the shortest path from x to c over *any* hypernym they share, which need not be c.

The ancestors are visited from the root down, and each overwrites the codes of all pairs of its descendants: the last
one written is the lowest. Rows are computed in blocks, so memory is the result plus a few MB.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mlzsl.graph.taxonomy import Taxonomy

_Value = TypeVar("_Value", np.float64, np.bool_)
_Members = tuple[NDArray[np.intp], NDArray[np.uint16]]

PAIRS_AT_ONCE = 2**21  # pairs in a block of rows, 2 bytes each: fits a CPU's cache


def wup_similarity(
    taxonomy: Taxonomy, a: Sequence[str | None], b: Sequence[str | None] | None = None
) -> NDArray[np.float64]:
    """The Wu-Palmer similarity of every a with every b, float64 [len(a), len(b)].

    Args:
        taxonomy: the synsets' hierarchy.
        a: synset names or wnids; row i holds nltk's `a[i].wup_similarity(b[j])`, 0 where one of them is None.
        b: the same for the columns; `a` by default.

    Raises:
        UnknownSynsetError: a name that the taxonomy does not have.
    """
    rows = _indices(taxonomy, a)
    columns = rows if b is None else _indices(taxonomy, b)
    similarities = np.empty((len(rows), len(columns)))
    values = _values_of_codes(taxonomy)
    for start, codes in _code_blocks(taxonomy, list(rows.values()), list(columns.values())):
        values.take(codes, out=similarities[start : start + len(codes)], mode="clip")
    return _with_unlinked(similarities, rows, columns, len(a), len(a if b is None else b))


def wup_adjacency(taxonomy: Taxonomy, synsets: Sequence[str | None], threshold: float) -> NDArray[np.bool_]:
    """Whether each pair of synsets is more similar than the threshold, bool [N, N]; False where one of them is None.

    Memory is the result and one block of rows: 0.5 GB for 22,000 synsets, not 4.

    Raises:
        UnknownSynsetError: a name that the taxonomy does not have.
    """
    nodes = _indices(taxonomy, synsets)
    indices = list(nodes.values())
    adjacency = np.empty((len(indices), len(indices)), np.bool_)
    above = _values_of_codes(taxonomy) > threshold
    for start, codes in _code_blocks(taxonomy, indices, indices):
        above.take(codes, out=adjacency[start : start + len(codes)], mode="clip")
    return _with_unlinked(adjacency, nodes, nodes, len(synsets), len(synsets))


def _indices(taxonomy: Taxonomy, synsets: Sequence[str | None]) -> dict[int, int]:
    """The index of each synset that is not None, by its position."""
    return {position: taxonomy.index(synset) for position, synset in enumerate(synsets) if synset is not None}


def _with_unlinked(
    values: NDArray[_Value], rows: Collection[int], columns: Collection[int], row_count: int, column_count: int
) -> NDArray[_Value]:
    """The matrix with rows and columns of zeros for what has no synset."""
    if len(rows) == row_count and len(columns) == column_count:
        return values
    padded = np.zeros((row_count, column_count), values.dtype)
    padded[np.ix_(list(rows), list(columns))] = values
    return padded


def _code_blocks(taxonomy: Taxonomy, rows: list[int], columns: list[int]) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield (first row, codes [rows of the block, columns]), a code is (depth of c, len(a) + len(b)) in one number."""
    steps_up = {index: _steps_up(taxonomy, index) for index in {*rows, *columns}}
    column_members = _members(columns, steps_up)
    bases = (taxonomy.max_depths + 1) * _code_radix(taxonomy)  # codes of lowest common hypernyms, without paths
    rank = _depth_ranks(taxonomy, {ancestor for steps in steps_up.values() for ancestor in steps})
    size = max(1, PAIRS_AT_ONCE // max(1, len(columns)))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        codes = np.zeros((len(block), len(columns)), np.uint16)
        row_members = _members(block, steps_up)
        for ancestor in sorted(row_members.keys() & column_members.keys(), key=rank.__getitem__):
            (left, left_steps), (right, right_steps) = row_members[ancestor], column_members[ancestor]
            path = (left_steps + np.uint16(bases[ancestor]))[:, None] + right_steps[None, :]
            if len(right) == len(columns):
                codes[left] = path
            else:
                codes[np.ix_(left, right)] = path
        for row, index in enumerate(block):
            if index in column_members and _is_own_lowest(taxonomy, index, steps_up[index]):
                nodes, steps = column_members[index]
                codes[row, nodes] = np.uint16(bases[index]) + steps
        yield start, codes


def _steps_up(taxonomy: Taxonomy, index: int) -> dict[int, int]:
    """len(x, c) for every hypernym c of a synset x: the shortest path over any hypernym they share."""
    direct = taxonomy.ancestors(index)
    if len(direct) <= max(direct.values()) + 1:  # a chain has one path only
        return direct
    return {c: min(direct[shared] + steps for shared, steps in taxonomy.ancestors(c).items()) for c in direct}


def _members(indices: list[int], steps_up: dict[int, dict[int, int]]) -> dict[int, _Members]:
    """The nodes below each ancestor and their steps up to it, [n] each."""
    nodes: dict[int, list[int]] = {}
    steps: dict[int, list[int]] = {}
    for node, index in enumerate(indices):
        for ancestor, count in steps_up[index].items():
            nodes.setdefault(ancestor, []).append(node)
            steps.setdefault(ancestor, []).append(count)
    return {ancestor: (np.array(nodes[ancestor], np.intp), np.array(steps[ancestor], np.uint16)) for ancestor in nodes}


def _depth_ranks(taxonomy: Taxonomy, indices: set[int]) -> dict[int, int]:
    """A rank for each synset: of several common hypernyms, nltk takes that of the greatest rank as the lowest."""
    by_name = sorted(indices, key=lambda index: taxonomy.names[index], reverse=True)
    by_depth = sorted(by_name, key=lambda index: int(taxonomy.min_depths[index]))
    return {index: rank for rank, index in enumerate(by_depth)}


def _is_own_lowest(taxonomy: Taxonomy, index: int, ancestors: dict[int, int]) -> bool:
    """Whether nltk takes a synset itself as the lowest common hypernym with its own descendants.

    All hypernyms that it shares with a descendant are its own hypernyms, so this depends on the synset alone.
    """
    depths = taxonomy.min_depths
    return bool(depths[index] == max(depths[ancestor] for ancestor in ancestors))


def _code_radix(taxonomy: Taxonomy) -> int:
    """A code is depth * radix + len(a) + len(b), and no path is longer than the taxonomy is deep."""
    return 2 * int(taxonomy.max_depths.max()) + 1


def _values_of_codes(taxonomy: Taxonomy) -> NDArray[np.float64]:
    """wup for every code, in the same floating-point operations as nltk's."""
    radix = _code_radix(taxonomy)
    depth, path = np.divmod(np.arange((radix // 2 + 2) * radix), radix)
    values = np.zeros(len(depth))
    values[radix:] = 2.0 * depth[radix:] / (path[radix:] + 2 * depth[radix:])
    return values

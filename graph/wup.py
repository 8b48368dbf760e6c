"""Wu-Palmer similarity of many noun synsets at once, equal to nltk's `Synset.wup_similarity` bit for bit.

nltk's reading of Wu and Palmer, for a and b with a lowest common hypernym c:

    wup(a, b) = 2 d / (len(a, c) + len(b, c) + 2 d),   d = max_depth(c) + 1

- c is, of the common hypernyms (a and b may be their own), one of greatest *min_depth*: a itself if a is one
  of them, else the one whose name sorts first. So ties are broken differently for (a, b) and (b, a).
- len(x, c) is the shortest way from x to c over *any* hypernym they share, which need not be c.

Here the ancestors are visited from the root down and each writes itself over all its pairs of descendants: what
stands at the end is the lowest. Rows are worked off in blocks, so memory is what comes back plus a few MB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlzsl.graph.taxonomy import Taxonomy

PAIRS_AT_ONCE = 2**21  # pairs of a block of rows, 2 bytes each: small enough for a CPU's cache


def wup_similarity(taxonomy: Taxonomy, a: Sequence[str], b: Sequence[str] | None = None) -> NDArray[np.float64]:
    """Return the Wu-Palmer similarity of every a with every b, float64 [len(a), len(b)].

    Args:
        taxonomy: where the synsets stand.
        a: synset names or wnids; row i holds nltk's `a[i].wup_similarity(b[j])`.
        b: the same for the columns; `a` when left out.

    Raises:
        UnknownSynsetError: a name that the taxonomy does not have.
    """
    rows, columns = _places(taxonomy, a), _places(taxonomy, a if b is None else b)
    similarities = np.empty((len(rows), len(columns)))
    values = _value_of_codes(taxonomy)
    for start, codes in _code_blocks(taxonomy, rows, columns):
        values.take(codes, out=similarities[start : start + len(codes)], mode="clip")
    return similarities


def wup_adjacency(taxonomy: Taxonomy, synsets: Sequence[str], threshold: float) -> NDArray[np.bool_]:
    """Return which pairs of synsets are more similar than the threshold, bool [N, N].

    Never holds more than the result and one block of rows, so 22,000 synsets need 0.5 GB, not 4.

    Raises:
        UnknownSynsetError: a name that the taxonomy does not have.
    """
    indices = _places(taxonomy, synsets)
    adjacency = np.empty((len(indices), len(indices)), np.bool_)
    above = _value_of_codes(taxonomy) > threshold
    for start, codes in _code_blocks(taxonomy, indices, indices):
        above.take(codes, out=adjacency[start : start + len(codes)], mode="clip")
    return adjacency


@dataclass(frozen=True)
class _Members:
    """Which nodes stand below an ancestor, and how far: both [n]."""

    nodes: NDArray[np.intp]
    steps: NDArray[np.uint16]


def _places(taxonomy: Taxonomy, synsets: Sequence[str]) -> list[int]:
    return [taxonomy.index(synset) for synset in synsets]


def _code_blocks(taxonomy: Taxonomy, rows: list[int], columns: list[int]) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield (first row, codes [rows of the block, columns]), a code standing for (depth of c, len(a) + len(b))."""
    steps_up = {index: _steps_up(taxonomy, index) for index in {*rows, *columns}}
    below = _members(columns, steps_up)
    bases = (taxonomy.max_depths + 1) * _code_radix(taxonomy)  # what a code of each lowest common hypernym adds to
    rank = _rank_of_lowness(taxonomy, {ancestor for steps in steps_up.values() for ancestor in steps})
    size = max(1, PAIRS_AT_ONCE // max(1, len(columns)))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        codes = np.zeros((len(block), len(columns)), np.uint16)
        beside = _members(block, steps_up)
        for ancestor in sorted(beside.keys() & below.keys(), key=rank.__getitem__):
            left, right = beside[ancestor], below[ancestor]
            path = (left.steps + np.uint16(bases[ancestor]))[:, None] + right.steps[None, :]
            if len(right.nodes) == len(columns):
                codes[left.nodes] = path
            else:
                codes[np.ix_(left.nodes, right.nodes)] = path
        for row, index in enumerate(block):
            if index in below and _is_among_its_lowest(taxonomy, index, steps_up[index]):
                codes[row, below[index].nodes] = np.uint16(bases[index]) + below[index].steps
        yield start, codes


def _steps_up(taxonomy: Taxonomy, index: int) -> dict[int, int]:
    """Return len(x, c) for every hypernym c of a synset x: the shortest way over any hypernym they share."""
    direct = taxonomy.ancestors(index)
    if len(direct) <= max(direct.values()) + 1:  # a plain chain has no way round
        return direct
    return {c: min(direct[shared] + steps for shared, steps in taxonomy.ancestors(c).items()) for c in direct}


def _members(indices: list[int], steps_up: dict[int, dict[int, int]]) -> dict[int, _Members]:
    """Turn each node's steps up to its ancestors into each ancestor's nodes."""
    nodes: dict[int, list[int]] = {}
    steps: dict[int, list[int]] = {}
    for node, index in enumerate(indices):
        for ancestor, count in steps_up[index].items():
            nodes.setdefault(ancestor, []).append(node)
            steps.setdefault(ancestor, []).append(count)
    return {
        ancestor: _Members(np.array(nodes[ancestor], np.intp), np.array(steps[ancestor], np.uint16))
        for ancestor in nodes
    }


def _rank_of_lowness(taxonomy: Taxonomy, indices: set[int]) -> dict[int, int]:
    """Return a rank for each synset: the greatest of several is nltk's choice of lowest common hypernym."""
    by_name = sorted(indices, key=lambda index: taxonomy.names[index], reverse=True)
    by_depth = sorted(by_name, key=lambda index: int(taxonomy.min_depths[index]))
    return {index: rank for rank, index in enumerate(by_depth)}


def _is_among_its_lowest(taxonomy: Taxonomy, index: int, ancestors: dict[int, int]) -> bool:
    """Whether nltk takes a synset itself as the lowest common hypernym with its own descendants.

    All hypernyms that it shares with a descendant are its own hypernyms, so this is a fact about it alone.
    """
    depths = taxonomy.min_depths
    return bool(depths[index] == max(depths[ancestor] for ancestor in ancestors))


def _code_radix(taxonomy: Taxonomy) -> int:
    """A code is depth * radix + len(a) + len(b), and no way up is longer than the taxonomy is deep."""
    return 2 * int(taxonomy.max_depths.max()) + 1


def _value_of_codes(taxonomy: Taxonomy) -> NDArray[np.float64]:
    """Return wup for every code, in the very operations of nltk's float arithmetic."""
    radix = _code_radix(taxonomy)
    depth, path = np.divmod(np.arange((radix // 2 + 2) * radix), radix)
    values = np.zeros(len(depth))
    values[radix:] = 2.0 * depth[radix:] / (path[radix:] + 2 * depth[radix:])
    return values

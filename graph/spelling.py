"""Words that are spelled like another one, found among 100,000 in a millisecond."""

import difflib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MIN_SHARE = 0.3  # of letter pairs in common, which words that look alike exceed
COMPARED = 24  # words of the largest shares, whose ratio is computed


class WordIndex:
    """Words by the pairs of letters next to each other in them; the start and the end of a word count as a letter."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(words)
        text = np.frombuffer(_encoded("\n" + "\n".join(self._words) + "\n"), np.uint8)
        word_of_letter = np.cumsum(text == ord("\n"), dtype=np.int32)[:-1] - 1
        pairs = _pairs(text)
        order = np.argsort(pairs, kind="stable")
        self._word_of_pair = word_of_letter[order]  # [P], grouped by pair
        self._starts = np.searchsorted(pairs[order], np.arange(2**16 + 1))  # of each pair's group
        self._pairs = np.bincount(word_of_letter, minlength=len(self._words))  # [n], of each word

    def nearest(self, word: str, count: int, cutoff: float = 0.6) -> list[tuple[str, float]]:
        """Up to `count` words with their ratio (difflib's, at least `cutoff`) to `word`, the most similar first."""
        if not word or not self._words:
            return []
        pairs = np.unique(_pairs(np.frombuffer(_encoded(f"\n{word}\n"), np.uint8)))
        groups = [self._word_of_pair[self._starts[pair] : self._starts[pair + 1]] for pair in pairs.tolist()]
        common = np.bincount(np.concatenate(groups), minlength=len(self._words))
        shares = 2 * common / (len(pairs) + self._pairs)  # Dice's coefficient
        compared = np.flatnonzero(shares >= MIN_SHARE)
        compared = compared[np.argsort(-shares[compared], kind="stable")[:COMPARED]]
        matcher = difflib.SequenceMatcher(b=word)
        ratios = []
        for index in compared.tolist():
            matcher.set_seq1(self._words[index])
            ratios.append((self._words[index], matcher.ratio()))
        ratios.sort(key=lambda pair: (-pair[1], pair[0]))
        return [pair for pair in ratios if pair[1] >= cutoff][:count]


def _pairs(text: NDArray[np.uint8]) -> NDArray[np.uint16]:
    letters = text.astype(np.uint16)
    pairs: NDArray[np.uint16] = letters[:-1] * np.uint16(2**8) + letters[1:]
    return pairs


def _encoded(text: str) -> bytes:
    return text.encode("latin-1", "replace")

"""Text files of word vectors, in GloVe's format: a word and its numbers on each line, separated by spaces.

They are read line by line: a file of any size needs memory for the wanted words only.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlzsl.cli.errors import UsageError, reason_of

MAX_LINE = 2**20  # bytes; 300 numbers take 3,000
DIMENSIONS = range(2, 2**16)


@dataclass(frozen=True)
class WordVectors:
    """The wanted words that one reading of a file found."""

    vectors: dict[str, NDArray[np.float32]]  # word in lower case -> [dimension]
    dimension: int
    sha256: str  # of the whole file


def read_vectors(path: str | Path, wanted: Collection[str]) -> WordVectors:
    """Read a file once, keep the vectors of the wanted words (in lower case) and check the format of every line.

    Case does not matter; of several spellings, the one in lower case is used, else the first. A header of two numbers,
    as in word2vec's and fastText's files, is skipped.

    Raises:
        UsageError: the file is missing or empty, or a line is broken: too few or too many numbers, or a wanted word
            with a value that is not a finite number. The sentence names the line.
    """
    keys = {word.encode("utf-8"): word for word in wanted}
    vectors: dict[str, NDArray[np.float32]] = {}
    digest = hashlib.sha256()
    dimension = 0
    for number, line in _lines(Path(path)):
        digest.update(line)
        fields_text = line.strip(b" \r\n\t")
        if number == 1 and _is_header(fields_text):
            continue
        where = f"{path}, line {number}"
        if not dimension:
            dimension = _dimension(fields_text, where)
        word = _word(fields_text, dimension, where)
        key = word.lower()
        if key in keys and (keys[key] not in vectors or word == key):
            vectors[keys[key]] = _numbers(fields_text, dimension, where)
    if not dimension:
        raise UsageError(f"{path}: has no word vectors; expected a word and its numbers on each line.")
    return WordVectors(vectors, dimension, digest.hexdigest())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                if len(line) == MAX_LINE:
                    raise UsageError(
                        f"{path}, line {number}: is over {MAX_LINE:,} bytes long; this is not a text file of vectors."
                    )
                yield number, line
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({reason_of(error)}); name a text file of word vectors, or `taxonomy`."
        ) from error


def _is_header(line: bytes) -> bool:
    fields = line.split()
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _dimension(line: bytes, where: str) -> int:
    dimension = len(line.split(b" ")) - 1
    if dimension not in DIMENSIONS or not all(_is_number(field) for field in line.split(b" ")[1:]):
        raise UsageError(f"{where}: {_shown(line)} is not a word and its numbers, separated by single spaces.")
    return dimension


def _word(line: bytes, dimension: int, where: str) -> bytes:
    """The word of a line; GloVe's largest file has a few words with spaces in them, such as `. . .`."""
    spaces = line.count(b" ")
    if spaces == dimension:
        return line[: line.index(b" ")]
    word, *extra = line.rsplit(b" ", dimension)[0].split(b" ")
    if spaces > dimension and not any(_is_number(field) for field in extra):
        return b" ".join((word, *extra))
    raise UsageError(
        f"{where}: {_shown(line)} has {spaces} numbers where the first line has {dimension}; "
        "the file is damaged: download it again."
    )


def _numbers(line: bytes, dimension: int, where: str) -> NDArray[np.float32]:
    try:
        vector = np.array([float(field) for field in line.rsplit(b" ", dimension)[1:]], np.float32)
    except ValueError:
        vector = np.full(dimension, np.nan, np.float32)
    if not np.isfinite(vector).all():
        raise UsageError(f"{where}: {_shown(line)} has a value that is not a finite number; download the file again.")
    return vector


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _shown(line: bytes) -> str:
    """The beginning of a line, for a sentence."""
    return repr(line[:24].decode("utf-8", "replace"))

"""Text files: labels, word vectors, lists of photos."""

import contextlib
import functools
import gzip
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.harness import FaultError, Parser, check_sentence, expect
from fuzz.mutations import mutate_bytes, mutate_lines, mutate_safetensors
from safetensors.numpy import save as save_safetensors

from mlzsl.cli.text import label_key
from mlzsl.graph.embeddings.arrays import read_array
from mlzsl.graph.embeddings.text import WordVectors, read_vectors
from mlzsl.graph.labels.sets import LabelFile, link_label_file, read_label_file
from mlzsl.graph.taxonomy import NoSynsetError
from mlzsl.imaging.finding import read_list

WANTED = frozenset(
    {"dog", "cat", "traffic", "light", "jack-o'-lantern", "hot_dog", "café", "st.", "3", "/c/en/dog", "."}
)


# ---- labels ----------------------------------------------------------------------------------------------------------


def label_files() -> list[bytes]:
    return [
        b"dog\ncat\ntraffic light\nzebra\nhot dog\n",
        "\ufeffdog\tdog.n.01\r\ncat\tn02121620\r\nzebra\r\n".encode(),
        b"Dog\nhot_dog\ncrane\tcrane.n.04\npotted plant\nperson\n",
    ]


def mutate_labels(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return mutate_lines(random, content, b"\t") if random.random() < 0.8 else mutate_bytes(random, content, others)


def parse_labels(path: Path) -> tuple[LabelFile, list[str]]:
    file = read_label_file(path)
    links = link_label_file(file)
    expect(len(links), len(file.lines), "links of labels")
    unlinked = [str(link) for link in links if isinstance(link, NoSynsetError)]
    return file, [sentence for _, sentence in file.problems] + unlinked


def check_labels(content: bytes, result: Any) -> None:
    """Each line is a label or has a problem; no two labels are the same name."""
    file, problems = result
    rows = content.decode("utf-8-sig").splitlines()
    for problem in problems:
        check_sentence(problem)
    expect(len(file.lines) + len(file.problems), len(rows), "labels and problems")
    keys = {(label_key(line.label), line.label.count("-")) for line in file.lines}
    expect(len(keys), len(file.lines), "different labels")
    for line in file.lines:
        expect(line.label, " ".join(rows[line.line - 1].partition("\t")[0].split()), f"line {line.line}")


LABELS = Parser(
    "labels",
    ".txt",
    "it is text with a line that is not blank",
    label_files,
    mutate_labels,
    parse_labels,
    lambda content, result, error: error is None,
    check_labels,
)


# ---- word vectors ----------------------------------------------------------------------------------------------------


def vector_files() -> list[bytes]:
    words = ["dog", "Dog", "cat", "traffic", "light", "hot_dog", "café", "st.", "3", "zebra"]
    lines = [f"{word} {' '.join(f'{np.cos(7 * i + j):.4f}' for j in range(5))}\n" for i, word in enumerate(words)]
    text = "".join(lines)
    prefixed = "".join(f"/c/en/{line}" for line in lines)
    return [text.encode(), f"{len(words)} 5\n{text}".encode(), prefixed.encode(), text.replace(" ", "\t").encode()]


def mutate_vectors(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    return mutate_lines(random, content, b" ") if random.random() < 0.7 else mutate_bytes(random, content, others)


def parse_vectors(path: Path) -> WordVectors:
    return read_vectors(path, WANTED)


def vectors_past_header(content: bytes, result: Any, error: Exception | None) -> bool:
    """The first line is not what was refused."""
    return error is None or not re.search(r"(, line 1: )|has no word vectors|cannot be read", str(error))


def check_vectors(content: bytes, found: WordVectors) -> None:
    """A wanted word is found if a line starts with it, and has the numbers of such a line."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbers: dict[str, list[np.ndarray]] = {}
    for number, line in enumerate(lines):
        fields = re.split(rb"[ \t]", line.rstrip(b" \t\r"))
        if len(fields) == found.dimension + 1 and not (number == 0 and all(map(bytes.isdigit, fields))):
            word = fields[0].decode("utf-8", "replace").lower().strip().removeprefix("/c/en/")
            if word in WANTED:
                with contextlib.suppress(ValueError):  # another spelling of a word that has its vector already
                    numbers.setdefault(word, []).append(np.array([float(field) for field in fields[1:]], np.float32))
    for word, rows in numbers.items():
        if word not in found.vectors or not any(np.array_equal(found.vectors[word], row) for row in rows):
            raise FaultError(f"the vector of {word!r} is {found.vectors.get(word)}, expected one of {rows}")
    for word, vector in found.vectors.items():
        expect((word in WANTED, vector.shape, bool(np.isfinite(vector).all())), (True, (found.dimension,), True), word)


VECTORS = Parser(
    "vectors",
    ".txt",
    "its first line is a word and numbers, or a header",
    vector_files,
    mutate_vectors,
    parse_vectors,
    vectors_past_header,
    check_vectors,
)


def compressed_vector_files() -> list[bytes]:
    return [gzip.compress(text, mtime=0) for text in vector_files()]


def mutate_compressed(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Damage the compressed bytes, or compress a damaged text, now and then in several members."""
    if random.random() < 0.4:
        return mutate_bytes(random, content, others, start=random.choice((0, 10)))
    text = mutate_vectors(random, gzip.decompress(content), others)
    middle = random.choice((0, random.randint(0, len(text))))
    return b"".join(gzip.compress(part, mtime=0) for part in (text[:middle], text[middle:]))


def check_compressed(content: bytes, found: WordVectors) -> None:
    check_vectors(gzip.decompress(content), found)


VECTORS_GZ = Parser(
    "vectors-gz",
    ".gz",
    VECTORS.header,
    compressed_vector_files,
    mutate_compressed,
    parse_vectors,
    vectors_past_header,
    check_compressed,
)


# ---- arrays of vectors -----------------------------------------------------------------------------------------------

NAMES = ("dog", "Cat", "traffic light", "hot_dog", "café")


def array_files(suffix: str) -> list[bytes]:
    """Float vectors of several widths; the names of `.npy` files are beside them, those of `.safetensors` within."""
    made = []
    for dtype in ("<f4", "<f8", "<f2"):
        array = np.arange(3 * len(NAMES), dtype=dtype).reshape(len(NAMES), 3) / 7
        stream = io.BytesIO()
        np.save(stream, array)
        tensors = save_safetensors({"vectors": array}, metadata={"names": json.dumps(NAMES)})
        made.append(stream.getvalue() if suffix == ".npy" else tensors)
    return made


def mutate_npy(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change the fields of the header, which is a Python dictionary, or bytes after it."""
    start = 10 + int.from_bytes(content[8:10], "little")
    if random.random() < 0.5:
        return mutate_bytes(random, content, others, start=random.choice((0, start, start)))
    dtypes = ("'<f4'", "'<f4'", "'<f8'", "'>f2'", "'O'", "'<i8'", "'<U9'", "[('a', '<f4')]", "'<c8'", "1")
    shapes = ("(5, 3)", "(5, 3)", "(3, 5)", "(15,)", "(5, 3, 1)", "(0, 3)", "(5, -3)", f"({2**62}, 4)", "()")
    fields = {
        "descr": random.choice(dtypes),
        "fortran_order": random.choice(("False", "False", "True", "None")),
        "shape": random.choice(shapes),
    }
    text = ("{" + ", ".join(f"'{name}': {value}" for name, value in fields.items()) + "}").encode()
    text = mutate_bytes(random, text) if random.random() < 0.2 else text
    return content[:8] + len(text).to_bytes(2, "little") + text + content[start:]


def parse_array(path: Path) -> WordVectors:
    path.with_suffix(".txt").write_text("\n".join(NAMES))
    return read_array(path, WANTED)


def check_array(content: bytes, found: WordVectors) -> None:
    expect(len(found.vectors), len(found.names), "vectors")
    for word, vector in found.vectors.items():
        expect((vector.shape, bool(np.isfinite(vector).all())), ((found.dimension,), True), word)


ARRAYS = [
    Parser(
        f"vectors{suffix.replace('.', '-')}",
        suffix,
        "NumPy or safetensors opens it",
        functools.partial(array_files, suffix),
        mutate,
        parse_array,
        lambda content, result, error: not (error and "is not a readable" in str(error)),
        check_array,
    )
    for suffix, mutate in (
        (".npy", mutate_npy),
        (".safetensors", lambda random, content, others: mutate_safetensors(random, content, "names")),
    )
]


# ---- lists of photos -------------------------------------------------------------------------------------------------


def photo_lists() -> list[bytes]:
    names = ["a.jpg", "photos/b.png", "c d.jpg", "café.webp", "é/\udcff.jpg"]
    return [separator.join(names).encode("utf-8", "surrogateescape") for separator in ("\n", "\0", "\r\n")]


def parse_list(path: Path) -> list[str]:
    with path.open("rb") as file:
        return list(read_list(file))


def check_list(content: bytes, found: list[str]) -> None:
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        rows = [row for row in content.split(b"\0") if row]
    else:
        rows = [row for row in (row.removesuffix(b"\r") for row in content.split(b"\n")) if row]
    expect(len(found), len(rows), "listed photos")


PHOTO_LISTS = Parser(
    "photo-lists",
    ".lst",
    "it is not in UTF-16",
    photo_lists,
    lambda random, content, others: mutate_bytes(random, mutate_lines(random, content, b"/"), others),
    parse_list,
    lambda content, result, error: error is None,
    check_list,
)

"""Mutations of valid files: of their bytes, of the lines of a text, and of the values of a JSON document."""

import copy
import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

SIZES = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
TEXTS = (
    *("", " ", "a", "\0", "\t", "\n", "a\r\nb", "\x1b[2J", "\x85", "\ud800", "\udcff", "\u202e", "\u2028", "\ufeff"),
    *(
        "é",
        "e\u0301",
        "猫",
        "🐈",
        "1",
        "1.0",
        "-1",
        "nan",
        "null",
        "..",
        "../a",
        "/etc/passwd",
        "a/../../b",
        "a\\b",
        "{}",
    ),
    *("dog", "dog.n.01", "n02084071", "x" * 300, "x" * 5000, "\u0301" * 400, "\n" * 700, "dog " * 400),
)
WORDS = (
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    *(b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", bytes(40), b"1e999", b"-inf", b"NaN", b"0x10", b"1_000", b"1,5"),
    *(b'"', b"'", b",", b";", b"\t", b"\r", b"\r\n", b"/c/en/dog", b"9" * 5000, b" " * 300),
)
NUMBERS = (0, -1, 1, 2, 0.5, -0.0, 1.0, 1.5, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, 5e-324)
RAW = (
    *("[" * depth + "]" * depth for depth in (300, *range(880, 1000, 5))),
    *(
        "NaN",
        "-Infinity",
        "Infinity",
        "1e999",
        "9" * 5000,
        "1" + "0" * 400,
        "01",
        "[" * 100_000,
        '{"a":' * 2000,
        "",
        ",",
    ),
)
SAME_WIDTH = {"F16": ("F16", "BF16", "I16"), "F32": ("F32", "I32", "U32"), "F64": ("F64", "I64"), "U8": ("U8", "BOOL")}
RAW_MARK, REPEATED = "\x02raw ", "\x01"  # marks of texts and keys that `serialized` replaces


def mutate_bytes(random: Random, content: bytes, others: Sequence[bytes] = (), start: int = 0) -> bytes:
    """Change one to four places at or after byte `start`; `others` are files that a part may be taken from."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(BYTE_MUTATIONS)(random, changed, others, min(start, len(changed)))
    return bytes(changed)


def _flip_bit(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    if start < len(content):
        content[random.randrange(start, len(content))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    if start < len(content):
        content[random.randrange(start, len(content))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _set_number(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    """Overwrite 1 to 8 bytes by a size, as fields of lengths and offsets hold them."""
    at, width = random.randint(start, len(content)), random.choice((1, 2, 4, 8))
    number = random.choice(SIZES) + random.choice((-1, 0, 0, 1))
    content[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))


def _cut(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    del content[random.randint(start, len(content)) :]


def _delete(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    at = random.randint(start, len(content))
    del content[at : at + random.choice((1, 2, 4, 16, 64, 512))]


def _insert(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    at = random.randint(start, len(content))
    content[at:at] = random.choice((random.choice(WORDS), random.randbytes(random.choice((1, 4, 16, 100)))))


def _repeat(random: Random, content: bytearray, _: Sequence[bytes], start: int) -> None:
    at, length = random.randint(start, len(content)), random.choice((1, 4, 16, 64, 512))
    content[at:at] = content[at : at + length] * random.choice((1, 1, 2, 20))


def _splice(random: Random, content: bytearray, others: Sequence[bytes], start: int) -> None:
    """Go on with the rest, or a part, of another file."""
    other = random.choice(others) if others else bytes(content)
    at, begin = random.randint(start, len(content)), random.randint(0, len(other))
    if random.random() < 0.5:
        content[at:] = other[begin:]
    else:
        part = other[begin : begin + random.choice((8, 64, 512))]
        content[at : at + len(part)] = part


BYTE_MUTATIONS: Sequence[Callable[[Random, bytearray, Sequence[bytes], int], None]] = (
    *(_flip_bit, _flip_bit, _set_byte, _set_byte, _set_number, _set_number),
    *(_cut, _delete, _insert, _repeat, _splice),
)


def mutate_lines(random: Random, content: bytes, separator: bytes) -> bytes:
    """Change lines of a text, or the fields that `separator` separates in a line."""
    lines = content.splitlines(keepends=True)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(lines)) if lines else 0
        kind = random.randrange(7)
        if kind == 0 or not lines:
            lines.insert(at, random.choice(WORDS) + b"\n")
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(random.randint(0, len(lines)), lines[at])
        elif kind == 3:
            lines[at] = mutate_bytes(random, lines[at])
        elif kind == 4:
            lines[at] = lines[at].rstrip(b"\n") + random.choice((b"", b"\r\n", b"\r", b"\n\n", b" \n"))
        else:
            fields = lines[at].rstrip(b"\n").split(separator)
            field = random.randrange(len(fields))
            fields[field : field + random.choice((0, 1, 1, 1))] = [random.choice(WORDS)] * random.choice((1, 1, 2))
            lines[at] = separator.join(fields) + b"\n"
    return b"".join(lines)


def mutate_json(random: Random, document: Any, changes: int | None = None) -> str:
    """Change one to three values or keys anywhere in a JSON document; the text that results need not be JSON."""
    root = [copy.deepcopy(document)]
    for _ in range(changes or random.choice((1, 1, 2, 3))):
        holder, key = random.choice(_positions(root, []))
        kind = random.randrange(6)
        if kind == 0 and isinstance(holder, dict):
            holder[random.choice((*TEXTS, f"{key}{REPEATED}{random.randrange(9)}"))] = holder[key]
        elif kind == 1 and isinstance(holder, dict):
            del holder[key]
        elif kind == 2 and isinstance(holder[key], list) and holder[key]:
            holder[key] *= random.choice((0, 2, 2, 50))
        elif kind == 3 and isinstance(holder[key], dict | list):
            entries = holder[key].values() if isinstance(holder[key], dict) else holder[key]
            holder[key] = random.choice([*entries, None])
        else:
            holder[key] = random_value(random, holder[key])
    return serialized(root[0], escaped=random.random() < 0.5)


def random_value(random: Random, value: Any) -> Any:
    """A value in place of another: of another type, out of its range, odd, nested, or not JSON."""
    if isinstance(value, str) and value and random.random() < 0.3:
        at = random.randrange(len(value))
        return value[:at] + random.choice((*TEXTS, value)) + value[at + random.randrange(2) :]
    if isinstance(value, int | float) and not isinstance(value, bool) and random.random() < 0.3:
        return random.choice((str(value), float(value), value + 1, -value, f"{value}.0", [value]))
    kinds: list[Any] = [None, True, False, [], {}, [value], {"a": value}, [[[[[[]]]]]], RAW_MARK + random.choice(RAW)]
    return random.choice(
        (*kinds, random.choice(NUMBERS), random.choice(NUMBERS), random.choice(TEXTS), random.choice(TEXTS))
    )


def _positions(holder: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (list, index) and (object, key) of a document; the document itself is entry 0 of `holder`."""
    for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
        found.append((holder, key))
        if isinstance(value, dict | list):
            _positions(value, found)
    return found


def serialized(document: Any, escaped: bool = False) -> str:
    """JSON text; repeated keys and raw text are put in their places."""
    text = json.dumps(document, ensure_ascii=escaped)
    for number in range(10):
        text = text.replace(f'\\u0001{number}":', '":')
    for raw in RAW:
        text = text.replace(json.dumps(RAW_MARK + raw), raw)
    return text


def encoded_json(random: Random, text: str) -> bytes:
    """JSON text as bytes, now and then with a byte-order mark, in UTF-16, or with damage."""
    content = text.encode("utf-8", "surrogatepass")
    chance = random.random()
    if chance < 0.03:
        return b"\xef\xbb\xbf" + content
    if chance < 0.05:
        return text.encode(random.choice(("utf-16", "utf-32", "utf-16-be")), "surrogatepass")
    return mutate_bytes(random, content) if chance < 0.2 else content


def mutate_safetensors(random: Random, content: bytes, entry: str | None = None) -> bytes:
    """Change the header's length, its JSON, the JSON in an entry of its metadata, or the tensors' bytes."""
    (length,) = struct.unpack_from("<Q", content)
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    chance = random.random()
    if chance < 0.1:
        return struct.pack("<Q", random.choice((*SIZES, length - 1, length + 1, 2**63, 2**64 - 1))) + content[8:]
    if chance < 0.15:
        return mutate_bytes(random, content, start=random.choice((0, 8)))
    if chance < 0.25:
        tensors = mutate_bytes(random, tensors)[: len(tensors)].ljust(len(tensors), b"\0")
    elif not entry and chance < 0.6:
        name = random.choice([name for name in header if name != "__metadata__"])
        tensor = header.pop(name)
        tensor["shape"] = random.choice((tensor["shape"][::-1], [1, *tensor["shape"]], [*tensor["shape"], 1]))
        tensor["dtype"] = random.choice(SAME_WIDTH.get(tensor["dtype"], (tensor["dtype"],)))
        header[random.choice((name, *TEXTS))] = tensor
    elif entry and chance < 0.85:
        text = mutate_json(random, json.loads(header["__metadata__"][entry]))
        header["__metadata__"][entry] = text if random.random() < 0.9 else text[: random.randint(0, len(text))]
    else:
        text = encoded_json(random, mutate_json(random, header))
        return struct.pack("<Q", len(text)) + text + tensors
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors

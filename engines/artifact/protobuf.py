"""Protobuf's wire format: finds the fields of a message without reading out of bounds.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, BYTES = 0, 2  # wire types; 3 and 4, groups, are deprecated
FIXED_BYTES = {1: 8, 5: 4}  # sizes of the other wire types
LONGEST_VARINT = 10


class MalformedError(Exception):
    """Bytes that are not a message; the text continues a sentence ("it ends within …")."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: bytes [start, end), with the payload in [body, end)."""

    number: int
    wire_type: int
    start: int
    body: int
    end: int


def fields_of(view: memoryview, start: int, end: int, most: int) -> Iterator[Field]:
    """The top-level fields of the message in `view[start:end]`, in order.

    Raises:
        MalformedError: a tag or a length is not valid, a field exceeds `end`, or there are more than `most` fields,
            which bounds the time that a malicious file takes.
    """
    position = start
    for _ in range(most + 1):
        if position == end:
            return
        tag, body = _varint(view, position, end)
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number < 2**29:
            raise MalformedError(f"byte {position} starts no field")
        if wire_type == VARINT:
            _, after = _varint(view, body, end)
        elif wire_type in FIXED_BYTES:
            after = body + FIXED_BYTES[wire_type]
        elif wire_type == BYTES:
            length, body = _varint(view, body, end)
            after = body + length
        else:
            raise MalformedError(f"byte {position} starts a field of an unknown type")
        if after > end:
            raise MalformedError(f"the field at byte {position} claims {after - body} bytes of {end - body}")
        yield Field(number, wire_type, position, body, after)
        position = after
    raise MalformedError(f"it has more than {most:,} fields")


def encode_field(number: int, payload: bytes) -> bytes:
    """Encode a field of bytes, text or a nested message."""
    return _encode_varint(number << 3 | BYTES) + _encode_varint(len(payload)) + payload


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """The number that starts at `position`, and its end."""
    value = 0
    for count in range(LONGEST_VARINT):
        if position + count >= end:
            raise MalformedError(f"it ends within the number at byte {position}")
        byte = view[position + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise MalformedError(f"the number at byte {position} does not end")


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

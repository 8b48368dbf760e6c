"""Reading JSON that anybody may have written, field by field: a value is what it should be, or a sentence says not."""

import dataclasses
import json
import math
import re
import unicodedata
from typing import Any

LONGEST_TEXT = 4096  # characters of one value


class UnfitError(Exception):
    """What is wrong with a record, as the middle of a sentence; `remedy` is what to do, None for the record's usual."""

    def __init__(self, what: str, remedy: str | None = None) -> None:
        super().__init__(what)
        self.remedy = remedy


def loads(text: str | bytes) -> object:
    """Parse JSON; `NaN` and `Infinity` are no numbers in it.

    Raises:
        UnfitError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_such_number)
    except ValueError as error:
        raise UnfitError(str(error)) from error
    except RecursionError as error:
        raise UnfitError("it is nested too deeply") from error


def exactly(where: str, fields: dict[str, Any], kind: type[Any], optional: tuple[str, ...] = ()) -> None:
    """Check that an object has the fields of a dataclass, all of them but the optional ones, and no others."""
    expected = {field.name for field in dataclasses.fields(kind)}
    missing = sorted(expected - fields.keys() - set(optional))
    unknown = sorted(fields.keys() - expected)
    if missing:
        raise UnfitError(f"{where} lacks {', '.join(missing)}")
    if unknown:
        raise UnfitError(f"{where} has the unknown field {shown(unknown[0])}")


def object_of(where: str, value: object) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise UnfitError(f"{where} is {shown(value)}, not an object")
    return value


def list_of(where: str, value: object, most: int | None = None) -> list[Any]:
    """A JSON list of at most `most` entries."""
    if not isinstance(value, list):
        raise UnfitError(f"{where} is {shown(value)}, not a list")
    if most is not None and len(value) > most:
        raise UnfitError(f"{where} has {len(value)} entries, more than {most}")
    return value


def text_of(where: str, value: object) -> str:
    """One line of text that is not blank."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_TEXT or any(map(_is_control, value)):
        raise UnfitError(f"{where} is {shown(value)}, not a line of text")
    return value


def number_of(where: str, value: object) -> float:
    """A finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # JSON's whole numbers have no largest
            number = math.inf
        if math.isfinite(number):
            return number
    raise UnfitError(f"{where} is {shown(value)}, not a number")


def count_of(where: str, value: object) -> int:
    """A whole number from 0 up."""
    if type(value) is not int or value < 0:
        raise UnfitError(f"{where} is {shown(value)}, not a whole number from 0 up")
    return value


def sha256_of(where: str, value: object) -> str:
    """A SHA-256 in 64 hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise UnfitError(f"{where} is {shown(value)}, not a SHA-256 in 64 hexadecimal digits")
    return value


def shown(value: object) -> str:
    """A value as JSON, short enough for a sentence."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")  # control characters, halves of surrogate pairs


def _no_such_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")

"""Decoding JSON that anybody may have written into a declared type, a `msgspec.Struct` or a dataclass.

A field is declared with the types below, such as `labels: tuple[Line, ...]`; a value that does not fit is a
`UsageError` that names the field, what was found and what was expected. Fields that the type does not have are ignored;
a Struct refuses them with `forbid_unknown_fields=True`. A check across fields is a `ValueError` in `__post_init__`.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import msgspec.inspect
from msgspec import Meta

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.text import escape_control_chars

Line = Annotated[
    str,
    Meta(
        pattern=r"^(?=.*\S)[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,4096}\Z",
        description="a line of text of at most 4096 characters",
    ),
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="a SHA-256 in 64 hexadecimal digits")]
Count = Annotated[int, Meta(ge=0, description="a whole number from 0 up")]
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max, description="a finite number")]
Fraction = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]

_T = TypeVar("_T")
_Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
_WORDS = {
    "array": "a list",
    "object": "an object",
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "|": "or",
}


def read_json(path: Path, kind: type[_T], remedy: str, max_bytes: int, upgrade: _Upgrade | None = None) -> _T:
    """Read a JSON file of at most `max_bytes` bytes; see `decode_json`.

    Raises:
        UsageError: the file cannot be read, is larger, or does not fit.
    """
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}); {remedy}.") from error
    if len(text) > max_bytes:
        raise UsageError(f"{path}: is larger than {max_bytes / 2**20:g} MiB; {remedy}.")
    return decode_json(text, kind, str(path), remedy, upgrade)


def decode_json(text: str | bytes, kind: type[_T], where: str, remedy: str, upgrade: _Upgrade | None = None) -> _T:
    """Decode JSON into a declared type.

    Args:
        text: JSON; NaN and Infinity, which Python writes, are not numbers in it.
        kind: the type, such as a Struct or `dict[str, Count]`.
        where: the file or flag; the sentence of an error starts with it.
        remedy: what to do about an error; the sentence ends with it.
        upgrade: turns an object of an earlier version into one of the present version.

    Raises:
        UsageError: the text is not JSON, or a value does not fit the type.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not JSON ({reason_of(error)}); {remedy}.") from error
    return convert_json(upgrade(value) if upgrade and isinstance(value, dict) else value, kind, where, remedy)


def convert_json(value: object, kind: type[_T], where: str, remedy: str) -> _T:
    """Convert decoded JSON to a declared type; raises as `decode_json`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(escape_control_chars(f"{where}: {_problem(str(error), value, kind)}; {remedy}.")) from error


def shorten_json(value: object) -> str:
    """A value as JSON, short enough for a sentence."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _problem(message: str, value: object, kind: Any) -> str:
    """msgspec's message, such as "Expected `str`, got `int` - at `$.labels[0]`", with what was found."""
    what, _, path = message.partition(" - at `")
    path = path.removeprefix("key` in `").removeprefix("$").removeprefix(".").rstrip("`")
    name = path or "it"
    if what.startswith("Object "):
        return f"{name} {'lacks' if 'missing' in what else 'has the unknown field'} {what.split('`', 1)[1].rstrip('`')}"
    if not what.startswith(("Expected ", "Invalid enum value ", "Number out of range")):
        return f"{path}: {what}" if path else what
    info: Any = msgspec.inspect.type_info(kind)
    found: Any = value
    for step in re.findall(r"\w+|\.\.\.", path):
        info, found = _child(info, step), _item(found, step)
    words = re.sub(r"\w+|\|", lambda word: _WORDS.get(word[0], word[0]), what.partition(", got")[0]).replace("`", "")
    expected = _described(info) or words.removeprefix("Expected ")
    return f"{name} is {'' if found is msgspec.UNSET else shorten_json(found) + ', '}not {expected}"


def _child(info: Any, step: str) -> Any:
    """The type of a field, an item or a value within a type."""
    match info:
        case msgspec.inspect.Metadata():
            return _child(info.type, step)
        case msgspec.inspect.UnionType():
            return next((child for each in info.types if (child := _child(each, step))), None)
        case msgspec.inspect.StructType() | msgspec.inspect.DataclassType():
            return next((field.type for field in info.fields if field.encode_name == step), None)
        case msgspec.inspect.TupleType():
            return info.item_types[int(step)]
    return getattr(info, "item_type", None) or getattr(info, "value_type", None)


def _item(value: Any, step: str) -> Any:
    """What lies at a step of a path; UNSET where the path does not tell, as for the values of a `dict`."""
    if isinstance(value, dict):
        return value.get(step, msgspec.UNSET)
    return value[int(step)] if isinstance(value, list) else msgspec.UNSET


def _described(info: Any) -> str | None:
    match info:
        case msgspec.inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case msgspec.inspect.LiteralType():
            return f"one of {', '.join(map(str, info.values))}"
        case msgspec.inspect.NoneType():
            return "null"
        case msgspec.inspect.UnionType():
            parts = [_described(each) for each in info.types]
            return " or ".join(part for part in parts if part) if all(parts) else None
    return None

"""Decoding JSON that anybody may have written into a declared type, a `msgspec.Struct` or a dataclass.

A field is declared with the types below, such as `labels: tuple[Line, ...]`; a value that does not fit is a
`UsageError` that names the field, what was found and what was expected. Fields that the type does not have are ignored;
a Struct refuses them with `forbid_unknown_fields=True`. A check across fields is a `ValueError` in `__post_init__`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.cli.inputs import read_bytes

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


def read_json(
    path: Path, kind: type[_T], remedy: str, max_bytes: int, upgrade: _Upgrade | None = None, unique_keys: bool = False
) -> _T:
    """Read a JSON file of at most `max_bytes` bytes; see `decode_json`.

    Raises:
        UsageError: the file cannot be read, is larger, or does not fit.
    """
    text = read_bytes(path, max_bytes, remedy)
    return decode_json(text, kind, str(path), remedy, upgrade, unique_keys)


def decode_json(
    text: str | bytes,
    kind: type[_T],
    where: str,
    remedy: str,
    upgrade: _Upgrade | None = None,
    unique_keys: bool = False,
) -> _T:
    """Decode JSON into a declared type.

    Args:
        text: JSON; NaN and Infinity, which Python writes, are not numbers in it.
        kind: the type, such as a Struct or `dict[str, Count]`.
        where: the file or flag; the sentence of an error starts with it.
        remedy: what to do about an error; the sentence ends with it.
        upgrade: turns an object of an earlier version into one of the present version.
        unique_keys: whether a repeated key is an error; otherwise its last value counts.

    Raises:
        UsageError: the text is not JSON, or a value does not fit the type.
    """
    try:
        pairs_hook = _unique_keys if unique_keys else None
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=pairs_hook)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: is not JSON ({reason_of(error)}); {remedy}.") from error
    return convert_json(upgrade(value) if upgrade and isinstance(value, dict) else value, kind, where, remedy)


def convert_json(value: object, kind: type[_T], where: str, remedy: str) -> _T:
    """Convert decoded JSON to a declared type; raises as `decode_json`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {_problem(str(error), value, kind)}; {remedy}.") from error
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: the text {shorten_json(error.object)} is not Unicode; {remedy}.") from error


def shorten_json(value: object) -> str:
    """A value as JSON, short enough for a sentence."""
    try:
        text = json.dumps(value, default=repr)  # Parquet has values of other types
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 40 else text[:39] + "…"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shorten_json(repeated)} is repeated")
    return content


def _problem(message: str, value: object, kind: Any) -> str:
    """msgspec's message, such as "Expected `str`, got `int` - at `$.labels[0].name`", with what was found."""
    what, _, path = message.partition(" - at `")
    name, found, is_key = "", value, path.startswith("key` in ")
    for step in re.findall(r"\w+|\.\.\.", path.removeprefix("key` in `")):
        if step == "..." or not isinstance(found, dict):
            found, step = _entry(found, step, _child(kind, step))
            name += f"[{step}]"
        else:
            found, name = found.get(step), f"{name}.{step}"
        kind = _child(kind, step)
    name = name.removeprefix(".") or "it"
    if what.startswith("Object "):
        return f"{name} {'lacks' if 'missing' in what else 'has the unknown field'} {what.split('`', 1)[1].rstrip('`')}"
    if not what.startswith(("Expected ", "Invalid enum value ", "Number out of range")):
        return what if name == "it" else f"{name}: {what}"
    words = re.sub(r"\w+|\|", lambda word: _WORDS.get(word[0], word[0]), what.partition(", got")[0]).replace("`", "")
    expected = _described(kind) or words.removeprefix("Expected ")
    return f"{'a key of ' if is_key else ''}{name} is {shorten_json(found)}, not {expected}"


def _entry(values: Any, step: str, kind: Any) -> tuple[Any, str]:
    """The value at an index of a list, or, as msgspec does not name it, the first value of a dict that does not fit."""
    if step != "...":
        return values[int(step)], step
    for key, value in values.items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return value, shorten_json(key)
    return None, step


def _child(kind: Any, step: str) -> Any:
    """The type of a field, an entry or a value within a type; None if it has none."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _child(arguments[0], step)
    if origin in (Union, UnionType):
        return next((child for each in arguments if (child := _child(each, step))), None)
    if origin is dict:
        return arguments[1]
    if origin is tuple and arguments[1:] != (...,):
        return arguments[int(step)]
    return arguments[0] if arguments else get_type_hints(kind, include_extras=True).get(step)


def _described(kind: Any) -> str | None:
    """What a type accepts, if it is described or a choice of values."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return next((meta.description for meta in arguments[1:] if meta.description), None)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, UnionType):
        parts = [_described(each) for each in arguments]
        return " or ".join(part for part in parts if part) if all(parts) else None
    return "null" if kind is type(None) else None

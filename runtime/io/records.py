"""What became of a photo as one line of JSON, and back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlzsl.runtime.tags import Tag, Tagged


def record_of(photo: Tagged) -> dict[str, Any]:
    """What became of one photo, as a line of JSONL holds it."""
    if photo.error is not None:
        return {"path": photo.path, "error": photo.error}
    return {
        "path": photo.path,
        "tags": [{"label": tag.label, "score": tag.score, "seen": tag.seen} for tag in photo.tags],
    }


def line_of(photo: Tagged) -> bytes:
    """One line of JSONL with its end; names that are not UTF-8 are escaped so that the line itself is."""
    record = record_of(photo)
    try:
        return (json.dumps(record, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(record, ensure_ascii=True) + "\n").encode()


def photo_of(line: bytes) -> Tagged:
    """Read back what `line_of` wrote.

    Raises:
        ValueError: it is no whole line of ours.
    """
    if not line.endswith(b"\n"):
        raise ValueError("a line without its end")
    try:
        record = json.loads(line)
        if "error" in record:
            return Tagged(str(record["path"]), error=str(record["error"]))
        tags = tuple(Tag(str(tag["label"]), float(tag["score"]), bool(tag["seen"])) for tag in record["tags"])
        return Tagged(str(record["path"]), tags)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no record of a photo: {error}") from error


def read_records(path: Path) -> Iterator[Tagged]:
    """The photos of a file of whole lines, one at a time."""
    with path.open("rb") as file:
        yield from map(photo_of, file)

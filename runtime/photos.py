"""A photo to tag."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Photo:
    """A photo to tag.

    Attributes:
        path: recorded with the tags; the file to read if `content` is None.
        content: the file's bytes, for a photo in an archive or in memory.
        problem: why there is nothing to read; such a photo is recorded with this error.
    """

    path: str
    content: bytes | None = None
    problem: str | None = None

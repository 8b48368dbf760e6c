"""A photo on its way to its tags."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Photo:
    """A photo to tag.

    Attributes:
        path: what the tags are recorded under; where `content` is None, the file to read.
        content: the file's bytes, for a photo that lies in an archive.
        problem: why there is nothing to read here; such a photo becomes a record with this reason.
    """

    path: str
    content: bytes | None = None
    problem: str | None = None

"""Preprocessing: how a photo becomes the network's input, defined once for training and every deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mlzsl.cli.errors import UsageError

FIT = "squash"  # the whole image, its sides scaled independently; recorded for readers of other versions
MAX_SIZE = 4096  # px


@dataclass(frozen=True)
class Preprocessing:
    """An upright RGB image squashed to a square, uint8 [S, S, 3]; the network itself normalizes it.

    Attributes:
        size: S, the side of the square in pixels.
    """

    size: int = 224

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"the image size is {self.size!r}; expected a whole number from 1 to {MAX_SIZE}.")

    def to_json(self) -> dict[str, Any]:
        """As written into checkpoints and model files; `from_json` reads it back."""
        return {"size": self.size, "fit": FIT}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            UsageError: a field is missing or unknown, or its value is not supported by this version.
        """
        if not isinstance(fields, Mapping) or set(fields) != {"size", "fit"} or fields["fit"] != FIT:
            raise UsageError(
                f'the preprocessing {fields!r} is not supported; expected {{"size": S, "fit": "{FIT}"}}. '
                "It may be from a newer version of mlzsl."
            )
        return cls(size=fields["size"])

"""How a photo becomes a network's input: the one definition that training and every deployment share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mlzsl.cli.errors import UsageError

FIT = "squash"  # the whole picture in view, its sides scaled apart; written down for readers of other versions
LARGEST_SIZE = 4096  # px


@dataclass(frozen=True)
class Preprocessing:
    """The picture upright, RGB, squashed to a square, uint8 [S, S, 3]; normalization is the network's own.

    Attributes:
        size: S, the side of the square in pixels.
    """

    size: int = 224

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= LARGEST_SIZE:
            raise UsageError(f"an image size of {self.size!r}: expected a whole number from 1 to {LARGEST_SIZE}.")

    def to_json(self) -> dict[str, Any]:
        """What checkpoints and model files carry; `from_json` reads it back."""
        return {"size": self.size, "fit": FIT}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            UsageError: a field is missing, unknown, or asks for what this version cannot do.
        """
        if not isinstance(fields, Mapping) or set(fields) != {"size", "fit"} or fields["fit"] != FIT:
            raise UsageError(
                f'preprocessing {fields!r} is not known here; expected {{"size": S, "fit": "{FIT}"}}. '
                "A newer version of mlzsl may have written it."
            )
        return cls(size=fields["size"])

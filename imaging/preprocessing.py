"""Preprocessing: how a photo becomes the network's input, defined once for training and every deployment."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import convert_json

MAX_SIZE = 4096  # px
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

Fit = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Mean = Annotated[float, Meta(ge=-1, le=2)]
Deviation = Annotated[float, Meta(ge=1e-3, le=10)]


class Preprocessing(Struct, frozen=True, forbid_unknown_fields=True):
    """An upright RGB image resized to a square, uint8 [S, S, 3]; the network itself subtracts mean and divides by std.

    Attributes:
        size: S, the side of the square in pixels.
        fit: squash: the whole photo, its sides scaled independently; crop: the center, after the shorter side is
            scaled to S / `crop`.
        interpolation: the filter of resizing, which is widened where a photo shrinks.
        mean: of RGB in [0, 1], subtracted.
        std: of RGB in [0, 1], the divisor.
        crop: the share of the shorter side that a crop keeps, in (0, 1]; 1 for squash.

    Raises:
        UsageError: a value is out of its range.
    """

    size: int = 224
    fit: Fit = "squash"
    interpolation: Interpolation = "bilinear"
    mean: tuple[Mean, Mean, Mean] = IMAGENET_MEAN
    std: tuple[Deviation, Deviation, Deviation] = IMAGENET_STD
    crop: Annotated[float, Meta(ge=0.1, le=1)] = 1.0

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"the image size is {self.size!r}; expected a whole number from 1 to {MAX_SIZE}.")
        if self.fit == "squash" and self.crop != 1:
            raise UsageError(f"the preprocessing squashes the whole photo and crops to {self.crop}; expected one.")

    @property
    def resized_side(self) -> int:
        """The length in pixels that a photo's shorter side is scaled to."""
        return math.floor(self.size / self.crop)

    def source_box(self, width: int, height: int) -> Box:
        """The part of a photo of `width` × `height` pixels that fills the image, in pixels of the photo."""
        if self.fit == "squash":
            return 0, 0, width, height
        side, short = self.resized_side, min(width, height)
        resized_width, resized_height = side * width // short, side * height // short
        left, top = round((resized_width - self.size) / 2), round((resized_height - self.size) / 2)
        across, down = width / resized_width, height / resized_height
        return left * across, top * down, (left + self.size) * across, (top + self.size) * down

    def to_json(self) -> dict[str, Any]:
        """As written into checkpoints and model files; `from_json` reads it back."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote; {"size": S, "fit": "squash"} is that of earlier versions.

        Raises:
            UsageError: a field is missing or unknown, or its value is not supported by this version.
        """
        if not isinstance(fields, Mapping) or not {"size", "fit"} <= fields.keys():
            raise UsageError(f"the preprocessing {fields!r} is not supported; expected at least size and fit.")
        return convert_json(dict(fields), cls, "the preprocessing", "it may be from a newer version of mlzsl")

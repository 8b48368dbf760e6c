"""Backdrops of the scene types: areas, planks or tiles in typical colours."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.train.datasets.synthetic.appearance import Generator, Palette

Pixels = npt.NDArray[np.float64]  # RGB, [size, size, 3], in [0, 255]

SKY = Palette((0.53, 0.62), (0.2, 0.6), (0.7, 1))
ASPHALT = Palette((0.55, 0.7), (0, 0.12), (0.3, 0.55))
GRASS = Palette((0.22, 0.36), (0.4, 0.8), (0.35, 0.7))
SEA = Palette((0.5, 0.62), (0.5, 0.9), (0.35, 0.75))
WOOD = Palette((0.05, 0.1), (0.4, 0.7), (0.45, 0.75))
WALL = Palette((0.08, 0.18), (0.08, 0.35), (0.75, 0.98))
CARPET = Palette((0.9, 1.05), (0.2, 0.6), (0.25, 0.55))
PALE = Palette((0.1, 0.16), (0.15, 0.35), (0.8, 0.98))
TILE = Palette((0.45, 0.55), (0.05, 0.3), (0.75, 0.95))
CONCRETE = Palette((0.7, 0.85), (0.08, 0.3), (0.45, 0.75))


def draw_backdrop(name: str, size: int, generator: Generator) -> Pixels:
    """Draw a random backdrop of a name of BACKDROPS."""
    pattern, *palettes = BACKDROPS[name]
    return pattern(size, generator, *palettes)


def _horizon(size: int, generator: Generator, above: Palette, below: Palette) -> Pixels:
    """Two areas with a slightly tilted border."""
    height = generator.uniform(0.3, 0.7) + generator.normal(0, 0.04) * np.linspace(-1, 1, size)
    is_below = np.linspace(0, 1, size)[:, None] > height[None, :]
    return np.where(is_below[..., None], below.colour(generator), above.colour(generator))


def _planks(size: int, generator: Generator, palette: Palette) -> Pixels:
    """Planks of different shades."""
    count = int(generator.integers(4, 9))
    shades = generator.normal(0, 14, count)[np.arange(size) * count // size]
    return palette.colour(generator) + np.broadcast_to(shades[:, None], (size, size))[..., None]


def _tiles(size: int, generator: Generator, palette: Palette) -> Pixels:
    """Tiles with dark joints."""
    side = size / generator.uniform(4, 7)
    joints = (np.arange(size) + generator.uniform(0, side)) % side < max(1.0, size / 64)
    dark = np.where(joints[:, None] | joints[None, :], -45.0, 0.0)
    return palette.colour(generator) + dark[..., None]


# The pattern of each scene type and its palettes.
BACKDROPS: dict[str, tuple[Any, ...]] = {
    "street": (_horizon, SKY, ASPHALT),
    "meadow": (_horizon, SKY, GRASS),
    "water": (_horizon, SKY, SEA),
    "table": (_planks, WOOD),
    "room": (_horizon, WALL, CARPET),
    "desk": (_planks, PALE),
    "tiles": (_tiles, TILE),
    "hall": (_tiles, CONCRETE),
}
BACKDROP_NAMES = tuple(BACKDROPS)

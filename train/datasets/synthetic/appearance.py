"""The appearance of objects and of the backdrops behind them.

Colours and surface of an object follow from its WordNet hypernyms, as similar classes look similar in photos: an unseen
bicycle is painted metal like other vehicles, a fork is steel like other tools. This lets a classifier trained on some
labels say anything about others.
"""

import colorsys
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlzsl.graph.taxonomy import Taxonomy

Colour = npt.NDArray[np.float64]  # RGB, [3], in [0, 255]
Paint = npt.NDArray[np.float64]  # RGB, [height, width, 3]
Shade = npt.NDArray[np.float64]  # added to every channel, [height, width]
Generator = np.random.Generator

TYPICAL_PROBABILITY = 0.8  # of a colour from the class's palettes instead of any colour
MIN_CONTRAST = 190  # sum over the channels of the difference from the background
COLOUR_CANDIDATES = 8


@dataclass(frozen=True)
class Palette:
    """Ranges of hue (in turns), saturation and value."""

    hue: tuple[float, float] = (0, 1)
    saturation: tuple[float, float] = (0.2, 1)
    value: tuple[float, float] = (0.08, 1)

    def colour(self, generator: Generator) -> Colour:
        """Draw a colour uniformly from the ranges."""
        hue, saturation, value = (generator.uniform(*each) for each in (self.hue, self.saturation, self.value))
        return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


@dataclass(frozen=True)
class Appearance:
    """The palettes that colours are drawn from, and the name of a surface of SURFACES."""

    palettes: tuple[Palette, ...]
    surface: str = "plain"


ANY = Palette()
STEEL = Palette((0.55, 0.65), (0, 0.15), (0.55, 0.95))
WHITE = Palette((0, 1), (0, 0.08), (0.85, 1))
BLACK = Palette((0.6, 0.7), (0, 0.2), (0.05, 0.25))
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

# A class takes the appearance of the first entry that lists one of its hypernyms.
APPEARANCES: tuple[tuple[tuple[str, ...], Appearance], ...] = (
    (
        ("person.n.01",),
        Appearance((Palette((0.55, 0.7), (0.4, 0.9), (0.3, 0.8)), Palette((0.02, 0.08), (0.3, 0.6), (0.6, 0.95)))),
    ),
    (
        ("animal.n.01",),
        Appearance(
            (Palette((0.04, 0.11), (0.25, 0.75), (0.2, 0.8)), Palette((0.06, 0.1), (0, 0.15), (0.5, 0.95))), "mottled"
        ),
    ),
    (("plant.n.02",), Appearance((Palette((0.22, 0.4), (0.4, 0.9), (0.25, 0.75)),), "mottled")),
    (
        ("food.n.01", "food.n.02", "vegetable.n.01", "root.n.01"),
        Appearance(
            (Palette((-0.03, 0.17), (0.6, 1), (0.6, 1)), Palette((0.2, 0.33), (0.5, 0.9), (0.4, 0.8))), "mottled"
        ),
    ),
    (
        ("conveyance.n.03",),
        Appearance(
            (
                Palette((-0.05, 0.05), (0.7, 1), (0.5, 0.95)),
                Palette((0.55, 0.68), (0.6, 1), (0.4, 0.95)),
                Palette((0.12, 0.16), (0.7, 1), (0.8, 1)),
            ),
            "glossy",
        ),
    ),
    (("furniture.n.01",), Appearance((Palette((0.04, 0.1), (0.45, 0.8), (0.25, 0.7)),), "grained")),
    (
        ("bag.n.01", "bag.n.04", "baggage.n.01", "clothing.n.01"),
        Appearance((Palette((0.75, 0.95), (0.4, 0.8), (0.25, 0.7)), Palette((0.03, 0.07), (0.5, 0.8), (0.2, 0.5)))),
    ),
    (
        (
            "game_equipment.n.01",
            "sports_equipment.n.01",
            "plaything.n.01",
            "ball.n.01",
            "sports_implement.n.01",
            "ski.n.01",
        ),
        Appearance((Palette((0.4, 0.52), (0.7, 1), (0.6, 1)), Palette((0.14, 0.2), (0.8, 1), (0.8, 1)))),
    ),
    (
        ("vessel.n.03", "tableware.n.01", "glass.n.02"),
        Appearance((STEEL, Palette((0.48, 0.6), (0.1, 0.4), (0.7, 1))), "glossy"),
    ),
    (("tool.n.01", "kitchen_utensil.n.01", "edge_tool.n.01"), Appearance((STEEL,), "glossy")),
    (
        ("electronic_equipment.n.01", "machine.n.01", "peripheral.n.01", "keyboard.n.01", "telephone.n.01"),
        Appearance((BLACK, Palette((0.6, 0.7), (0, 0.15), (0.25, 0.45)))),
    ),
    (("home_appliance.n.01", "plumbing_fixture.n.01"), Appearance((WHITE, STEEL))),
)


@functools.cache
def appearance_of(synset: str) -> Appearance:
    """The appearance of a class by its synset; any colour if no entry of APPEARANCES lists a hypernym of it."""
    taxonomy = Taxonomy.shipped()
    hypernyms = set(taxonomy.ancestors(taxonomy.index(synset)))
    listed = (each for kinds, each in APPEARANCES if any(taxonomy.index(kind) in hypernyms for kind in kinds))
    return next(listed, Appearance((ANY,)))


def paint(height: int, width: int, appearance: Appearance, background: Colour, generator: Generator) -> Paint:
    """Paint an object's surface, [height, width, 3], in a colour that contrasts with the background's mean colour."""
    palettes = appearance.palettes if generator.random() < TYPICAL_PROBABILITY else (ANY,)
    colours = [palettes[generator.integers(len(palettes))].colour(generator) for _ in range(COLOUR_CANDIDATES)]
    contrasts = [float(np.abs(colour - background).sum()) for colour in colours]
    chosen = next((index for index, each in enumerate(contrasts) if each >= MIN_CONTRAST), int(np.argmax(contrasts)))
    shade = SURFACES[appearance.surface](height, width, generator)[..., None]
    return np.clip(np.broadcast_to(colours[chosen], (height, width, 3)) + shade, 0, 255)


def _plain(height: int, width: int, generator: Generator) -> Shade:
    """A faint vertical gradient."""
    return np.broadcast_to(np.linspace(0, generator.normal(0, 25), height)[:, None], (height, width))


def _glossy(height: int, width: int, generator: Generator) -> Shade:
    """A horizontal highlight."""
    rows = np.linspace(-1, 1, height)[:, None]
    band = np.exp(-(((rows - generator.uniform(-0.5, 0.2)) / 0.22) ** 2))
    return np.broadcast_to(70 * band - 15, (height, width))


def _grained(height: int, width: int, generator: Generator) -> Shade:
    """Vertical streaks, as in wood."""
    streaks = np.repeat(generator.normal(0, 24, (1, width // 3 + 1)), 3, axis=1)[:, :width]
    return np.broadcast_to(streaks, (height, width))


def _mottled(height: int, width: int, generator: Generator) -> Shade:
    """Patches of 4 × 4 pixels, as on fur or bread."""
    patches = generator.normal(0, 22, (height // 4 + 1, width // 4 + 1)).repeat(4, axis=0).repeat(4, axis=1)
    return patches[:height, :width]


SURFACES: dict[str, Callable[[int, int, Generator], Shade]] = {
    "plain": _plain,
    "glossy": _glossy,
    "grained": _grained,
    "mottled": _mottled,
}


def draw_backdrop(name: str, size: int, generator: Generator) -> Paint:
    """Draw a random backdrop of a name of BACKDROPS."""
    pattern, *palettes = BACKDROPS[name]
    return pattern(size, generator, *palettes)


def _horizon(size: int, generator: Generator, above: Palette, below: Palette) -> Paint:
    """Two areas with a slightly tilted border."""
    height = generator.uniform(0.3, 0.7) + generator.normal(0, 0.04) * np.linspace(-1, 1, size)
    is_below = np.linspace(0, 1, size)[:, None] > height[None, :]
    return np.where(is_below[..., None], below.colour(generator), above.colour(generator))


def _planks(size: int, generator: Generator, palette: Palette) -> Paint:
    """Planks of different shades."""
    count = int(generator.integers(4, 9))
    shades = generator.normal(0, 14, count)[np.arange(size) * count // size]
    return palette.colour(generator) + np.broadcast_to(shades[:, None], (size, size))[..., None]


def _tiles(size: int, generator: Generator, palette: Palette) -> Paint:
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

"""How things look: colours and finish by WordNet kind, so that what is near in meaning is near in looks, as in photos.

A bicycle that training never saw is still painted metal, and a fork is still steel. On photos that is what lets a
classifier trained on some labels say anything of others.
"""

import colorsys
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlzsl.graph.taxonomy import Taxonomy

Colour = npt.NDArray[np.float64]  # RGB, [3], in [0, 255]
Paint = npt.NDArray[np.float64]  # RGB, [height, width, 3]
Shade = npt.NDArray[np.float64]  # what a finish adds to every channel, [height, width]
Generator = np.random.Generator

TYPICAL = 0.8  # chance that a thing has a colour of its kind; the others may be of any
ENOUGH_CONTRAST = 190  # sum over the channels of the difference from the background
TRIES = 8


@dataclass(frozen=True)
class Palette:
    """Ranges of hue (in turns), saturation and value."""

    hue: tuple[float, float] = (0, 1)
    saturation: tuple[float, float] = (0.2, 1)
    value: tuple[float, float] = (0.08, 1)

    def colour(self, generator: Generator) -> Colour:
        """A colour of the ranges."""
        ranges = (self.hue, self.saturation, self.value)
        hue, saturation, value = (generator.uniform(*each) for each in ranges)
        return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


@dataclass(frozen=True)
class Look:
    """The colours of a kind of thing, and how light lies on it."""

    palettes: tuple[Palette, ...]
    finish: str = "plain"


ANY = Palette()
STEEL = Palette((0.55, 0.65), (0, 0.15), (0.55, 0.95))
WHITE = Palette((0, 1), (0, 0.08), (0.85, 1))
BLACK = Palette((0.6, 0.7), (0, 0.2), (0.05, 0.25))

# The first kind that is a hypernym of a class gives its look.
LOOKS: tuple[tuple[tuple[str, ...], Look], ...] = (
    (
        ("person.n.01",),
        Look((Palette((0.55, 0.7), (0.4, 0.9), (0.3, 0.8)), Palette((0.02, 0.08), (0.3, 0.6), (0.6, 0.95)))),
    ),
    (
        ("animal.n.01",),
        Look(
            (Palette((0.04, 0.11), (0.25, 0.75), (0.2, 0.8)), Palette((0.06, 0.1), (0, 0.15), (0.5, 0.95))), "mottled"
        ),
    ),
    (("plant.n.02",), Look((Palette((0.22, 0.4), (0.4, 0.9), (0.25, 0.75)),), "mottled")),
    (
        ("food.n.01", "food.n.02", "vegetable.n.01", "root.n.01"),
        Look((Palette((-0.03, 0.17), (0.6, 1), (0.6, 1)), Palette((0.2, 0.33), (0.5, 0.9), (0.4, 0.8))), "mottled"),
    ),
    (
        ("conveyance.n.03",),
        Look(
            (
                Palette((-0.05, 0.05), (0.7, 1), (0.5, 0.95)),
                Palette((0.55, 0.68), (0.6, 1), (0.4, 0.95)),
                Palette((0.12, 0.16), (0.7, 1), (0.8, 1)),
            ),
            "glossy",
        ),
    ),
    (("furniture.n.01",), Look((Palette((0.04, 0.1), (0.45, 0.8), (0.25, 0.7)),), "grained")),
    (
        ("bag.n.01", "bag.n.04", "baggage.n.01", "clothing.n.01"),
        Look((Palette((0.75, 0.95), (0.4, 0.8), (0.25, 0.7)), Palette((0.03, 0.07), (0.5, 0.8), (0.2, 0.5)))),
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
        Look((Palette((0.4, 0.52), (0.7, 1), (0.6, 1)), Palette((0.14, 0.2), (0.8, 1), (0.8, 1)))),
    ),
    (
        ("vessel.n.03", "tableware.n.01", "glass.n.02"),
        Look((STEEL, Palette((0.48, 0.6), (0.1, 0.4), (0.7, 1))), "glossy"),
    ),
    (("tool.n.01", "kitchen_utensil.n.01", "edge_tool.n.01"), Look((STEEL,), "glossy")),
    (
        ("electronic_equipment.n.01", "machine.n.01", "peripheral.n.01", "keyboard.n.01", "telephone.n.01"),
        Look((BLACK, Palette((0.6, 0.7), (0, 0.15), (0.25, 0.45)))),
    ),
    (("home_appliance.n.01", "plumbing_fixture.n.01"), Look((WHITE, STEEL))),
)


@functools.cache
def look_of(synset: str) -> Look:
    """The look of a class by its synset; any colour where no kind of LOOKS contains it."""
    taxonomy = Taxonomy.shipped()
    hypernyms = set(taxonomy.ancestors(taxonomy.place(synset)))
    for kinds, look in LOOKS:
        if any(taxonomy.place(kind) in hypernyms for kind in kinds):
            return look
    return Look((ANY,))


def paint(height: int, width: int, look: Look, ground: Colour, generator: Generator) -> Paint:
    """A thing's surface, [height, width, 3]: a colour that stands out from the background `ground`, and its finish."""
    palettes = look.palettes if generator.random() < TYPICAL else (ANY,)
    tries = [palettes[generator.integers(len(palettes))].colour(generator) for _ in range(TRIES)]
    colour = next((each for each in tries if _contrast(each, ground) >= ENOUGH_CONTRAST), None)
    if colour is None:
        colour = max(tries, key=lambda each: _contrast(each, ground))
    surface = np.broadcast_to(colour, (height, width, 3)) + FINISHES[look.finish](height, width, generator)[..., None]
    return np.clip(surface, 0, 255)


def _contrast(colour: Colour, ground: Colour) -> float:
    return float(np.abs(colour - ground).sum())


def _plain(height: int, width: int, generator: Generator) -> Shade:
    """A faint gradient from above."""
    return np.broadcast_to(np.linspace(0, generator.normal(0, 25), height)[:, None], (height, width))


def _glossy(height: int, width: int, generator: Generator) -> Shade:
    """A band of light across."""
    rows = np.linspace(-1, 1, height)[:, None]
    band = np.exp(-(((rows - generator.uniform(-0.5, 0.2)) / 0.22) ** 2))
    return np.broadcast_to(70 * band - 15, (height, width))


def _grained(height: int, width: int, generator: Generator) -> Shade:
    """Streaks along, as in wood."""
    streaks = np.repeat(generator.normal(0, 24, (1, width // 3 + 1)), 3, axis=1)[:, :width]
    return np.broadcast_to(streaks, (height, width))


def _mottled(height: int, width: int, generator: Generator) -> Shade:
    """Patches, as on fur or a crust."""
    patches = generator.normal(0, 22, (height // 4 + 1, width // 4 + 1)).repeat(4, axis=0).repeat(4, axis=1)
    return patches[:height, :width]


FINISHES: dict[str, Callable[[int, int, Generator], Shade]] = {
    "plain": _plain,
    "glossy": _glossy,
    "grained": _grained,
    "mottled": _mottled,
}

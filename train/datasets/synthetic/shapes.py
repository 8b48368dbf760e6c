"""Silhouettes for classes that no icon font depicts, as a table of filled primitives.

Coordinates run from 0 to 100, right and down. `ink=False` erases. Masks are uint8, mode L: 255 inside, 0 outside.
"""

from collections.abc import Callable, Iterable

from PIL import Image, ImageDraw

Point = tuple[float, float]
Primitive = Callable[[ImageDraw.ImageDraw, float], None]  # draws itself at a scale, in pixels a unit


def ellipse(*box: float, ink: bool = True) -> Primitive:
    """The ellipse in a box (left, top, right, bottom)."""
    return lambda draw, scale: draw.ellipse([value * scale for value in box], fill=255 * ink)


def box(*corners: float, radius: float = 0, ink: bool = True) -> Primitive:
    """A rectangle (left, top, right, bottom) with rounded corners."""
    return lambda draw, scale: draw.rounded_rectangle([v * scale for v in corners], radius * scale, fill=255 * ink)


def polygon(*points: Point, ink: bool = True) -> Primitive:
    """A filled polygon."""
    return lambda draw, scale: draw.polygon([(x * scale, y * scale) for x, y in points], fill=255 * ink)


def line(*points: Point, width: float = 4, ink: bool = True) -> Primitive:
    """A line through points."""
    return lambda draw, scale: draw.line(
        [(x * scale, y * scale) for x, y in points], fill=255 * ink, width=round(width * scale), joint="curve"
    )


def arc(left: float, top: float, right: float, bottom: float, start: float, end: float, width: float = 5) -> Primitive:
    """The outline of the ellipse in a box, clockwise from one angle to another, in degrees."""
    corners = (left, top, right, bottom)
    return lambda draw, scale: draw.arc([v * scale for v in corners], start, end, fill=255, width=round(width * scale))


# The left edge of a surfboard, pointed at both ends.
BOARD = [(50 - 17 * max(0.0, 1 - abs((y - 56) / 56) ** 2.4), float(y)) for y in range(2, 99, 4)]

SHAPES: dict[str, list[Primitive]] = {
    "stop_sign": [
        polygon((30, 4), (70, 4), (96, 30), (96, 70), (70, 96), (30, 96), (4, 70), (4, 30)),
        box(16, 42, 84, 58, ink=False),
        *(box(x - 4, 42, x, 58) for x in (28, 44, 60, 74)),
    ],
    "parking_meter": [
        box(46, 50, 54, 98),
        box(28, 4, 72, 56, radius=20),
        box(38, 16, 62, 30, radius=3, ink=False),
        box(47, 36, 53, 48, ink=False),
    ],
    "backpack": [
        arc(36, 2, 64, 30, 180, 360),
        box(20, 14, 80, 96, radius=22),
        box(32, 56, 68, 84, radius=6, ink=False),
        box(35, 59, 65, 81, radius=4),
        box(10, 50, 18, 86, radius=4),
        box(82, 50, 90, 86, radius=4),
    ],
    "frisbee": [
        ellipse(2, 28, 98, 76),
        ellipse(16, 34, 84, 64, ink=False),
        ellipse(20, 36, 80, 61),
    ],
    "snowboard": [
        box(36, 2, 64, 98, radius=14),
        *(box(30, y, 70, y + 9, radius=3, ink=False) for y in (26, 66)),
        *(box(33, y + 2, 67, y + 7, radius=2) for y in (26, 66)),
    ],
    "skis": [
        *(box(x, 14, x + 9, 98, radius=3) for x in (30, 62)),
        *(polygon((x, 18), (x + 4, 2), (x + 9, 18)) for x in (30, 62)),
        *(box(x - 3, 52, x + 12, 66, radius=2) for x in (30, 62)),
    ],
    "surfboard": [
        polygon(*BOARD, *((100 - x, y) for x, y in reversed(BOARD))),
        line((50, 12), (50, 92), width=3, ink=False),
        polygon((50, 80), (42, 98), (58, 98)),
    ],
    "baseball_bat": [
        polygon((12, 96), (6, 90), (52, 36), (62, 46)),
        line((57, 41), (88, 12), width=17),
        ellipse(78, 4, 98, 24),
        ellipse(2, 86, 16, 99),
    ],
    "skateboard": [
        line((4, 36), (16, 48), (84, 48), (96, 36), width=9),
        *(ellipse(x, 54, x + 16, 70) for x in (20, 64)),
    ],
    "tennis_racket": [
        ellipse(20, 2, 80, 66),
        ellipse(27, 9, 73, 59, ink=False),
        *(line((x, 8), (x, 60), width=2) for x in (36, 46, 56, 66)),
        *(line((26, y), (74, y), width=2) for y in (20, 30, 40, 50)),
        line((50, 64), (50, 98), width=9),
    ],
    "banana": [
        ellipse(4, 2, 96, 92),
        ellipse(-2, -22, 92, 66, ink=False),
        box(86, 18, 94, 32, radius=2),
    ],
    "broccoli": [
        *(
            ellipse(x - r, y - r, x + r, y + r)
            for x, y, r in ((28, 34, 20), (52, 24, 22), (74, 36, 19), (40, 44, 17), (62, 46, 17))
        ),
        polygon((40, 52), (64, 52), (60, 96), (44, 96)),
        line((48, 60), (30, 50), width=8),
        line((56, 60), (76, 50), width=8),
    ],
    "donut": [
        ellipse(6, 6, 94, 94),
        ellipse(36, 36, 64, 64, ink=False),
        *(
            line((x0, y0), (x1, y1), width=4, ink=False)
            for x0, y0, x1, y1 in (
                (22, 30, 30, 24),
                (60, 16, 70, 20),
                (76, 44, 80, 54),
                (20, 60, 26, 68),
                (56, 78, 66, 76),
            )
        ),
    ],
    "potted_plant": [
        polygon((28, 62), (72, 62), (64, 98), (36, 98)),
        line((50, 62), (50, 24), width=5),
        ellipse(14, 26, 50, 48),
        ellipse(50, 14, 88, 38),
        ellipse(36, 2, 62, 26),
    ],
    "vase": [
        ellipse(18, 36, 82, 96),
        polygon((38, 46), (34, 8), (66, 8), (62, 46)),
        box(26, 3, 74, 12, radius=4),
        line((24, 66), (76, 66), width=4, ink=False),
    ],
    "canoe": [
        polygon((2, 36), (98, 36), (82, 64), (18, 64)),
        polygon((2, 36), (8, 26), (18, 40)),
        polygon((98, 36), (92, 26), (82, 40)),
        line((24, 80), (70, 16), width=4),
        ellipse(16, 74, 30, 90),
    ],
    "yawl": [
        polygon((6, 74), (94, 74), (80, 94), (20, 94)),
        polygon((40, 4), (40, 68), (8, 68)),
        polygon((46, 16), (46, 68), (66, 68)),
        polygon((72, 30), (72, 68), (90, 68)),
    ],
    "catamaran": [
        polygon((52, 2), (52, 70), (92, 70)),
        line((48, 2), (48, 76), width=3),
        box(8, 74, 92, 79),
        polygon((2, 84), (44, 84), (38, 97), (8, 97)),
        polygon((56, 84), (98, 84), (92, 97), (62, 97)),
    ],
    "finch": [
        ellipse(22, 30, 80, 78),
        ellipse(60, 14, 92, 46),
        polygon((88, 26), (99, 33), (88, 38)),
        polygon((30, 50), (2, 76), (38, 72)),
        ellipse(75, 23, 81, 29, ink=False),
        line((48, 76), (46, 96), width=3),
        line((58, 76), (58, 96), width=3),
    ],
    "ram": [
        *(ellipse(x - 16, 32, x + 16, 68) for x in (24, 38, 52)),
        *(box(x, 60, x + 6, 94) for x in (20, 32, 50, 60)),
        ellipse(60, 24, 90, 52),
        arc(66, 6, 98, 38, 130, 430, width=7),
    ],
    "purse": [
        arc(28, 4, 72, 60, 180, 360, width=6),
        polygon((12, 40), (88, 40), (96, 92), (4, 92)),
        ellipse(44, 44, 56, 56, ink=False),
    ],
    "sled": [
        arc(72, 44, 98, 80, 270, 450, width=5),
        line((4, 78), (86, 78), width=5),
        line((8, 52), (84, 52), width=8),
        *(line((x, 52), (x, 78), width=4) for x in (22, 46, 70)),
    ],
    "paddle": [
        line((24, 76), (88, 12), width=6),
        polygon((8, 78), (22, 64), (38, 78), (24, 96), (6, 97)),
        line((80, 4), (96, 20), width=6),
    ],
    "measuring_cup": [
        polygon((8, 14), (66, 14), (62, 92), (16, 92)),
        arc(48, 28, 94, 76, 260, 460, width=7),
        *(line((18, y), (36, y), width=4, ink=False) for y in (34, 50, 66)),
    ],
    "teapot": [
        ellipse(22, 30, 78, 90),
        ellipse(44, 16, 56, 30),
        polygon((74, 56), (98, 30), (92, 62), (76, 76)),
        arc(4, 38, 36, 78, 90, 270, width=6),
    ],
    "wooden_spoon": [
        ellipse(34, 2, 66, 44),
        line((50, 40), (50, 98), width=9),
    ],
    "frying_pan": [
        ellipse(2, 34, 62, 94),
        ellipse(9, 41, 55, 87, ink=False),
        ellipse(13, 45, 51, 83),
        line((50, 50), (94, 8), width=9),
    ],
    "ladle": [
        line((66, 4), (60, 66), width=6),
        arc(64, 0, 84, 16, 150, 330, width=5),
        ellipse(16, 56, 66, 98),
        box(14, 50, 68, 70, ink=False),
        line((60, 50), (59, 74), width=6),
    ],
    "spatula": [
        box(30, 2, 70, 48, radius=5),
        *(box(x, 10, x + 4, 40, ink=False) for x in (39, 48, 57)),
        line((50, 46), (50, 98), width=7),
    ],
    "cauliflower": [
        *(
            ellipse(x - r, y - r, x + r, y + r)
            for x, y, r in ((30, 36, 17), (50, 26, 18), (70, 36, 17), (38, 52, 16), (62, 52, 16), (50, 42, 16))
        ),
        polygon((6, 44), (30, 66), (50, 72), (70, 66), (94, 44), (84, 82), (50, 97), (16, 82)),
    ],
    "cabbage": [
        ellipse(6, 8, 94, 94),
        *(line((50, 92), (x, 26), width=3, ink=False) for x in (22, 36, 64, 78)),
        line((50, 92), (50, 14), width=4, ink=False),
    ],
    "rocking_chair": [
        arc(-10, 20, 100, 98, 30, 150, width=5),
        line((22, 6), (32, 58), width=6),
        line((30, 58), (78, 58), width=7),
        line((34, 58), (28, 90), width=5),
        line((74, 58), (78, 88), width=5),
        line((28, 36), (74, 38), (74, 58), width=4),
    ],
    "folding_chair": [
        line((28, 4), (72, 96), width=6),
        line((66, 46), (24, 96), width=6),
        line((36, 48), (84, 48), width=8),
        line((24, 10), (38, 40), width=10),
    ],
    "throne": [
        polygon((28, 50), (28, 8), (40, 18), (50, 2), (60, 18), (72, 8), (72, 50)),
        box(18, 50, 82, 66, radius=3),
        box(12, 36, 24, 66, radius=3),
        box(76, 36, 88, 66, radius=3),
        box(22, 66, 32, 97),
        box(68, 66, 78, 97),
    ],
    "typewriter_keyboard": [
        *(
            ellipse(x + shift, y, x + shift + 12, y + 12)
            for y, shift in ((22, 0), (40, 4), (58, 8))
            for x in (4, 19, 34, 49, 64, 79)
        ),
        box(22, 76, 82, 86, radius=4),
    ],
    "pitcher": [
        polygon((26, 8), (70, 8), (62, 34), (74, 94), (22, 94), (34, 34)),
        polygon((26, 8), (12, 6), (32, 28)),
        arc(50, 18, 92, 76, 270, 450, width=6),
    ],
    "water_jug": [
        ellipse(16, 34, 78, 98),
        box(36, 8, 58, 44),
        box(32, 4, 62, 13, radius=3),
        arc(44, 12, 90, 62, 260, 440, width=6),
    ],
    "urn": [
        polygon((18, 20), (82, 20), (70, 66), (58, 80), (42, 80), (30, 66)),
        box(12, 10, 88, 20, radius=4),
        box(30, 86, 70, 96, radius=2),
        box(44, 78, 56, 90),
    ],
}


def draw_shape(primitives: Iterable[Primitive], mask: Image.Image) -> Image.Image:
    """Draw primitives in order on a square mask, in place, and return it."""
    draw, scale = ImageDraw.Draw(mask), mask.width / 100
    for primitive in primitives:
        primitive(draw, scale)
    return mask

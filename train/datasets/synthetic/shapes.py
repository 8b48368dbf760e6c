"""Silhouettes of our own, for classes that no icon font depicts: masks drawn from a few primitives.

Coordinates run from 0 to 100, right and down. `ink` fills, `cut` takes away again.
"""

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

Point = tuple[float, float]


class Pen:
    """Draws a mask, uint8 L, size × size; the mask is 0 outside the silhouette and 255 inside."""

    def __init__(self, size: int) -> None:
        self.mask = Image.new("L", (size, size))
        self._draw, self._scale = ImageDraw.Draw(self.mask), size / 100

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, ink: bool = True) -> None:
        self._draw.ellipse([value * self._scale for value in (x0, y0, x1, y1)], fill=_shade(ink))

    def box(self, x0: float, y0: float, x1: float, y1: float, radius: float = 0, ink: bool = True) -> None:
        corners = [value * self._scale for value in (x0, y0, x1, y1)]
        self._draw.rounded_rectangle(corners, radius * self._scale, fill=_shade(ink))

    def polygon(self, *points: Point, ink: bool = True) -> None:
        self._draw.polygon(self._scaled(points), fill=_shade(ink))

    def line(self, *points: Point, width: float = 4, ink: bool = True) -> None:
        self._draw.line(self._scaled(points), fill=_shade(ink), width=round(width * self._scale), joint="curve")

    def arc(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, width: float = 5) -> None:
        corners = [value * self._scale for value in (x0, y0, x1, y1)]
        self._draw.arc(corners, start, end, fill=255, width=round(width * self._scale))

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale) for x, y in points]


def _shade(ink: bool) -> int:
    return 255 if ink else 0


def stop_sign(pen: Pen) -> None:
    pen.polygon((30, 4), (70, 4), (96, 30), (96, 70), (70, 96), (30, 96), (4, 70), (4, 30))
    pen.box(16, 42, 84, 58, ink=False)
    for x in (28, 44, 60, 74):
        pen.box(x - 4, 42, x, 58)


def parking_meter(pen: Pen) -> None:
    pen.box(46, 50, 54, 98)
    pen.box(28, 4, 72, 56, radius=20)
    pen.box(38, 16, 62, 30, radius=3, ink=False)
    pen.box(47, 36, 53, 48, ink=False)


def backpack(pen: Pen) -> None:
    pen.arc(36, 2, 64, 30, 180, 360)
    pen.box(20, 14, 80, 96, radius=22)
    pen.box(32, 56, 68, 84, radius=6, ink=False)
    pen.box(35, 59, 65, 81, radius=4)
    pen.box(10, 50, 18, 86, radius=4)
    pen.box(82, 50, 90, 86, radius=4)


def frisbee(pen: Pen) -> None:
    pen.ellipse(2, 28, 98, 76)
    pen.ellipse(16, 34, 84, 64, ink=False)
    pen.ellipse(20, 36, 80, 61)


def snowboard(pen: Pen) -> None:
    pen.box(36, 2, 64, 98, radius=14)
    for y in (26, 66):
        pen.box(30, y, 70, y + 9, radius=3, ink=False)
        pen.box(33, y + 2, 67, y + 7, radius=2)


def skis(pen: Pen) -> None:
    for x in (30, 62):
        pen.box(x, 14, x + 9, 98, radius=3)
        pen.polygon((x, 18), (x + 4, 2), (x + 9, 18))
        pen.box(x - 3, 52, x + 12, 66, radius=2)


def surfboard(pen: Pen) -> None:
    left = [(50 - 17 * _bulge(y), float(y)) for y in range(2, 99, 4)]
    pen.polygon(*left, *((100 - x, y) for x, y in reversed(left)))
    pen.line((50, 12), (50, 92), width=3, ink=False)
    pen.polygon((50, 80), (42, 98), (58, 98))


def _bulge(y: float) -> float:
    """Width of a board pointed at both ends, 0 to 1 at height y."""
    return max(0.0, 1 - abs((y - 56) / 56) ** 2.4)


def baseball_bat(pen: Pen) -> None:
    pen.polygon((12, 96), (6, 90), (52, 36), (62, 46))
    pen.line((57, 41), (88, 12), width=17)
    pen.ellipse(78, 4, 98, 24)
    pen.ellipse(2, 86, 16, 99)


def skateboard(pen: Pen) -> None:
    pen.line((4, 36), (16, 48), (84, 48), (96, 36), width=9)
    for x in (20, 64):
        pen.ellipse(x, 54, x + 16, 70)


def tennis_racket(pen: Pen) -> None:
    pen.ellipse(20, 2, 80, 66)
    pen.ellipse(27, 9, 73, 59, ink=False)
    for place in (36, 46, 56, 66):
        pen.line((place, 8), (place, 60), width=2)
        pen.line((26, place - 16), (74, place - 16), width=2)
    pen.line((50, 64), (50, 98), width=9)


def banana(pen: Pen) -> None:
    pen.ellipse(4, 2, 96, 92)
    pen.ellipse(-2, -22, 92, 66, ink=False)
    pen.box(86, 18, 94, 32, radius=2)


def broccoli(pen: Pen) -> None:
    for x, y, r in ((28, 34, 20), (52, 24, 22), (74, 36, 19), (40, 44, 17), (62, 46, 17)):
        pen.ellipse(x - r, y - r, x + r, y + r)
    pen.polygon((40, 52), (64, 52), (60, 96), (44, 96))
    pen.line((48, 60), (30, 50), width=8)
    pen.line((56, 60), (76, 50), width=8)


def donut(pen: Pen) -> None:
    pen.ellipse(6, 6, 94, 94)
    pen.ellipse(36, 36, 64, 64, ink=False)
    for x0, y0, x1, y1 in ((22, 30, 30, 24), (60, 16, 70, 20), (76, 44, 80, 54), (20, 60, 26, 68), (56, 78, 66, 76)):
        pen.line((x0, y0), (x1, y1), width=4, ink=False)


def potted_plant(pen: Pen) -> None:
    pen.polygon((28, 62), (72, 62), (64, 98), (36, 98))
    pen.line((50, 62), (50, 24), width=5)
    pen.ellipse(14, 26, 50, 48)
    pen.ellipse(50, 14, 88, 38)
    pen.ellipse(36, 2, 62, 26)


def vase(pen: Pen) -> None:
    pen.ellipse(18, 36, 82, 96)
    pen.polygon((38, 46), (34, 8), (66, 8), (62, 46))
    pen.box(26, 3, 74, 12, radius=4)
    pen.line((24, 66), (76, 66), width=4, ink=False)


def canoe(pen: Pen) -> None:
    pen.polygon((2, 36), (98, 36), (82, 64), (18, 64))
    pen.polygon((2, 36), (8, 26), (18, 40))
    pen.polygon((98, 36), (92, 26), (82, 40))
    pen.line((24, 80), (70, 16), width=4)
    pen.ellipse(16, 74, 30, 90)


def yawl(pen: Pen) -> None:
    pen.polygon((6, 74), (94, 74), (80, 94), (20, 94))
    pen.polygon((40, 4), (40, 68), (8, 68))
    pen.polygon((46, 16), (46, 68), (66, 68))
    pen.polygon((72, 30), (72, 68), (90, 68))


def catamaran(pen: Pen) -> None:
    pen.polygon((52, 2), (52, 70), (92, 70))
    pen.line((48, 2), (48, 76), width=3)
    pen.box(8, 74, 92, 79)
    pen.polygon((2, 84), (44, 84), (38, 97), (8, 97))
    pen.polygon((56, 84), (98, 84), (92, 97), (62, 97))


def finch(pen: Pen) -> None:
    pen.ellipse(22, 30, 80, 78)
    pen.ellipse(60, 14, 92, 46)
    pen.polygon((88, 26), (99, 33), (88, 38))
    pen.polygon((30, 50), (2, 76), (38, 72))
    pen.ellipse(75, 23, 81, 29, ink=False)
    pen.line((48, 76), (46, 96), width=3)
    pen.line((58, 76), (58, 96), width=3)


def ram(pen: Pen) -> None:
    for x in (24, 38, 52):
        pen.ellipse(x - 16, 32, x + 16, 68)
    for x in (20, 32, 50, 60):
        pen.box(x, 60, x + 6, 94)
    pen.ellipse(60, 24, 90, 52)
    pen.arc(66, 6, 98, 38, 130, 430, width=7)


def purse(pen: Pen) -> None:
    pen.arc(28, 4, 72, 60, 180, 360, width=6)
    pen.polygon((12, 40), (88, 40), (96, 92), (4, 92))
    pen.ellipse(44, 44, 56, 56, ink=False)


def sled(pen: Pen) -> None:
    pen.arc(72, 44, 98, 80, 270, 450, width=5)
    pen.line((4, 78), (86, 78), width=5)
    pen.line((8, 52), (84, 52), width=8)
    for x in (22, 46, 70):
        pen.line((x, 52), (x, 78), width=4)


def paddle(pen: Pen) -> None:
    pen.line((24, 76), (88, 12), width=6)
    pen.polygon((8, 78), (22, 64), (38, 78), (24, 96), (6, 97))
    pen.line((80, 4), (96, 20), width=6)


def measuring_cup(pen: Pen) -> None:
    pen.polygon((8, 14), (66, 14), (62, 92), (16, 92))
    pen.arc(48, 28, 94, 76, 260, 460, width=7)
    for y in (34, 50, 66):
        pen.line((18, y), (36, y), width=4, ink=False)


def teapot(pen: Pen) -> None:
    pen.ellipse(22, 30, 78, 90)
    pen.ellipse(44, 16, 56, 30)
    pen.polygon((74, 56), (98, 30), (92, 62), (76, 76))
    pen.arc(4, 38, 36, 78, 90, 270, width=6)


def wooden_spoon(pen: Pen) -> None:
    pen.ellipse(34, 2, 66, 44)
    pen.line((50, 40), (50, 98), width=9)


def frying_pan(pen: Pen) -> None:
    pen.ellipse(2, 34, 62, 94)
    pen.ellipse(9, 41, 55, 87, ink=False)
    pen.ellipse(13, 45, 51, 83)
    pen.line((50, 50), (94, 8), width=9)


def ladle(pen: Pen) -> None:
    pen.line((66, 4), (60, 66), width=6)
    pen.arc(64, 0, 84, 16, 150, 330, width=5)
    pen.ellipse(16, 56, 66, 98)
    pen.box(14, 50, 68, 70, ink=False)
    pen.line((60, 50), (59, 74), width=6)


def spatula(pen: Pen) -> None:
    pen.box(30, 2, 70, 48, radius=5)
    for x in (39, 48, 57):
        pen.box(x, 10, x + 4, 40, ink=False)
    pen.line((50, 46), (50, 98), width=7)


def cauliflower(pen: Pen) -> None:
    for x, y, r in ((30, 36, 17), (50, 26, 18), (70, 36, 17), (38, 52, 16), (62, 52, 16), (50, 42, 16)):
        pen.ellipse(x - r, y - r, x + r, y + r)
    pen.polygon((6, 44), (30, 66), (50, 72), (70, 66), (94, 44), (84, 82), (50, 97), (16, 82))


def cabbage(pen: Pen) -> None:
    pen.ellipse(6, 8, 94, 94)
    for x in (22, 36, 64, 78):
        pen.line((50, 92), (x, 26), width=3, ink=False)
    pen.line((50, 92), (50, 14), width=4, ink=False)


def rocking_chair(pen: Pen) -> None:
    pen.arc(-10, 20, 100, 98, 30, 150, width=5)
    pen.line((22, 6), (32, 58), width=6)
    pen.line((30, 58), (78, 58), width=7)
    pen.line((34, 58), (28, 90), width=5)
    pen.line((74, 58), (78, 88), width=5)
    pen.line((28, 36), (74, 38), (74, 58), width=4)


def folding_chair(pen: Pen) -> None:
    pen.line((28, 4), (72, 96), width=6)
    pen.line((66, 46), (24, 96), width=6)
    pen.line((36, 48), (84, 48), width=8)
    pen.line((24, 10), (38, 40), width=10)


def throne(pen: Pen) -> None:
    pen.polygon((28, 50), (28, 8), (40, 18), (50, 2), (60, 18), (72, 8), (72, 50))
    pen.box(18, 50, 82, 66, radius=3)
    pen.box(12, 36, 24, 66, radius=3)
    pen.box(76, 36, 88, 66, radius=3)
    pen.box(22, 66, 32, 97)
    pen.box(68, 66, 78, 97)


def typewriter_keyboard(pen: Pen) -> None:
    for row, y in enumerate((22, 40, 58)):
        for column in range(6):
            x = 4 + 15 * column + 4 * row
            pen.ellipse(x, y, x + 12, y + 12)
    pen.box(22, 76, 82, 86, radius=4)


def pitcher(pen: Pen) -> None:
    pen.polygon((26, 8), (70, 8), (62, 34), (74, 94), (22, 94), (34, 34))
    pen.polygon((26, 8), (12, 6), (32, 28))
    pen.arc(50, 18, 92, 76, 270, 450, width=6)


def water_jug(pen: Pen) -> None:
    pen.ellipse(16, 34, 78, 98)
    pen.box(36, 8, 58, 44)
    pen.box(32, 4, 62, 13, radius=3)
    pen.arc(44, 12, 90, 62, 260, 440, width=6)


def urn(pen: Pen) -> None:
    pen.polygon((18, 20), (82, 20), (70, 66), (58, 80), (42, 80), (30, 66))
    pen.box(12, 10, 88, 20, radius=4)
    pen.box(30, 86, 70, 96, radius=2)
    pen.box(44, 78, 56, 90)


SHAPES: dict[str, Callable[[Pen], None]] = {
    function.__name__: function
    for function in (
        stop_sign, parking_meter, backpack, frisbee, skis, snowboard, surfboard, baseball_bat, skateboard,
        tennis_racket, banana, broccoli, donut, potted_plant, vase, canoe, yawl, catamaran, finch, ram, purse, sled,
        paddle, measuring_cup, teapot, wooden_spoon, frying_pan, ladle, spatula, cauliflower, cabbage, rocking_chair,
        folding_chair, throne, typewriter_keyboard, pitcher, water_jug, urn,
    )
}  # fmt: skip


def draw_shape(name: str, size: int) -> Image.Image:
    """Draw a silhouette as a mask, uint8 L, size × size."""
    pen = Pen(size)
    SHAPES[name](pen)
    return pen.mask

"""Masks of the drawings: glyphs of the icon fonts in the package `qtawesome`, and the silhouettes of `shapes`."""

import functools
import importlib.util
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mlzsl.cli.errors import FailureError
from mlzsl.train.datasets.synthetic.shapes import SHAPES, draw_shape, ellipse, line

PACKAGE = "qtawesome"  # only its font files are read; it is not imported, as that needs Qt
FONTS = {"mdi": "materialdesignicons6-webfont", "fa": "fontawesome6-solid-webfont", "ph": "phosphor", "ri": "remixicon"}
MASK_SIZE = 192  # of cached masks, in pixels; scenes scale them down


@functools.cache
def mask_of(drawing: str) -> Image.Image:
    """The silhouette of a drawing such as `mdi:bicycle` or `shape:vase`, mode L, MASK_SIZE square, centred.

    `mdi:bicycle/striped` erases stripes from it, `mdi:bicycle/dotted` holes.

    Raises:
        FailureError: the icon fonts are not installed or lack the glyph.
    """
    plain, _, variant = drawing.partition("/")
    if variant:
        return draw_shape(VARIANTS[variant], mask_of(plain).copy())
    family, _, name = drawing.partition(":")
    if family == "shape":
        return draw_shape(SHAPES[name], Image.new("L", (MASK_SIZE, MASK_SIZE)))
    glyphs = _glyphs(family)
    if name not in glyphs:
        raise FailureError(f"the icon font {FONTS[family]} has no glyph {name!r}; install qtawesome 1.4 or later.")
    canvas = Image.new("L", (2 * MASK_SIZE, 2 * MASK_SIZE))
    font = ImageFont.truetype(str(_file(family, ".ttf")), MASK_SIZE)
    glyph = chr(int(glyphs[name], 16))
    ImageDraw.Draw(canvas).text((MASK_SIZE, MASK_SIZE), glyph, font=font, fill=255, anchor="mm")
    return _fitted(canvas)


# What a variant of a drawing erases: three thin diagonals, or nine round holes.
VARIANTS = {
    "striped": [line((start, 0), (start + 100, 100), width=9 / 1.92, ink=False) for start in (-50, 0, 50)],
    "dotted": [
        ellipse(x - 9 / 1.92, y - 9 / 1.92, x + 9 / 1.92, y + 9 / 1.92, ink=False)
        for x in (25, 50, 75)
        for y in (25, 50, 75)
    ],
}


def _fitted(canvas: Image.Image) -> Image.Image:
    """Crop to the glyph, scale its longer side to MASK_SIZE, and centre it."""
    cropped = canvas.crop(canvas.getbbox() or (0, 0, 1, 1))
    scale = MASK_SIZE / max(cropped.size)
    width, height = (max(1, round(side * scale)) for side in cropped.size)
    mask = Image.new("L", (MASK_SIZE, MASK_SIZE))
    resized = cropped.resize((width, height), Image.Resampling.BICUBIC)
    mask.paste(resized, ((MASK_SIZE - width) // 2, (MASK_SIZE - height) // 2))
    return mask


@functools.cache
def _glyphs(family: str) -> dict[str, str]:
    glyphs: dict[str, str] = json.loads(_file(family, ".json").read_text(encoding="utf-8"))
    return glyphs


def _file(family: str, suffix: str) -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    fonts = Path(spec.origin).parent / "fonts" if spec and spec.origin else Path(PACKAGE)
    found = next(fonts.glob(f"{FONTS[family]}*{suffix}"), None)
    if found is None:
        raise FailureError(f"the icon font {FONTS[family]} of {PACKAGE} is not installed; pip install 'mlzsl[train]'.")
    return found

"""A contact sheet of tagged photos: a grid of thumbnails with their tags, unseen labels marked."""

import contextlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mlzsl.cli.errors import FailureError
from mlzsl.cli.outputs import check_target, written_atomically
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.imaging import TransientReadError, UnreadableImage
from mlzsl.runtime.gallery.thumbnails import thumbnail
from mlzsl.runtime.io.inputs import PATH_COLUMN
from mlzsl.runtime.io.members import MemberReader
from mlzsl.runtime.report import UNSEEN_NOTE
from mlzsl.runtime.tags import Tag, Tagged

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PHOTOS, COLUMNS = 12, 4
MAX_TAGS = 5
THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 300, 225
PADDING, GAP, HEADER = 14, 18, 64
TAG_HEIGHT, NAME_HEIGHT = 24, 26
BAR_WIDTH, SCORE_WIDTH = 74, 42
CARD_WIDTH, MIN_WIDTH = THUMBNAIL_WIDTH + 2 * PADDING, 560

PAPER, CARD, FRAME, INK, FAINT = "#eef0f3", "#ffffff", "#d9dde3", "#1d2733", "#7b8694"
SEEN, UNSEEN, TRACK = "#3b76c4", "#d9622b", "#e6e9ee"


def check_picture(target: Path) -> None:
    """Refuse, before photos are tagged, a contact sheet that could not be written.

    Raises:
        UsageError: the suffix is unknown, or the path is a folder.
    """
    check_target("--picture", target, SUFFIXES, "tagged.png")


def draw_contact_sheet(
    photos: Sequence[Tagged], target: Path, manifest: Manifest, path_column: str = PATH_COLUMN
) -> None:
    """Draw photos with their best tags.

    Args:
        photos: tagged ones; the first 12 are drawn.
        target: a `.png` or `.jpg` file.
        manifest: of the model that tagged them, for the title.
        path_column: of the Parquet files that hold photos.

    Raises:
        UsageError: the suffix is unknown.
        FailureError: a photo can no longer be read, or the file cannot be written.
    """
    check_picture(target)
    drawn = photos[:MAX_PHOTOS]
    tags = min(MAX_TAGS, max((len(photo.tags) for photo in drawn), default=0)) or 1
    card_height = PADDING + THUMBNAIL_HEIGHT + NAME_HEIGHT + tags * TAG_HEIGHT + PADDING // 2
    columns = min(COLUMNS, len(drawn)) or 1
    rows = -(-len(drawn) // columns)
    width = max(GAP + columns * (CARD_WIDTH + GAP), MIN_WIDTH)
    sheet = Image.new("RGB", (width, HEADER + rows * (card_height + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    mark = any(label.seen for label in manifest.labels)  # otherwise every tag would be marked
    _draw_header(draw, width, manifest)
    with contextlib.closing(MemberReader(path_column)) as members:
        for index, photo in enumerate(drawn):
            row, column = divmod(index, columns)
            left, top = GAP + column * (CARD_WIDTH + GAP), HEADER + row * (card_height + GAP)
            draw.rounded_rectangle((left, top, left + CARD_WIDTH, top + card_height), 10, CARD, FRAME)
            _draw_card(sheet, draw, left + PADDING, top + PADDING, photo, _thumbnail(photo.path, members), mark)
    with written_atomically(target) as temporary:
        sheet.save(temporary, quality=92)


def _draw_header(draw: ImageDraw.ImageDraw, width: int, manifest: Manifest) -> None:
    seen, middle = sum(label.seen for label in manifest.labels), HEADER / 2
    _text(draw, GAP, middle, f"{manifest.model} on {manifest.backbone}", INK, 22)
    x: float = width - GAP
    if not seen:
        count = f"{len(manifest.labels)} labels, no training photos"
        _text(draw, x - draw.textlength(count, _font(15)), middle, count, INK, 15)
        return
    legend = {
        UNSEEN: f"{UNSEEN_NOTE} ({len(manifest.labels) - seen} labels)",
        SEEN: f"seen in training ({seen} labels)",
    }
    for colour, text in legend.items():
        x -= draw.textlength(text, _font(15))
        _text(draw, x, middle, text, INK, 15)
        x -= 20
        draw.rounded_rectangle((x, middle - 6, x + 12, middle + 6), 3, colour)
        x -= 22


def _draw_card(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, photo: Tagged, image: Image.Image, mark: bool
) -> None:
    draw.rectangle((left, top, left + THUMBNAIL_WIDTH - 1, top + THUMBNAIL_HEIGHT - 1), PAPER)
    sheet.paste(image, (left + (THUMBNAIL_WIDTH - image.width) // 2, top + (THUMBNAIL_HEIGHT - image.height) // 2))
    y = top + THUMBNAIL_HEIGHT + NAME_HEIGHT / 2
    _text(draw, left, y, Path(photo.name).name, FAINT, 13, THUMBNAIL_WIDTH)
    if not photo.tags:
        _text(draw, left, y + NAME_HEIGHT / 2 + 0.5 * TAG_HEIGHT, "no tag", FAINT, 17, THUMBNAIL_WIDTH)
    for row, tag in enumerate(photo.tags[:MAX_TAGS]):
        _draw_tag(draw, left, y + NAME_HEIGHT / 2 + (row + 0.5) * TAG_HEIGHT, tag, mark)


def _draw_tag(draw: ImageDraw.ImageDraw, left: int, y: float, tag: Tag, mark: bool) -> None:
    """One line, its middle at y: the label, a bar as long as the score, the score."""
    name, ink, colour = (tag.label, INK, SEEN) if tag.seen or not mark else (f"{tag.label} *", UNSEEN, UNSEEN)
    _text(draw, left, y, name, ink, 17, THUMBNAIL_WIDTH - BAR_WIDTH - SCORE_WIDTH - 10)
    bar = left + THUMBNAIL_WIDTH - SCORE_WIDTH - BAR_WIDTH
    draw.rounded_rectangle((bar, y - 4, bar + BAR_WIDTH, y + 4), 4, TRACK)
    length = tag.score * BAR_WIDTH
    if length >= 1:
        draw.rounded_rectangle((bar, y - 4, bar + length, y + 4), min(4, length / 2), colour)
    draw.text((left + THUMBNAIL_WIDTH, y), f"{tag.score:.2f}", INK, _font(15), anchor="rm")


def _thumbnail(path: str, members: MemberReader) -> Image.Image:
    try:
        return thumbnail(members.read(path) or path, THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT)
    except (UnreadableImage, TransientReadError) as error:
        raise FailureError(f"{Tagged(path).name}: was tagged, but can no longer be read: {error}.") from error


def _text(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: str, size: int, width: float | None = None
) -> None:
    """Text that starts at x, its middle at y, shortened to a width."""
    font = _font(size)
    if width is not None and draw.textlength(text, font) > width:
        while text and draw.textlength(text + "…", font) > width:
            text = text[:-1]
        text += "…"
    draw.text((x, y), text, colour, font, anchor="lm")


@cache
def _font(size: int) -> ImageFont.ImageFont:
    font: ImageFont.ImageFont = ImageFont.load_default(size)  # type: ignore[assignment]
    return font

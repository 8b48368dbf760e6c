"""A picture of tagged photos to look at: a grid of thumbnails, each with its tags, unseen labels marked."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.imaging import UnreadableImage
from mlzsl.runtime.gallery.thumbnails import thumbnail
from mlzsl.runtime.io.shards import read_member
from mlzsl.runtime.tags import Tag, Tagged

SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_PHOTOS, COLUMNS = 12, 4
MOST_TAGS = 5
THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 300, 225
PADDING, GAP, HEADER = 14, 18, 64
TAG_HEIGHT, NAME_HEIGHT = 24, 26
BAR_WIDTH, SCORE_WIDTH = 74, 42
CARD_WIDTH = THUMBNAIL_WIDTH + 2 * PADDING

PAPER, CARD, FRAME, INK, FAINT = "#eef0f3", "#ffffff", "#d9dde3", "#1d2733", "#7b8694"
SEEN, UNSEEN, TRACK = "#3b76c4", "#d9622b", "#e6e9ee"


def check_picture(target: Path) -> None:
    """Refuse, before the work begins, a picture that could not be written.

    Raises:
        UsageError: the suffix is not that of a picture, or a folder is in the way.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--picture {target}: unknown suffix {target.suffix!r}; use {', '.join(SUFFIXES)}.")
    if target.is_dir():
        raise UsageError(f"--picture {target}: is a folder; name a file in it, such as {target / 'tagged.png'}.")


def draw_contact_sheet(photos: Sequence[Tagged], target: Path, manifest: Manifest) -> None:
    """Draw the first photos with their best tags and write the picture.

    Args:
        photos: tagged ones; the first 12 are drawn.
        target: a `.png` or `.jpg` file.
        manifest: of the model that tagged them, for the title.

    Raises:
        UsageError: the suffix is unknown.
        FailureError: a photo can no longer be read, or the file system refuses.
    """
    check_picture(target)
    drawn = photos[:MOST_PHOTOS]
    tags = min(MOST_TAGS, max((len(photo.tags) for photo in drawn), default=0))
    card_height = PADDING + THUMBNAIL_HEIGHT + NAME_HEIGHT + tags * TAG_HEIGHT + PADDING // 2
    columns = min(COLUMNS, len(drawn)) or 1
    rows = -(-len(drawn) // columns)
    width = max(GAP + columns * (CARD_WIDTH + GAP), 560)
    sheet = Image.new("RGB", (width, HEADER + rows * (card_height + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, width, manifest)
    for place, photo in enumerate(drawn):
        row, column = divmod(place, columns)
        left, top = GAP + column * (CARD_WIDTH + GAP), HEADER + row * (card_height + GAP)
        draw.rounded_rectangle((left, top, left + CARD_WIDTH, top + card_height), 10, CARD, FRAME)
        _draw_card(sheet, draw, left + PADDING, top + PADDING, photo)
    with written_atomically(target) as temporary:
        sheet.save(temporary, quality=92)


def _draw_header(draw: ImageDraw.ImageDraw, width: int, manifest: Manifest) -> None:
    unseen = sum(not label.seen for label in manifest.labels)
    title = f"{manifest.model} on {manifest.backbone}"
    draw.text((GAP, HEADER / 2), title, INK, _font(22), anchor="lm")
    x: float = width - GAP
    for colour, words in (
        (UNSEEN, f"* never seen in training ({unseen} labels)"),
        (SEEN, f"seen in training ({len(manifest.labels) - unseen} labels)"),
    ):
        x -= draw.textlength(words, _font(15))
        draw.text((x, HEADER / 2), words, INK, _font(15), anchor="lm")
        x -= 20
        draw.rounded_rectangle((x, HEADER / 2 - 6, x + 12, HEADER / 2 + 6), 3, colour)
        x -= 22


def _draw_card(sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, photo: Tagged) -> None:
    thumbnail = _thumbnail(photo.path)
    draw.rectangle((left, top, left + THUMBNAIL_WIDTH - 1, top + THUMBNAIL_HEIGHT - 1), PAPER)
    sheet.paste(
        thumbnail,
        (left + (THUMBNAIL_WIDTH - thumbnail.width) // 2, top + (THUMBNAIL_HEIGHT - thumbnail.height) // 2),
    )
    y = top + THUMBNAIL_HEIGHT + NAME_HEIGHT / 2
    name = _shortened(draw, Path(photo.name).name, _font(13), THUMBNAIL_WIDTH)
    draw.text((left, y), name, FAINT, _font(13), anchor="lm")
    y += NAME_HEIGHT / 2 + TAG_HEIGHT / 2
    for tag in photo.tags[:MOST_TAGS]:
        _draw_tag(draw, left, y, tag)
        y += TAG_HEIGHT


def _draw_tag(draw: ImageDraw.ImageDraw, left: int, y: float, tag: Tag) -> None:
    """One line: the label, a bar as long as the score, the score; y is the line's middle."""
    colour = SEEN if tag.seen else UNSEEN
    words = tag.label if tag.seen else f"{tag.label} *"
    room = THUMBNAIL_WIDTH - BAR_WIDTH - SCORE_WIDTH - 10
    draw.text((left, y), _shortened(draw, words, _font(17), room), INK if tag.seen else UNSEEN, _font(17), anchor="lm")
    bar = left + THUMBNAIL_WIDTH - SCORE_WIDTH - BAR_WIDTH
    draw.rounded_rectangle((bar, y - 4, bar + BAR_WIDTH, y + 4), 4, TRACK)
    length = tag.score * BAR_WIDTH
    if length >= 1:
        draw.rounded_rectangle((bar, y - 4, bar + length, y + 4), min(4, length / 2), colour)
    draw.text((left + THUMBNAIL_WIDTH, y), f"{tag.score:.2f}", INK, _font(15), anchor="rm")


def _thumbnail(path: str) -> Image.Image:
    try:
        return thumbnail(read_member(path) or path, THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT)
    except UnreadableImage as error:
        raise FailureError(f"{Tagged(path).name}: was tagged, but can no longer be read: {error}.") from error


def _shortened(draw: ImageDraw.ImageDraw, words: str, font: ImageFont.ImageFont, room: float) -> str:
    if draw.textlength(words, font) <= room:
        return words
    while words and draw.textlength(words + "…", font) > room:
        words = words[:-1]
    return words + "…"


@cache
def _font(size: int) -> ImageFont.ImageFont:
    font: ImageFont.ImageFont = ImageFont.load_default(size)  # type: ignore[assignment]
    return font

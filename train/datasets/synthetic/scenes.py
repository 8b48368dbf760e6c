"""The generated photo set: scenes of drawn objects, with all that makes real photos hard, and no download.

Objects vary in drawing, colour, size, rotation and place; they overlap and are partly hidden; backgrounds have
gradients, texture and clutter; pictures are noisy and JPEG-compressed. Every picture depends on (seed, its number)
alone, so a set is the same whoever makes it and in whatever order.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import progress
from mlzsl.graph.labels.sets import load_label_set
from mlzsl.imaging.labelled_folder import IMAGES, LABELS, load_folder
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.synthetic.appearance import Generator, Look, Palette, look_of, paint
from mlzsl.train.datasets.synthetic.backdrops import BACKDROP_NAMES, draw_backdrop
from mlzsl.train.datasets.synthetic.drawings import EXTERNALS, TARGETS
from mlzsl.train.datasets.synthetic.icons import mask_of

SCENES_VERSION = 4  # to be raised when a picture of the same seed and number would look different
RECORD_FILE = "scenes.json"
SCENE_SIZE = 128
JPEG_QUALITY = 88

# Objects of one kind of place are likelier to be seen together, before a backdrop of that place.
PLACES = (
    (
        "street",
        "person car motorcycle bus train truck bicycle traffic_light fire_hydrant stop_sign parking_meter bench bird",
    ),
    ("meadow", "person cat dog horse sheep cow elephant bird bench kite umbrella"),
    (
        "water",
        "person airplane boat surfboard kite frisbee sports_ball skateboard skis snowboard tennis_racket baseball_bat",
    ),
    (
        "table",
        "bottle wine_glass cup fork knife spoon bowl banana apple orange broccoli carrot hot_dog pizza donut cake",
    ),
    ("room", "chair couch potted_plant bed dining_table toilet tv clock vase book teddy_bear cat dog"),
    ("desk", "laptop mouse remote keyboard cell_phone book scissors cup clock chair"),
    ("tiles", "microwave oven sink refrigerator toothbrush hair_drier toilet bowl knife bottle"),
    ("hall", "person backpack umbrella handbag tie suitcase bus train airplane cell_phone"),
)
OBJECTS_A_SCENE = (1, 2, 3, 4)
CHANCES_OF_COUNTS = (0.2, 0.35, 0.3, 0.15)
STRANGER = 0.3  # chance that an object comes from anywhere instead of the scene's place
AT_HOME = 0.8  # chance that a scene has its place's backdrop instead of any colours

Pixels = npt.NDArray[np.uint8]


def _external_classes() -> tuple[int, ...]:
    labels = load_label_set("imagenet1k").labels
    return tuple(sorted(labels.index(name) for name in EXTERNALS))


EXTERNAL_CLASSES: tuple[int, ...] = _external_classes()  # places in imagenet1k of the external classes drawn


@dataclass(frozen=True)
class Record:
    """What a folder of scenes was made with; it is reused only when all of it fits."""

    count: int
    seed: int
    size: int
    version: int = SCENES_VERSION


def generate_scenes(folder: Path, count: int, seed: int, size: int = SCENE_SIZE, quiet: bool = False) -> PhotoSet:
    """Write a labelled photo set, `images/*.jpg` and `labels.json`, or reuse the one that is there.

    Args:
        folder: where; made when missing.
        count: number of scenes.
        seed: another seed gives other scenes.
        size: side of the pictures, in pixels.
        quiet: show no progress.

    Raises:
        FailureError: the folder cannot be written.
    """
    record = Record(count, seed, size)
    names = {_name(number) for number in range(count)}
    if _read_record(folder) != asdict(record) or _names_there(folder) != names:
        _write_scenes(folder, record, quiet)
    return load_folder(folder, quiet=quiet)


def generate_single_objects(count: int, seed: int, size: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Draw pictures of one external class each, to pretrain a small backbone.

    Returns:
        uint8 [count, size, size, 3] RGB, and for each picture the place of its class in EXTERNAL_CLASSES,
        int64 [count].
    """
    labels = load_label_set("imagenet1k")
    pictures = np.empty((count, size, size, 3), np.uint8)
    classes = np.empty(count, np.int64)
    for number in range(count):
        generator = np.random.default_rng([SCENES_VERSION, seed, number, 1])
        classes[number] = generator.integers(len(EXTERNAL_CLASSES))
        place = EXTERNAL_CLASSES[classes[number]]
        label, synset = labels.labels[place], labels.synsets[place]
        thing = Thing(look_of(synset), EXTERNALS[label].split())
        backdrop = BACKDROP_NAMES[generator.integers(len(BACKDROP_NAMES))] if generator.random() < AT_HOME else None
        pictures[number] = _picture([thing], size, (0.5, 0.95), generator, backdrop)
    return pictures, classes


def golden_scenes(count: int, size: int) -> Pixels:
    """A few scenes as a network's input, uint8 [count, size, size, 3]; always the same."""
    return np.stack([_scene(number, Record(count, 0, size))[0] for number in range(count)])


def _write_scenes(folder: Path, record: Record, quiet: bool) -> None:
    labels: dict[str, list[str]] = {}
    (folder / RECORD_FILE).unlink(missing_ok=True)  # half-made sets have no record
    for name in _names_there(folder) - {_name(number) for number in range(record.count)}:
        (folder / IMAGES / name).unlink(missing_ok=True)  # of a larger set before
    with progress("drawing scenes", record.count, "scenes", quiet) as bar:
        for number in range(record.count):
            picture, carried = _scene(number, record)
            name = _name(number)
            with written_atomically(folder / IMAGES / name) as temporary:
                Image.fromarray(picture).save(temporary, quality=JPEG_QUALITY)
            labels[name] = sorted(carried)
            bar.advance()
    for name, content in ((LABELS, labels), (RECORD_FILE, asdict(record))):
        with written_atomically(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=0))


def _name(number: int) -> str:
    return f"scene-{number:05d}.jpg"


def _names_there(folder: Path) -> set[str]:
    """The scenes that lie in the folder; whatever else a user keeps there is not ours."""
    return {path.name for path in (folder / IMAGES).glob("scene-*.jpg")}


def _read_record(folder: Path) -> object:
    try:
        return json.loads((folder / RECORD_FILE).read_text())
    except (OSError, ValueError):
        return None


def _scene(number: int, record: Record) -> tuple[Pixels, set[str]]:
    """One scene and the labels it carries."""
    generator = np.random.default_rng([record.version, record.seed, number, 0])
    place, usual = PLACES[generator.integers(len(PLACES))]
    backdrop = place if generator.random() < AT_HOME else None
    anything = list(TARGETS)
    count = generator.choice(OBJECTS_A_SCENE, p=CHANCES_OF_COUNTS)
    labels = []
    for _ in range(count):
        choices = anything if generator.random() < STRANGER else usual.split()
        labels.append(str(generator.choice(choices)).replace("_", " "))
    scale = (0.42, 0.62) if count <= 2 else (0.34, 0.5)
    objects = [Thing(_target_look(label), TARGETS[label].split()) for label in labels]
    return _picture(objects, record.size, scale, generator, backdrop), set(labels)


@dataclass(frozen=True)
class Thing:
    """An object to draw: how it looks, and the drawings that it may be."""

    look: Look
    drawings: list[str]


def _target_look(label: str) -> Look:
    labels = load_label_set("coco80")
    return look_of(labels.synsets[labels.labels.index(label)])


def _picture(
    objects: list[Thing], size: int, scale: tuple[float, float], generator: Generator, backdrop: str | None
) -> Pixels:
    """Background, clutter, objects back to front, something in front, and a camera's noise."""
    canvas, ground = _background(size, generator, backdrop)
    for _ in range(generator.integers(1, 6)):
        _clutter(canvas, ground, generator)
    corners = generator.permutation(4)
    for place, thing in enumerate(objects):
        corner = None if len(objects) == 1 else int(corners[place % 4])
        _paste_object(canvas, str(generator.choice(thing.drawings)), thing.look, ground, scale, corner, generator)
    if generator.random() < 0.3:
        _clutter(canvas, ground, generator)
    if generator.random() < 0.3:
        canvas = canvas.filter(ImageFilter.GaussianBlur(generator.uniform(0.2, 0.5) * size / 64))
    noise = generator.normal(0, generator.uniform(2, 9), (size, size, 1))
    return np.clip(np.asarray(canvas, np.float32) + noise + 0.5, 0, 255).astype(np.uint8)


def _background(size: int, generator: Generator, backdrop: str | None) -> tuple[Image.Image, npt.NDArray[np.float64]]:
    """A backdrop, or a gradient of any colours, with coarse texture, and its mean colour."""
    pixels = draw_backdrop(backdrop, size, generator) if backdrop else _gradient(size, generator)
    cells = generator.normal(0, generator.uniform(0, 14), (8, 8))
    texture = np.asarray(Image.fromarray(cells.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
    pixels = np.clip(pixels + texture[..., None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)), pixels.mean(axis=(0, 1))


def _gradient(size: int, generator: Generator) -> npt.NDArray[np.float64]:
    """From one colour to a near one, in any direction."""
    colour = Palette(saturation=(0.05, 0.6)).colour(generator)
    other = np.clip(colour + generator.normal(0, 30, 3), 0, 255)
    angle = generator.uniform(0, 2 * np.pi)
    along = np.linspace(-0.5, 0.5, size)
    slope = (np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None] + 0.5)[..., None]
    pixels: npt.NDArray[np.float64] = colour * (1 - slope) + other * slope
    return pixels


def _clutter(canvas: Image.Image, ground: npt.NDArray[np.float64], generator: Generator) -> None:
    """A bar, an ellipse or a box, of a colour near the background's."""
    size = canvas.width
    x, y = generator.uniform(0, size, 2)
    reach = size * generator.uniform(0.05, 0.22)
    shade = tuple(int(value) for value in np.clip(ground + generator.normal(0, 28, 3), 0, 255))
    pen = ImageDraw.Draw(canvas)
    kind = generator.integers(3)
    if kind == 0:
        dx, dy = generator.normal(0, size / 2, 2)
        pen.line((x, y, x + dx, y + dy), fill=shade, width=max(1, int(reach / 5)))
    elif kind == 1:
        pen.ellipse((x - reach, y - reach / 2, x + reach, y + reach / 2), fill=shade)
    else:
        pen.rectangle((x - reach / 2, y - reach / 2, x + reach / 2, y + reach / 2), fill=shade)


def _paste_object(
    canvas: Image.Image,
    drawing: str,
    look: Look,
    ground: npt.NDArray[np.float64],
    scale: tuple[float, float],
    corner: int | None,
    generator: Generator,
) -> None:
    """Draw one object: scaled, turned, mirrored, coloured, around a quarter of the canvas or its middle."""
    side = max(8, round(canvas.width * generator.uniform(*scale)))
    mask = mask_of(drawing).rotate(generator.uniform(-18, 18), Image.Resampling.BILINEAR, expand=True)
    if generator.random() < 0.5:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width = max(6, round(side * generator.uniform(0.85, 1.15)))
    mask = mask.resize((width, side), Image.Resampling.BILINEAR)
    centre = (
        np.array([0.5, 0.5]) if corner is None else np.array([0.28 + 0.44 * (corner % 2), 0.28 + 0.44 * (corner // 2)])
    )
    centre = (centre + generator.uniform(-0.1, 0.1, 2)) * canvas.width
    left, top = round(centre[0] - width / 2), round(centre[1] - side / 2)
    surface = paint(side, width, look, ground, generator)
    canvas.paste(Image.fromarray(surface.astype(np.uint8)), (left, top), mask)

"""The synthetic photo set: scenes of drawn objects for training and demos without a download.

Objects vary in drawing, colour, size, rotation and position, overlap and are partly hidden. Backgrounds have gradients,
texture and clutter; images are noisy and JPEG-compressed. An image depends only on the seed and its number, so the same
seed gives the same set on every machine.
"""

import functools
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageDraw, ImageFilter

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.outputs import sha256_of_bytes, sha256_of_file, written_atomically
from mlzsl.cli.progress import progress
from mlzsl.graph.labels.sets import load_label_set, require_synsets
from mlzsl.imaging.labelled_folder import IMAGES, LABELS, load_folder
from mlzsl.imaging.photoset import PhotoSet
from mlzsl.train.datasets.synthetic.appearance import (
    BACKDROPS,
    Appearance,
    Generator,
    Palette,
    appearance_of,
    draw_backdrop,
    paint,
)
from mlzsl.train.datasets.synthetic.drawings import EXTERNALS, TARGETS
from mlzsl.train.datasets.synthetic.icons import mask_of

SCENES_VERSION = 4  # increase it when the image of a seed and number changes
SETTINGS_FILE = "scenes.json"
SCENE_SIZE = 128
JPEG_QUALITY = 88

# Scene types: the backdrop, and the labels that occur together in front of it.
SCENE_TYPES = (
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
OBJECTS_PER_SCENE = (1, 2, 3, 4)
OBJECT_COUNT_PROBABILITIES = (0.2, 0.35, 0.3, 0.15)
ANY_LABEL_PROBABILITY = 0.3  # of drawing an object's label from all labels instead of the scene type's
BACKDROP_PROBABILITY = 0.8  # of the scene type's backdrop instead of a gradient of any colours

Pixels = npt.NDArray[np.uint8]


@functools.cache
def external_classes() -> tuple[int, ...]:
    """The indices in imagenet1k of the external classes that have a drawing, ascending."""
    labels = load_label_set("imagenet1k").labels
    return tuple(sorted(labels.index(name) for name in EXTERNALS))


def drawing_versions() -> dict[str, str]:
    """The versions of all that the image of a seed and number depends on: this code, fonts, drawing, random numbers."""
    installed = {each.name.lower(): each.version for each in importlib.metadata.distributions(name="qtawesome")}
    return {"scenes": str(SCENES_VERSION), "numpy": np.__version__, "pillow": PIL.__version__} | installed


@dataclass(frozen=True)
class SceneSettings:
    """The settings of a folder of scenes; stored as scenes.json with `drawing_versions` and a hash of all files.

    The folder is reused only if all three are the same.
    """

    count: int
    seed: int
    size: int
    version: int = SCENES_VERSION


def generate_scenes(folder: Path, count: int, seed: int, size: int = SCENE_SIZE, quiet: bool = False) -> PhotoSet:
    """Write a labelled photo set, `images/*.jpg` and `labels.json`, or reuse one made with the same settings.

    Args:
        folder: created if missing.
        count: number of scenes.
        seed: of everything random.
        size: side of the images, in pixels.
        quiet: show no progress.

    Raises:
        FailureError: the folder cannot be written.
    """
    settings = SceneSettings(count, seed, size)
    if _read_settings(folder) != _description(folder, settings):
        _write_scenes(folder, settings, quiet)
    return load_folder(folder, quiet=quiet)


def generate_single_objects(count: int, seed: int, size: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Draw images of one external class each, to pretrain a small backbone.

    Returns:
        uint8 [count, size, size, 3] RGB, and for each image the index of its class in `external_classes()`,
        int64 [count].
    """
    imagenet = load_label_set("imagenet1k")
    images, classes = np.empty((count, size, size, 3), np.uint8), np.empty(count, np.int64)
    for number in range(count):
        generator = np.random.default_rng([SCENES_VERSION, seed, number, 1])
        classes[number] = generator.integers(len(external_classes()))
        index = external_classes()[classes[number]]
        item = imagenet.synsets[index], EXTERNALS[imagenet.labels[index]].split()
        has_backdrop = generator.random() < BACKDROP_PROBABILITY
        backdrop = list(BACKDROPS)[generator.integers(len(BACKDROPS))] if has_backdrop else None
        images[number] = _render([item], size, (0.5, 0.95), generator, backdrop)
    return images, classes


def golden_scenes(count: int, size: int) -> Pixels:
    """The first scenes of seed 0 as a network's input, uint8 [count, size, size, 3]."""
    return np.stack([_scene(number, SceneSettings(count, 0, size))[0] for number in range(count)])


def _write_scenes(folder: Path, settings: SceneSettings, quiet: bool) -> None:
    labels: dict[str, list[str]] = {}
    try:
        (folder / SETTINGS_FILE).unlink(missing_ok=True)  # an incomplete set has no settings
        for name in _scene_files(folder) - {_name(number) for number in range(settings.count)}:
            (folder / IMAGES / name).unlink(missing_ok=True)  # of a larger set generated here before
    except OSError as error:
        raise FailureError(f"{folder}: could not be written: {reason_of(error)}; choose another folder.") from error
    with progress("drawing scenes", settings.count, "scenes", quiet) as bar:
        for number in range(settings.count):
            image, scene_labels = _scene(number, settings)
            with written_atomically(folder / IMAGES / _name(number)) as temporary:
                Image.fromarray(image).save(temporary, quality=JPEG_QUALITY)
            labels[_name(number)] = sorted(scene_labels)
            bar.advance()
    with written_atomically(folder / LABELS) as temporary:
        temporary.write_text(json.dumps(labels, indent=0))
    with written_atomically(folder / SETTINGS_FILE) as temporary:
        temporary.write_text(json.dumps(_description(folder, settings), indent=0))


def _name(number: int) -> str:
    return f"scene-{number:05d}.jpg"


def _scene_files(folder: Path) -> set[str]:
    """The names of the scenes in a folder; a user's other files are left alone."""
    return {path.name for path in (folder / IMAGES).glob("scene-*.jpg")}


def _description(folder: Path, settings: SceneSettings) -> dict[str, object]:
    """What scenes.json holds if the folder has the scenes of these settings."""
    names = [LABELS, *(f"{IMAGES}/{name}" for name in sorted(_scene_files(folder)))]
    try:
        hashes = [f"{name} {sha256_of_file(folder / name)}".encode() for name in names]
    except OSError:  # labels.json is missing
        hashes = []
    return asdict(settings) | {"libraries": drawing_versions(), "sha256": sha256_of_bytes(*hashes)}


def _read_settings(folder: Path) -> object:
    try:
        return json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return None


def _scene(number: int, settings: SceneSettings) -> tuple[Pixels, set[str]]:
    """Draw one scene; return it with its labels."""
    generator = np.random.default_rng([settings.version, settings.seed, number, 0])
    name, typical = SCENE_TYPES[generator.integers(len(SCENE_TYPES))]
    backdrop = name if generator.random() < BACKDROP_PROBABILITY else None
    count = generator.choice(OBJECTS_PER_SCENE, p=OBJECT_COUNT_PROBABILITIES)
    labels = []
    for _ in range(count):
        choices = list(TARGETS) if generator.random() < ANY_LABEL_PROBABILITY else typical.split()
        labels.append(str(generator.choice(choices)).replace("_", " "))
    scale = (0.42, 0.62) if count <= 2 else (0.34, 0.5)
    coco = load_label_set("coco80")
    synsets = require_synsets(coco, "a scene")
    objects = [(synsets[coco.labels.index(each)], TARGETS[each].split()) for each in labels]
    return _render(objects, settings.size, scale, generator, backdrop), set(labels)


def _render(
    objects: list[tuple[str, list[str]]],
    size: int,
    scale: tuple[float, float],
    generator: Generator,
    backdrop: str | None,
) -> Pixels:
    """Draw the background, clutter, the objects back to front and clutter before them; add blur and noise.

    An object is its synset, which decides its appearance, and the drawings to choose from.
    """
    canvas, background = _background(size, generator, backdrop)
    for _ in range(generator.integers(1, 6)):
        _clutter(canvas, background, generator)
    corners = generator.permutation(4)
    for index, (synset, drawings) in enumerate(objects):
        corner = None if len(objects) == 1 else int(corners[index % 4])
        drawing = str(generator.choice(drawings))
        _paste_object(canvas, drawing, appearance_of(synset), background, scale, corner, generator)
    if generator.random() < 0.3:
        _clutter(canvas, background, generator)
    if generator.random() < 0.3:
        canvas = canvas.filter(ImageFilter.GaussianBlur(generator.uniform(0.2, 0.5) * size / 64))
    noise = generator.normal(0, generator.uniform(2, 9), (size, size, 1))
    return np.clip(np.asarray(canvas, np.float32) + noise + 0.5, 0, 255).astype(np.uint8)


def _background(size: int, generator: Generator, backdrop: str | None) -> tuple[Image.Image, npt.NDArray[np.float64]]:
    """A backdrop, or a gradient of random colours, with coarse texture; and its mean colour, RGB [3]."""
    pixels = draw_backdrop(backdrop, size, generator) if backdrop else _gradient(size, generator)
    cells = generator.normal(0, generator.uniform(0, 14), (8, 8))
    texture = np.asarray(Image.fromarray(cells.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
    pixels = np.clip(pixels + texture[..., None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)), pixels.mean(axis=(0, 1))


def _gradient(size: int, generator: Generator) -> npt.NDArray[np.float64]:
    """A gradient from a colour to a similar one, in a random direction."""
    colour = Palette(saturation=(0.05, 0.6)).colour(generator)
    other = np.clip(colour + generator.normal(0, 30, 3), 0, 255)
    angle = generator.uniform(0, 2 * np.pi)
    along = np.linspace(-0.5, 0.5, size)
    share = (np.cos(angle) * along[None, :] + np.sin(angle) * along[:, None] + 0.5)[..., None]
    pixels: npt.NDArray[np.float64] = colour * (1 - share) + other * share
    return pixels


def _clutter(canvas: Image.Image, background: npt.NDArray[np.float64], generator: Generator) -> None:
    """Draw a line, an ellipse or a rectangle in a colour similar to the background's."""
    size = canvas.width
    x, y = generator.uniform(0, size, 2)
    reach = size * generator.uniform(0.05, 0.22)
    colour = tuple(int(value) for value in np.clip(background + generator.normal(0, 28, 3), 0, 255))
    draw = ImageDraw.Draw(canvas)
    kind = generator.integers(3)
    if kind == 0:
        dx, dy = generator.normal(0, size / 2, 2)
        draw.line((x, y, x + dx, y + dy), fill=colour, width=max(1, int(reach / 5)))
    elif kind == 1:
        draw.ellipse((x - reach, y - reach / 2, x + reach, y + reach / 2), fill=colour)
    else:
        draw.rectangle((x - reach / 2, y - reach / 2, x + reach / 2, y + reach / 2), fill=colour)


def _paste_object(
    canvas: Image.Image,
    drawing: str,
    appearance: Appearance,
    background: npt.NDArray[np.float64],
    scale: tuple[float, float],
    corner: int | None,
    generator: Generator,
) -> None:
    """Paste one object, scaled, rotated, mirrored and painted, around a quarter of the canvas or its centre."""
    side = max(8, round(canvas.width * generator.uniform(*scale)))
    mask = mask_of(drawing).rotate(generator.uniform(-18, 18), Image.Resampling.BILINEAR, expand=True)
    if generator.random() < 0.5:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    width = max(6, round(side * generator.uniform(0.85, 1.15)))
    mask = mask.resize((width, side), Image.Resampling.BILINEAR)
    middle = (0.5, 0.5) if corner is None else (0.28 + 0.44 * (corner % 2), 0.28 + 0.44 * (corner // 2))
    x, y = (middle + generator.uniform(-0.1, 0.1, 2)) * canvas.width
    surface = paint(side, width, appearance, background, generator)
    canvas.paste(Image.fromarray(surface.astype(np.uint8)), (round(x - width / 2), round(y - side / 2)), mask)

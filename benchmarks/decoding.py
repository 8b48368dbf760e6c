"""Which decoder is fastest, and how many tags does each flip compared with a photo decoded at its full size?

All decoders squash the same JPEG files to squares, interleaved, on one thread. Processor time is measured, so that
other work on the machine hardly matters. Tags are the five best of the backbone's own 1,000 classes, which need no
trained head. The filter matters as much as the decoder: "triangle" is
Pillow's antialiased bilinear, with which backbones are trained; "area" and "linear" are OpenCV's.

    python benchmarks/decoding.py PHOTOS --weights resnet50.pth [--backbone resnet50] [--count 120] [--repeats 5]
"""

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from mlzsl.imaging import Preprocessing, load_image
from mlzsl.train.backbones.backbone import Backbone
from mlzsl.train.backbones.opening import open_backbone

Pixels = npt.NDArray[np.uint8]
Decoder = Callable[[bytes, int], Pixels]
BEST = 5
BATCH = 16


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="The backbone's weights, a .pth file.")
@click.option("--backbone", default="resnet50")
@click.option("--size", default=224, help="S, the side of the square.")
@click.option("--count", default=120, help="Photos to decode.")
@click.option("--repeats", default=5, help="Times that each decoder is timed; medians are shown.")
def main(photos: Path, weights: Path | None, backbone: str, size: int, count: int, repeats: int) -> None:
    """Compare decoders on the JPEG files of a folder."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    contents = [path.read_bytes() for path in sorted(photos.glob("*.jp*g"))[:count]]
    times = timed(contents, size, repeats)
    network = open_backbone(backbone, weights, size)
    reference = probabilities(network, contents, DECODERS["Pillow, full size, triangle"], size)
    kilobytes = sum(map(len, contents)) / len(contents) / 1000
    table = Table(
        title=f"{len(contents)} JPEG files of {kilobytes:.0f} KB to {size} px, one thread, median of {repeats}; "
        f"tags: best {BEST} of {backbone}'s classes",
        title_justify="left",
    )
    for heading in ("decoder", "ms a photo", "against ours", "spread", "tags flipped", "best class flipped"):
        table.add_column(heading, justify="left" if heading == "decoder" else "right")
    for name, decode in DECODERS.items():
        ratios = [other / ours for other, ours in zip(times[name], times[OURS], strict=True)]
        found = probabilities(network, contents, decode, size)
        table.add_row(
            name,
            f"{statistics.median(times[name]):.2f}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            f"{flipped(reference, found, BEST):.1%}",
            f"{flipped(reference, found, 1):.1%}",
        )
    Console(width=140).print(table)


def pillow_full(content: bytes, size: int) -> Pixels:
    """The reference: every pixel decoded, then squashed once."""
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def ours(content: bytes, size: int) -> Pixels:
    """The decoder that training and tagging use."""
    return load_image(content, Preprocessing(size))


def opencv(flag: int, interpolation: int) -> Decoder:
    """OpenCV's decoder and resize."""

    def decode(content: bytes, size: int) -> Pixels:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
        return cv2.cvtColor(cv2.resize(pixels, (size, size), interpolation=interpolation), cv2.COLOR_BGR2RGB)

    return decode


def simple(interpolation: int | None) -> Decoder:
    """libjpeg-turbo at the smallest scale that is no smaller than the square, then OpenCV's or Pillow's resize."""

    def decode(content: bytes, size: int) -> Pixels:
        pixels = simplejpeg.decode_jpeg(content, min_height=size, min_width=size, min_factor=2, strict=False)
        if interpolation is not None:
            return cv2.resize(pixels, (size, size), interpolation=interpolation)
        return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))

    return decode


OURS = "ours: Pillow, reduced, triangle"
DECODERS: dict[str, Decoder] = {
    "Pillow, full size, triangle": pillow_full,
    OURS: ours,
    "simplejpeg, reduced, triangle": simple(None),
    "simplejpeg, reduced, area": simple(cv2.INTER_AREA),
    "simplejpeg, reduced, linear": simple(cv2.INTER_LINEAR),
    "OpenCV, full size, area": opencv(cv2.IMREAD_COLOR, cv2.INTER_AREA),
    "OpenCV, reduced by 2, area": opencv(cv2.IMREAD_REDUCED_COLOR_2, cv2.INTER_AREA),
    "OpenCV, reduced by 2, linear": opencv(cv2.IMREAD_REDUCED_COLOR_2, cv2.INTER_LINEAR),
}


def timed(contents: list[bytes], size: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of processor time per photo and repeat, the decoders interleaved after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in DECODERS}
    for turn in range(repeats + 1):
        for name, decode in DECODERS.items():
            started = time.process_time()
            for content in contents:
                decode(content, size)
            if turn:
                times[name].append(1000 * (time.process_time() - started) / len(contents))
    return times


def probabilities(network: Backbone, contents: list[bytes], decode: Decoder, size: int) -> npt.NDArray[np.float32]:
    """The backbone's probabilities for the decoded photos: float32 [photos, classes]."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(contents), BATCH):
            images = np.stack([decode(content, size) for content in contents[start : start + BATCH]])
            found.append(network(torch.from_numpy(images))[1].softmax(dim=1).numpy())
    return np.concatenate(found)


def flipped(reference: npt.NDArray[np.float32], found: npt.NDArray[np.float32], best: int) -> float:
    """The share of the best classes that are no longer among the best."""

    def chosen(rows: npt.NDArray[np.float32]) -> list[set[int]]:
        return [set(np.argsort(-row, kind="stable")[:best].tolist()) for row in rows]

    lost = sum(len(a - b) for a, b in zip(chosen(reference), chosen(found), strict=True))
    return lost / (best * len(reference))


if __name__ == "__main__":
    main()

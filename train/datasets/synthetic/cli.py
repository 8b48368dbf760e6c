"""The command `mlzsl-scenes`."""

from pathlib import Path

import click

from mlzsl.cli.command import command
from mlzsl.cli.options import quiet_option


@command("mlzsl-scenes")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--count", default=100, type=click.IntRange(1, 1_000_000), help="Number of scenes.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**31 - 1), help="Seed of everything random.")
@click.option("--size", default=256, type=click.IntRange(32, 2048), help="Side of the images in pixels.")
@quiet_option
def main(folder: Path, count: int, seed: int, size: int, quiet: bool) -> None:
    """Generate labelled synthetic photos in FOLDER: images/*.jpg and labels.json.

    Each scene shows one to four objects of the COCO classes. The same seed gives the same scenes.

    \b
    Examples:
      mlzsl-scenes demo --count 60 --seed 7
      mlzsl-infer demo/images
    """
    from mlzsl.train.datasets.synthetic.scenes import generate_scenes

    photos = generate_scenes(folder, count, seed, size, quiet=quiet)
    if not quiet:
        labels = frozenset().union(*photos.labels)
        click.echo(f"{len(photos)} scenes with {len(labels)} labels in {folder / 'images'}")

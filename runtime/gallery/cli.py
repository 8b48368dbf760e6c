"""`mlzsl-gallery`: write a page of tagged photos."""

import dataclasses
from pathlib import Path

import click

from mlzsl.cli.command import command
from mlzsl.cli.options import json_option, quiet_option
from mlzsl.runtime.gallery.page import write_gallery
from mlzsl.runtime.report import print_json


@command("mlzsl-gallery")
@click.argument("tags", default="tags.jsonl", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default=Path("gallery.html"), type=click.Path(path_type=Path), help="The page to write."
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads that decode.  [default: every core]")
@quiet_option
@json_option
def main(tags: Path, output: Path, threads: int | None, quiet: bool, as_json: bool) -> None:
    """Write an HTML page of the photos in TAGS, a file of mlzsl-infer; the photos must not have moved.

    The page shows a thumbnail of each photo, its tags with their scores, the files that could not be read, and the
    record of the run. It has filters, opens from disk, and loads nothing.

    \b
    Examples:
      mlzsl-gallery
      mlzsl-gallery holidays.csv --output holidays.html
    """
    counts = write_gallery(tags, output, threads, quiet or as_json)
    if as_json:
        print_json({"page": output} | dataclasses.asdict(counts))
    elif not quiet:
        shown = f"{counts.photos_shown:,} of {counts.photos:,} photos"
        unreadable = f"{counts.unreadable_shown:,} of {counts.unreadable:,} unreadable files"
        click.echo(f"wrote {output}: {shown}, {unreadable}, {output.stat().st_size / 1e6:.1f} MB")

"""`mlzsl-gallery`: parse, write the page, print."""

import dataclasses
import json
from pathlib import Path

import click

from mlzsl.cli.command import command
from mlzsl.cli.options import json_option, quiet_option
from mlzsl.runtime.gallery.page import write_gallery


@command("mlzsl-gallery")
@click.argument("tags", default="tags.jsonl", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default=Path("gallery.html"), type=click.Path(path_type=Path), help="The page to write."
)
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Photos decoded at once.  [default: every core]")
@quiet_option
@json_option
def main(tags: Path, output: Path, threads: int | None, quiet: bool, as_json: bool) -> None:
    """Make a page to look at from TAGS, a file that mlzsl-infer wrote; the photos must still be where they were.

    The page holds a thumbnail of each photo, its tags with their scores, the files that could not be read, and what
    made the tags, as far as the record beside TAGS tells. It opens from disk and loads nothing.

    \b
    Examples:
      mlzsl-gallery
      mlzsl-gallery holidays.csv --output holidays.html
    """
    counts = write_gallery(tags, output, threads, quiet or as_json)
    if as_json:
        click.echo(json.dumps({"page": str(output)} | dataclasses.asdict(counts), indent=2))
    elif not quiet:
        shown = f"{counts.photos_shown:,} of {counts.photos:,} photos"
        unreadable = f"{counts.unreadable_shown:,} of {counts.unreadable:,} unreadable files"
        click.echo(f"wrote {output}: {shown}, {unreadable}, {output.stat().st_size / 1e6:.1f} MB")

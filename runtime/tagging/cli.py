"""`mlzsl-infer`: parse, tag, print."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import FiniteFloat, json_option, quiet_option
from mlzsl.cli.progress import log
from mlzsl.imaging.finding import describe_skipped
from mlzsl.runtime.engine_options import engine_options
from mlzsl.runtime.gallery.contact_sheet import check_picture, draw_contact_sheet
from mlzsl.runtime.gallery.page import check_gallery, write_gallery
from mlzsl.runtime.io.inputs import PATH_COLUMN
from mlzsl.runtime.io.writers import STANDARD_OUTPUT
from mlzsl.runtime.tagging.job import TaggingResult, record_path, tag_to_file
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.tags import Tag, Tagged

PHOTOS_SHOWN = 8
NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps a label and its score on one line


@command("mlzsl-infer")
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option(
    "--engine",
    default=Path("model.onnx"),
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model file that mlzsl-export wrote.",
)
@click.option(
    "-o",
    "--output",
    default="tags.jsonl",
    metavar="FILE",
    help="Where the tags go: .jsonl, .csv, .parquet, or - for JSONL on standard output.",
)
@click.option("--resume", is_flag=True, help="Go on with the job that was broken off, if there is one.")
@click.option("--restart", is_flag=True, help="Throw the job that was broken off away, and begin anew.")
@click.option(
    "--path-column",
    default=PATH_COLUMN,
    metavar="NAME",
    help="The column of .csv, .tsv and .parquet PHOTOS with paths.",
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="The best K labels of each photo.")
@click.option(
    "--threshold",
    type=FiniteFloat(0, 1),
    metavar="T",
    help="Every label whose score reaches T; with --top-k the best K of those.  "
    "[default: the model's own thresholds where it has them, else the best 5]",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also draw the first photos with their tags, as a .png or .jpg to look at.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also make a page to look at, an .html of all photos with their tags, to filter and open from disk.",
)
@click.option("--batch-size", default=DEFAULT_BATCH_SIZE, type=click.IntRange(1), help="Photos a batch.")
@engine_options
@quiet_option
@json_option
def main(
    photos: tuple[str, ...],
    engine: Path,
    output: str,
    resume: bool,
    restart: bool,
    path_column: str,
    top_k: int | None,
    threshold: float | None,
    picture: Path | None,
    report: Path | None,
    quiet: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Tag PHOTOS: files, folders with all they hold, quoted patterns, or - for a list on standard input; tar shards
    (.tar, .tar.gz) stand for the images in them, tables (.csv, .tsv, .parquet) for the files that a column names.

    Writes one record a photo, in the order of the input: its path and its tags with scores, best first, or the
    reason why it could not be read. What ran, and how, is recorded beside the tags in tags.jsonl.run.json.

    \b
    Examples:
      mlzsl-infer images/
      mlzsl-infer images/ --engine my_tagger.onnx --top-k 3 --output tags.csv
      mlzsl-infer 'photos/2024-*/**/*.jpg' --threshold 0.5
      find /photos -name '*.jpg' -print0 | mlzsl-infer - --quiet
      mlzsl-infer 'shards/*.tar' --output tags.parquet --resume
      mlzsl-infer images/ --picture tagged.png --report gallery.html
      mlzsl-infer cat.jpg --output - | jq .tags
    """
    if not photos:
        raise UsageError("no photos were named; try `mlzsl-infer images/`, or see `mlzsl-infer --help`.")
    if resume and restart:
        raise UsageError("--resume and --restart: the one goes on, the other throws away; choose one.")
    if as_json and output == STANDARD_OUTPUT:
        raise UsageError("--json: the summary would stand among the tags of --output -; leave one of them out.")
    if picture is not None:
        check_picture(picture)
    if report is not None:
        _check_report(report, output)
    silent = quiet or as_json
    with Tagger.open(engine, top_k=top_k, threshold=threshold, **asked) as tagger:
        log(f"{engine}: {len(tagger.manifest.labels)} labels, on {tagger.execution}", silent)
        log(_certificate(tagger, engine), silent)
        outcome = tag_to_file(
            tagger, photos, output, engine, silent, path_column=path_column, resume=resume, restart=restart
        )
        if picture is not None:
            draw_contact_sheet(outcome.sample, picture, tagger.manifest)
    if report is not None:
        write_gallery(output, report, tagger.threads, silent)
    if as_json:
        summary = outcome.record | {
            "output": output,
            "photos_per_second": round(outcome.photos_per_second, 1),
            "reasons": [{"path": photo.path, "error": photo.error} for photo in outcome.reasons],
            "picture": None if picture is None else str(picture),
            "report": None if report is None else str(report),
        }
        click.echo(json.dumps(summary, indent=2))
    elif not quiet:
        _print(outcome, output, picture, report)


def _check_report(report: Path, output: str) -> None:
    if output == STANDARD_OUTPUT:
        raise UsageError(f"--report {report}: is made from a file of tags, not from --output -; name one.")
    check_gallery(output, report)


def _certificate(tagger: Tagger, engine: Path) -> str:
    """What vouches for the engine that runs, as one line."""
    certificate = tagger.certificate
    if certificate is None:
        return f"{engine}: no certificate for this engine; check it with `mlzsl-verify {engine} --certify`"
    execution = tagger.execution
    same = (certificate.version, certificate.device) == (execution.version, execution.device)
    return f"{engine}: certified on {certificate.photos:,} pictures, {certificate.made[:10]}" + (
        "" if same else f", with {certificate.backend} {certificate.version} on {certificate.device}"
    )


def _print(outcome: TaggingResult, output: str, picture: Path | None, report: Path | None) -> None:
    tags_on_standard_output = output == STANDARD_OUTPUT
    console = Console(stderr=tags_on_standard_output, highlight=False)
    if console.is_terminal and not tags_on_standard_output:
        console.print(_table(outcome.sample[:PHOTOS_SHOWN]))
    rate = outcome.photos_per_second
    words = f"tagged {outcome.tagged:,} photos in {outcome.seconds:.1f} s ({rate:.{0 if rate >= 10 else 1}f} photos/s)"
    if outcome.resumed:
        words += f"; {outcome.resumed:,} photos had been done before"
    if outcome.unreadable:
        words += f"; {outcome.unreadable:,} could not be read:"
    _line(console, words)
    for photo in outcome.reasons:
        _line(console, f"  {photo.name}: {photo.error}")
    if outcome.unreadable > len(outcome.reasons):
        _line(console, f"  and {outcome.unreadable - len(outcome.reasons):,} more")
    if outcome.skipped:
        _line(console, describe_skipped(outcome.skipped))
    if not tags_on_standard_output:
        written = [output, record_path(output), *filter(None, (picture, report))]
        _line(console, "wrote " + " and ".join(map(str, written)))


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _table(photos: tuple[Tagged, ...]) -> Table:
    unseen = any(not tag.seen for photo in photos for tag in photo.tags)
    table = Table(title="First photos", title_justify="left", caption_justify="left")
    table.caption = "* never seen in training" if unseen else None
    table.add_column("photo", overflow="fold")
    table.add_column("tags", overflow="fold")
    for photo in photos:
        table.add_row(Text(Path(photo.name).name), Text(", ").join(map(_words, photo.tags)))
    return table


def _words(tag: Tag) -> Text:
    label = tag.label.replace(" ", NO_BREAK)
    name = (label, "bold") if tag.seen else (f"{label}*", "bold magenta")
    return Text.assemble(name, (f"{NO_BREAK}{tag.score:.2f}", "dim"))

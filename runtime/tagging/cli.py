"""`mlzsl-infer`: tag photos."""

import glob
import os
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import FiniteFloat, json_option, quiet_option, refuse_unused
from mlzsl.cli.progress import log
from mlzsl.cli.text import plural
from mlzsl.imaging.finding import STANDARD_INPUT, describe_skipped
from mlzsl.runtime.engine_options import engine_options
from mlzsl.runtime.gallery.contact_sheet import check_picture, draw_contact_sheet
from mlzsl.runtime.gallery.page import check_gallery, write_gallery
from mlzsl.runtime.io.inputs import PATH_COLUMN, TABLES, open_inputs
from mlzsl.runtime.io.run_record import record_path
from mlzsl.runtime.io.tag_files import STANDARD_OUTPUT, check_output
from mlzsl.runtime.report import UNSEEN_NOTE, print_json, print_parts, rate, table
from mlzsl.runtime.tagging.job import tag_to_file
from mlzsl.runtime.tagging.journal import check_unfinished
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE
from mlzsl.runtime.tagging.result import MIN_PHOTOS_OF_SHARE, ErrorLimit, TaggingResult
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.tags import DEFAULT_SCORE, DEFAULT_TOP_K, Tag, Tagged

PHOTOS_SHOWN = 8
NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps a label and its score on one line


@command("mlzsl-infer")
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option(
    "--engine",
    default=Path("model.onnx"),
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model file.",
)
@click.option(
    "-o",
    "--output",
    default="tags.jsonl",
    metavar="FILE",
    help="Output file: .jsonl, .csv, .parquet, or - for JSONL on standard output.",
)
@click.option("--resume", is_flag=True, help="Resume the unfinished job of this output, if there is one.")
@click.option("--restart", is_flag=True, help="Delete the unfinished job of this output, and start over.")
@click.option("--retry-errors", is_flag=True, help="With --resume, try photos again that could not be read.")
@click.option(
    "--max-errors",
    metavar="N|N%",
    help=f"Fail if more photos cannot be read: a number, or a percentage, from {MIN_PHOTOS_OF_SHARE} photos on.  "
    "[default: fail only if none can be read]",
)
@click.option(
    "--path-column",
    default=PATH_COLUMN,
    metavar="NAME",
    help="The column of .csv, .tsv and .parquet PHOTOS with the paths.",
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Select the best K labels of each photo.")
@click.option(
    "--threshold",
    type=FiniteFloat(0, 1),
    metavar="T",
    help="Select labels whose score reaches T; with --top-k the best K of those.  "
    f"[default: the model's own thresholds; if it has none, of the best {DEFAULT_TOP_K} labels those that reach "
    f"{DEFAULT_SCORE}]",
)
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also draw the first photos with their tags, as a .png or .jpg contact sheet.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write an .html gallery of all photos with their tags and filters.",
)
@click.option("--batch-size", default=DEFAULT_BATCH_SIZE, type=click.IntRange(1), help="Photos per batch.")
@engine_options
@quiet_option
@json_option
def main(
    photos: tuple[str, ...],
    engine: Path,
    output: str,
    resume: bool,
    restart: bool,
    retry_errors: bool,
    max_errors: str | None,
    path_column: str,
    top_k: int | None,
    threshold: float | None,
    picture: Path | None,
    report: Path | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Tag PHOTOS: files, folders, quoted patterns, or - for a list on standard input; tar shards (.tar, .tar.gz) give
    the images in them, tables (.csv, .tsv, .parquet) the files named in a column.

    Writes one record per photo, in the order of the input: its path and its tags with scores, best first, or the
    reason why it could not be read. The record of the run is written beside the tags, as tags.jsonl.run.json.

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
        raise UsageError("PHOTOS: no photos are named; try `mlzsl-infer images/`, or see `mlzsl-infer --help`.")
    if resume and restart:
        raise UsageError("--resume and --restart: one continues the unfinished job, the other deletes it; choose one.")
    if retry_errors and not resume:
        raise UsageError("--retry-errors: takes effect with --resume only; add it.")
    if max_errors is not None:
        ErrorLimit(max_errors)
    if not any(name == STANDARD_INPUT or name.lower().endswith(TABLES) or glob.has_magic(name) for name in photos):
        refuse_unused("without a table among PHOTOS", "path_column")
    if output == STANDARD_OUTPUT:
        refuse_unused("with --output -, which has no unfinished job to keep", "resume", "restart")
        if as_json:
            raise UsageError("--json: standard output already has the tags of --output -; leave one of them out.")
    check_output(output)
    if report is not None and (output == STANDARD_OUTPUT or os.path.exists(output) != os.path.isfile(output)):
        raise UsageError(f"--report {report}: needs a file of tags, found --output {output}; name a file.")
    check_unfinished(output, resume, restart)
    inputs = photos if STANDARD_INPUT in photos else open_inputs(photos, path_column)
    if picture is not None:
        check_picture(picture)
    if report is not None:
        check_gallery(output, report, "--report")
    silent = quiet or as_json
    with Tagger.open(engine, top_k=top_k, threshold=threshold, **options) as tagger:
        log(f"{engine}: {plural(len(tagger.manifest.labels), 'label')}, on {tagger.execution}", silent)
        log(_certificate(tagger, engine), silent)
        result = tag_to_file(
            tagger, inputs, output, engine, silent, path_column, resume, restart, retry_errors, max_errors
        )
        if picture is not None:
            draw_contact_sheet(result.sample, picture, tagger.manifest, path_column)
    if report is not None:
        write_gallery(output, report, tagger.threads, silent)
    if as_json:
        summary = {
            "output": output,
            "photos_per_second": round(result.photos_per_second, 1),
            "errors": [{"path": photo.path, "error": photo.error} for photo in result.errors],
            "failures": [{"path": photo.path, "error": photo.error} for photo in result.failures],
            "notes": [{"path": photo.path, "note": photo.note} for photo in result.notes],
            "picture": picture,
            "report": report,
        }
        print_json(msgspec.to_builtins(result.record) | summary)
    elif not quiet:
        _print(result, output, picture, report)
    if result.not_done:
        raise result.not_done_error(output)


def _certificate(tagger: Tagger, engine: Path) -> str:
    """The certificate of the engine that runs, as one line."""
    certificate = tagger.certificate
    if certificate is None:
        return f"{engine}: no certificate for this engine; check it with `mlzsl-verify {engine} --certify`"
    execution = tagger.execution
    same = (certificate.version, certificate.device) == (execution.version, execution.device)
    return f"{engine}: certified on {plural(certificate.photos, 'image')}, {certificate.made[:10]}" + (
        "" if same else f", with {certificate.backend} {certificate.version} on {certificate.device}"
    )


def _print(result: TaggingResult, output: str, picture: Path | None, report: Path | None) -> None:
    to_file = output != STANDARD_OUTPUT
    console = Console(stderr=not to_file, highlight=False)
    if console.is_terminal and to_file:
        console.print(_table(result.sample[:PHOTOS_SHOWN]))
    line = f"tagged {plural(result.tagged, 'photo')} in {result.seconds:.1f} s"
    line += f" ({rate(result.photos_per_second)} photos/s)"
    if result.resumed:
        line += f"; {plural(result.resumed, 'photo')} done before the job resumed"
    if result.unreadable:
        line += f"; {result.unreadable:,} could not be read:"
    lines = [line, *(f"  {photo.name}: {photo.error}" for photo in result.errors)]
    if result.unreadable > len(result.errors):
        lines.append(f"  and {result.unreadable - len(result.errors):,} more")
    if result.with_note:
        first = result.notes[0]
        lines.append(f"{plural(result.with_note, 'photo')} tagged with a note (first: {first.name}: {first.note})")
    if result.skipped:
        lines.append(describe_skipped(result.skipped))
    if to_file:
        written = [output, record_path(output), *filter(None, (picture, report))]
        lines.append("wrote " + " and ".join(map(str, written)))
    print_parts(lines, console)


def _table(photos: list[Tagged]) -> Table:
    tags = (Text(", ").join(map(_tag_text, photo.tags)) if photo.tags else Text("no tag", "dim") for photo in photos)
    rows = zip((Text(Path(photo.name).name) for photo in photos), tags, strict=True)
    unseen = any(not tag.seen for photo in photos for tag in photo.tags)
    made = table(("photo", "tags"), rows, "First photos", UNSEEN_NOTE if unseen else None, left=(0, 1))
    made.columns[1].no_wrap = False
    return made


def _tag_text(tag: Tag) -> Text:
    label = tag.label.replace(" ", NO_BREAK)
    name = (label, "bold") if tag.seen else (f"{label}*", "bold magenta")
    return Text.assemble(name, (f"{NO_BREAK}{tag.score:.2f}", "dim"))

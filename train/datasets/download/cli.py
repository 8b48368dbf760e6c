"""`mlzsl-fetch`: parse, show licence and size, ask, fetch."""

import json
import shlex
import sys
from pathlib import Path

import click

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import json_option, quiet_option
from mlzsl.cli.progress import log
from mlzsl.train.datasets.download.catalog import CATALOGUE, Entry


@command("mlzsl-fetch")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--into", type=click.Path(path_type=Path), help="Folder to put it into.  [default: data/NAME]")
@click.option("--yes", is_flag=True, help="Accept the licence and start without asking.")
@click.option("--from", "mirror", metavar="URL", help="Take the files from this folder of a server instead.")
@click.option("--keep-archives", is_flag=True, help="Do not remove archives that are unpacked.")
@json_option
@quiet_option
def main(
    name: str | None,
    into: Path | None,
    yes: bool,
    mirror: str | None,
    keep_archives: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Get a dataset, word vectors or WordNet: downloaded, checked and unpacked as mlzsl-train reads it.

    Without NAME, list what there is. With it, show licence and size and ask before anything is fetched. What is broken
    off goes on where it stopped when the same command is given again.

    \b
    Examples:
      mlzsl-fetch
      mlzsl-fetch voc --into data/voc
      mlzsl-fetch glove --yes
    """
    if name is None:
        _list(as_json)
        return
    if as_json:
        raise UsageError("--json: is for the list of all; leave out NAME.")
    if name not in CATALOGUE:
        raise UsageError(f"NAME: {name!r} is not in the list; expected one of {', '.join(CATALOGUE)}.")
    entry, place = CATALOGUE[name], into or Path("data") / name
    log("\n".join(_described(name, entry)))
    if not yes:
        _ask(name, place)
    from mlzsl.train.datasets.download.fetch import fetch_entry

    try:
        fetch_entry(entry, place, mirror, keep_archives, quiet)
    except KeyboardInterrupt:
        log("what has arrived is kept; the same command goes on from there", quiet)
        raise
    if entry.by_hand:
        click.echo(entry.by_hand.format(into=place))
    click.echo(f"next: {entry.next_command.format(into=shlex.quote(str(place)))}")


def _list(as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_as_json(name, entry) for name, entry in CATALOGUE.items()], indent=2))
        return
    for name, entry in CATALOGUE.items():
        click.echo("\n".join(_described(name, entry)))
    click.echo("mlzsl-fetch NAME gets one of them, after a question.")


def _described(name: str, entry: Entry) -> list[str]:
    unchecked = [file.name for file in entry.files if file.sha256 is None]
    return [
        f"{name}: {entry.title}",
        f"  size:    {_size(entry)}",
        f"  licence: {entry.licence}",
        f"           {entry.licence_url}",
        *([f"  note:    no checksum is published for {', '.join(unchecked)}"] if unchecked else []),
    ]


def _size(entry: Entry) -> str:
    number = f"{len(entry.files)} file" + ("s" if len(entry.files) > 1 else "")
    if entry.size is None:
        return f"not published, {number}"
    amount = f"{entry.size / 1e9:.1f} GB" if entry.size >= 1e9 else f"{entry.size / 1e6:.0f} MB"
    return f"{amount} to download, {number}"


def _as_json(name: str, entry: Entry) -> dict[str, object]:
    return {
        "name": name,
        "title": entry.title,
        "licence": entry.licence,
        "licence_url": entry.licence_url,
        "bytes": entry.size,
        "files": [{"url": file.url, "bytes": file.size, "sha256": file.sha256} for file in entry.files],
    }


def _ask(name: str, place: Path) -> None:
    if not _on_a_terminal():
        raise UsageError(f"{name}: nobody is there to accept its licence; add --yes if you do.")
    if not click.confirm(f"Do you accept this, and fetch it into {place}?", err=True):
        raise UsageError(f"{name}: nothing was fetched.")


def _on_a_terminal() -> bool:
    return sys.stdin.isatty()

"""The command `mlzsl-fetch`."""

import json
import shlex
import sys
from pathlib import Path

import click

from mlzsl.cli.command import command
from mlzsl.cli.errors import UsageError
from mlzsl.cli.options import quiet_option, refuse_unused
from mlzsl.cli.progress import log
from mlzsl.train.datasets.download.catalog import CATALOGUE, Entry


@command("mlzsl-fetch")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--into", type=click.Path(path_type=Path), help="Folder to download into.  [default: data/NAME]")
@click.option("--yes", is_flag=True, help="Accept the licence without a question.")
@click.option("--from", "mirror", metavar="URL", help="Download the files from this folder of another server.")
@click.option("--keep-archives", is_flag=True, help="Keep archives after unpacking.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
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
    """Download a dataset, word vectors or WordNet.

    Without NAME, list what is available. With NAME, show its licence and size, ask, then download, check and unpack it
    as mlzsl-train reads it. The same command resumes an interrupted download.

    \b
    Examples:
      mlzsl-fetch
      mlzsl-fetch voc --into data/voc
      mlzsl-fetch glove --yes
    """
    if name is None:
        refuse_unused("without NAME", "into", "yes", "mirror", "keep_archives")
        if as_json:
            click.echo(json.dumps([_to_json(name, entry) for name, entry in CATALOGUE.items()], indent=2))
        else:
            descriptions = [_describe(name, entry) for name, entry in CATALOGUE.items()]
            click.echo("\n".join([*descriptions, "Download one of them with mlzsl-fetch NAME."]))
        return
    refuse_unused("with NAME", "as_json")
    if name not in CATALOGUE:
        raise UsageError(f"NAME: {name!r} is not in the list; expected one of {', '.join(CATALOGUE)}.")
    entry, folder = CATALOGUE[name], into or Path("data") / name
    log(_describe(name, entry))
    if not yes and not _on_a_terminal():
        raise UsageError(f"{name}: its licence has to be accepted; add --yes if you do.")
    if not yes and not click.confirm(f"Accept the licence and download into {folder}?", err=True):
        raise UsageError(f"{name}: the licence was not accepted; nothing was downloaded.")
    from mlzsl.train.datasets.download.fetch import fetch_entry

    try:
        fetch_entry(entry, folder, mirror, keep_archives, quiet)
    except KeyboardInterrupt:
        log("the part that has arrived is kept; the same command resumes", quiet)
        raise
    if entry.by_hand:
        click.echo(entry.by_hand.format(into=folder))
    click.echo(f"next: {entry.next_command.format(into=shlex.quote(str(folder)))}")


def _describe(name: str, entry: Entry) -> str:
    size = "not published"
    if entry.size is not None:
        size = f"{entry.size / 1e9:.1f} GB" if entry.size >= 1e9 else f"{entry.size / 1e6:.0f} MB"
    unchecked = [file.name for file in entry.files if file.sha256 is None]
    lines = [
        f"{name}: {entry.title}",
        f"  size:    {size}, {len(entry.files)} file{'s' * (len(entry.files) > 1)}",
        f"  licence: {entry.licence}",
        f"           {entry.licence_url}",
        *([f"  note:    no checksum is published for {', '.join(unchecked)}"] if unchecked else []),
    ]
    return "\n".join(lines)


def _to_json(name: str, entry: Entry) -> dict[str, object]:
    return {
        "name": name,
        "title": entry.title,
        "licence": entry.licence,
        "licence_url": entry.licence_url,
        "bytes": entry.size,
        "files": [{"url": file.url, "bytes": file.size, "sha256": file.sha256} for file in entry.files],
    }


def _on_a_terminal() -> bool:
    return sys.stdin.isatty()

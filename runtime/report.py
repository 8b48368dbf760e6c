"""How reports format tables, numbers and JSON."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.engines.artifact.manifest import Label

UNSEEN_NOTE = "* never seen in training"


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str | None = None,
    caption: str | None = None,
    left: Collection[int] = (0,),
) -> Table:
    """A table without borders, 80 columns or fewer where the first column can fold.

    Args:
        headings: one a column.
        rows: strings or rich renderables, one a column; missing ones at the end are empty.
        title, caption: above and below.
        left: which columns are aligned to the left.
    """
    made = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    made.title_justify = made.caption_justify = "left"
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="left" if index in left else "right", no_wrap=index > 0, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def print_parts(parts: Iterable[Table | str], console: Console | None = None) -> None:
    """Print the tables and lines of a report; lines are printed as they are, without markup or line breaks."""
    console = console or Console(highlight=False)
    for part in parts:
        console.print(Text(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str))


def print_json(report: dict[str, Any]) -> None:
    """Print a report as JSON on standard output; NaN, which JSON lacks, becomes null."""
    text = json.dumps(report, default=_plain)
    click.echo(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def label_text(label: Label) -> Text:
    """A label's name, with an asterisk if training never saw it."""
    return Text(label.name if label.seen else f"{label.name} *")


def rate(value: float) -> str:
    """Photos per second in three figures or more: "8.25", "94.1", "1,203"."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def share(value: float) -> str:
    """A number from 0 to 1 with two decimals; a dash for NaN."""
    return "–" if value != value else f"{value:.2f}"

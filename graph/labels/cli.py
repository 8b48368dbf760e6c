"""`mlzsl-labels`: report the synset, vector and neighbours of each label."""

import json
import sys
from dataclasses import asdict

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlzsl.cli.command import command
from mlzsl.cli.errors import FailureError
from mlzsl.cli.options import FiniteFloat, json_option, quiet_option, skip_unlinked_option
from mlzsl.cli.text import plural
from mlzsl.graph.classgraph import THRESHOLD
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.embeddings.source import TAXONOMY
from mlzsl.graph.labels.report import LabelReport, report_labels

FILE_WIDTH = 160  # columns of the table in a file or a pipe


@command("mlzsl-labels")
@click.argument("labels")
@click.option(
    "--embeddings",
    default=TAXONOMY,
    metavar="taxonomy|minilm|sentence|FILE",
    help="Label embeddings, as for mlzsl-train.",
)
@click.option(
    "--threshold",
    default=THRESHOLD,
    type=FiniteFloat(0, 1),
    help="Classes whose WUP similarity is greater are neighbours.",
)
@skip_unlinked_option
@quiet_option
@json_option
def main(labels: str, embeddings: str, threshold: float, skip_unlinked: bool, quiet: bool, as_json: bool) -> None:
    """Show the synset, gloss, vector and neighbours of each label in LABELS, with warnings.

    LABELS is coco80, nuswide81, voc20, imagenet1k, or a text file with one label a line, optionally
    `label<TAB>synset`, where the synset is a name such as dog.n.01 or a wnid such as n02084071.

    \b
    Examples:
      mlzsl-labels coco80
      mlzsl-labels my_labels.txt --embeddings glove.6B.300d.txt
      mlzsl-labels large_list.txt --skip-unlinked

    Neighbours are counted among the labels and, after the plus, among the ImageNet classes that are not labels
    themselves. The exit code is 1 if a label cannot be used.
    """
    report = report_labels(
        labels,
        open_embeddings(embeddings),
        threshold=threshold,
        skip_unlinked=skip_unlinked,
        quiet=quiet or as_json,
    )
    if as_json:
        print(json.dumps(asdict(report), indent=2, ensure_ascii=False))
    else:
        _print(report, skip_unlinked)
    if report.errors:
        raise FailureError(
            f"{labels}: has {plural(len(report.errors), 'problem')}, listed in the report; correct the file"
            + (", or leave labels without a synset out with --skip-unlinked." if report.unlinked else ".")
        )


def _print(report: LabelReport, skip_unlinked: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    table = Table(title=Text(f"{report.name}: {len(report.rows)} labels"), title_justify="left")
    for column, ratio in (("label", 3), ("synset", 4), ("gloss", 9), ("vector", 4)):
        table.add_column(column, ratio=ratio)
    table.add_column("neighbours", justify="right")
    table.add_column("warnings", ratio=5)
    for row in report.rows:
        vector = f"{row.vector.how}: {row.vector.via}" if row.vector else "none"
        cells = (
            row.label,
            row.synset or "none",
            row.gloss,
            "taxonomy" if row.vector and row.vector.how == "taxonomy" else vector,
            f"{row.target_neighbours} + {row.external_neighbours}",
            "; ".join(row.warnings),
        )
        table.add_row(*(Text(cell) for cell in cells))
    if report.rows:
        console.print(table)
    warned = sum(bool(row.warnings) for row in report.rows)
    vectors = ", ".join(f"{count} {how}" for how, count in sorted(report.external_vectors.items()))
    skipped = report.unlinked if skip_unlinked else ()
    linked = sum(row.synset is not None for row in report.rows)
    kept = f", {len(report.rows) - linked:,} without a synset" if linked < len(report.rows) else ""
    left_out = f", {len(skipped):,} left out, which have no synset" if skipped else ""
    for line in (
        *(f"left out: {sentence}" for sentence in skipped),
        *report.errors,
        f"{plural(linked, 'label')} linked{kept}, {warned} with warnings{left_out}, "
        f"{plural(len(report.errors), 'problem')}.",
        f"{report.external}: {report.externals} external classes in the graph, {report.externals_left_out} left out "
        f"because they are labels; their vectors from {report.embeddings}: {vectors or 'none'}.",
    ):
        console.print(Text(line), soft_wrap=True)

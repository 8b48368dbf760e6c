"""`mlzsl-thresholds`: choose the thresholds of a model's labels on labelled photos."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from mlzsl.cli.command import command
from mlzsl.cli.errors import FailureError
from mlzsl.cli.options import json_option, model_file, quiet_option
from mlzsl.cli.progress import log
from mlzsl.engines.artifact.engine_file import set_thresholds
from mlzsl.engines.opening import open_engine
from mlzsl.engines.tolerances import tolerances_for
from mlzsl.imaging.labelled_folder import load_folder
from mlzsl.runtime.engine_options import difference_options, engine_options
from mlzsl.runtime.labelled import match_labels
from mlzsl.runtime.report import print_json, print_parts
from mlzsl.runtime.thresholds.learning import MIN_PHOTOS, learn_thresholds
from mlzsl.runtime.thresholds.operating_point import BEST_F1, parse_goal
from mlzsl.runtime.thresholds.report import as_json as thresholds_as_json
from mlzsl.runtime.thresholds.report import report
from mlzsl.runtime.verify.report import failure
from mlzsl.runtime.verify.verify import verify


@command("mlzsl-thresholds")
@model_file
@click.option(
    "--photos",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Labelled photos, not those of training.",
)
@click.option("--goal", default=BEST_F1, metavar="GOAL", help="best-f1, precision=P or recall=R, for each label.")
@click.option(
    "--labels-json",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The labels of the photos, {name: [label, ...]}.  [default: labels.json in the folder or beside it]",
)
@click.option(
    "--min-photos",
    default=MIN_PHOTOS,
    type=click.IntRange(1),
    metavar="N",
    help="Predict the thresholds of seen labels on fewer photos, too.",
)
@difference_options
@engine_options
@quiet_option
@json_option
def main(
    model: Path,
    photos: Path,
    goal: str,
    labels_json: Path | None,
    min_photos: int,
    device: str,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    quiet: bool,
    as_json: bool,
    **tolerances: Any,
) -> None:
    """Choose each label's threshold on labelled photos and write them into MODEL, which mlzsl-infer then uses.

    Thresholds of unseen labels, and of labels on too few photos, are predicted from those of similar labels. The
    engine is first checked on MODEL's golden sample; if it fails, nothing is written.

    \b
    Examples:
      mlzsl-thresholds model.onnx --photos coco/
      mlzsl-thresholds model.int8.onnx --photos coco/ --goal precision=0.9
    """
    silent = quiet or as_json
    wanted = parse_goal(goal)
    folder = load_folder(photos, labels_json, silent)
    with closing(open_engine(model, device, backend, precision, threads)) as engine:
        labelled = match_labels(folder, engine.manifest, silent)
        verification = verify(engine, model, tolerances_for(engine.execution.precision, **tolerances))
        if not verification.passed:
            raise FailureError(f"{failure(verification)}; no thresholds were written.")
        learned = learn_thresholds(engine, labelled, wanted, min_photos, threads=threads, quiet=silent)
    set_thresholds(model, learned.thresholds, verification.manifest.network_sha256)
    if as_json:
        print_json({"model": model, "execution": verification.execution} | thresholds_as_json(learned))
    elif not quiet:
        print_parts(report(learned))
    outdated = "; certify it again" if verification.manifest.certificates else ""
    log(f"wrote the thresholds of {len(learned.labels)} labels into {model}{outdated}", silent)

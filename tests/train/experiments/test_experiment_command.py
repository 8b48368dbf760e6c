"""`mlzsl-experiment` on a few small photos: what it writes, and that it goes on where it stopped."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from resnetmodel import write_resnet18_weights
from safetensors import safe_open

from mlzsl.cli.main import main
from mlzsl.metrics.summary import METRIC_NAMES
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.experiments import runs
from mlzsl.train.experiments.paper import TABLE_1
from mlzsl.train.models import initialization as starting
from mlzsl.train.models.registry import MODELS
from mlzsl.train.training.trainer import Trainer

FEW = "visual-semantic,RGCN,training-free"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 labelled scenes; beside it the weights of a ResNet-18, and a cache that holds their features."""
    root = tmp_path_factory.mktemp("experiments")
    generate_scenes(root / "photos", 24, seed=5, size=64, quiet=True)
    write_resnet18_weights(root / "resnet18.safetensors")
    result = call(root / "photos", root, "table1", "--systems", "training-free", "--folds", 2, "--seeds", 1)
    assert result.exit_code == 0, result.output
    shutil.rmtree(root / "cache/runs")
    return root / "photos"


@pytest.fixture(autouse=True)
def _short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges start less near to similarity, in a tenth of the time."""
    monkeypatch.setattr(starting, "FIT_STEPS", 20)


@pytest.fixture
def here(photos: Path, tmp_path: Path) -> Path:
    """A folder to work in, whose cache has the features and no run."""
    shutil.copytree(photos.parent / "cache", tmp_path / "cache")
    return tmp_path


def call(photos: Path, here: Path, command: str, *flags: object) -> Result:
    sparse = () if command == "threshold" else ("--threshold", 0.9)  # few edges, so that two epochs take no time
    words = [
        "experiment", command, *sparse, "--data", photos, "--hidden-dim", 4, "--epochs", 2, "--resamples", 20,
        "--backbone", "resnet18", "--image-size", 32, "--backbone-weights", photos.parent / "resnet18.safetensors",
        "--cache", here / "cache", "--output", here / "results", *flags,
    ]  # fmt: skip
    return CliRunner().invoke(main, [str(word) for word in words])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def kept_runs(here: Path) -> list[Path]:
    return sorted(path for path in (here / "cache/runs").iterdir() if not path.name.endswith(".training.safetensors"))


def test_table1_has_all_systems_with_means_deviations_and_intervals(photos: Path, here: Path) -> None:
    result = call(photos, here, "table1", "--seeds", 2)
    assert result.exit_code == 0, result.output
    rows = rows_of(here / "results/table1.csv")
    columns = ["system", "measure", "mean", "deviation", "low", "high", "seed 42", "seed 43", "paper", "paper's data"]
    assert list(rows[0]) == columns
    assert [(row["system"], row["measure"]) for row in rows] == [
        *(("chance", name) for name in METRIC_NAMES[:4]),
        *((system, name) for system in MODELS for name in METRIC_NAMES),
    ]
    for row in rows[4:]:
        each = [float(row["seed 42"]), float(row["seed 43"])]
        assert float(row["mean"]) == pytest.approx(np.mean(each), abs=2e-6)
        assert float(row["deviation"]) == pytest.approx(np.std(each, ddof=1), abs=2e-6)
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    papers = {(row["system"], row["measure"]): row["paper"] for row in rows if row["paper"]}
    assert float(papers["RGCN-PosVAE", "unseen miAP"]) == 0.3714
    assert {system for system, _ in papers} == TABLE_1["MS-COCO"].keys()

    text = (here / "results/table1.md").read_text()
    assert text in result.stdout
    assert text.startswith("5 tested photos of ")
    for word in (
        "trained on 19 others",
        "resnet18 at 32 px",
        "embeddings taxonomy",
        "2 epochs of batches of 32 at 0.0005",
    ):
        assert word in text
    assert "| chance | 0." in text
    assert "other data" in text
    assert "[the 95 % interval over 20 resamplings" in text
    table = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert {len(line) for line in table} == {9}
    assert "results/table1.md and " in result.stdout.splitlines()[-1]


def test_what_one_system_reads_besides_changes_no_other(photos: Path, here: Path) -> None:
    def of(system: str) -> list[str]:
        return [row["seed 42"] for row in rows_of(here / "results/table1.csv") if row["system"] == system]

    call(photos, here, "table1", "--seeds", 1, "--systems", "visual-semantic")
    alone = of("visual-semantic")
    result = call(photos, here, "table1", "--seeds", 1, "--systems", "visual-semantic,evidence")
    assert "1 of 2 runs were done before" in result.output  # the very same run, from the same features
    assert of("visual-semantic") == alone
    assert of("evidence") != alone


def test_folds_test_every_photo_once(photos: Path, here: Path) -> None:
    result = call(photos, here, "table1", "--folds", 3, "--seeds", 1, "--systems", "visual-semantic,training-free")
    assert result.exit_code == 0, result.output
    assert "24 tested photos of " in result.stdout
    assert "each tested once in 3 folds" in result.stdout
    counts = []
    for path in kept_runs(here):
        with safe_open(path, framework="numpy") as file:
            counts.append(len(file.get_tensor("scores")))
    assert sorted(counts) == [8] * 6
    # What learns nothing scores a photo the same in whichever fold: the folds must be put together in the right order.
    free = [row["mean"] for row in rows_of(here / "results/table1.csv") if row["system"] == "training-free"]
    call(photos, here, "table1", "--folds", 5, "--seeds", 1, "--systems", "training-free")
    assert [row["mean"] for row in rows_of(here / "results/table1.csv") if row["system"] == "training-free"] == free


def test_an_experiment_goes_on_where_it_was_killed(photos: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("table1", "--systems", FEW, "--seeds", 2)
    assert call(photos, here, *flags).exit_code == 0
    unbroken = rows_of(here / "results/table1.csv")
    shutil.rmtree(here / "cache/runs")
    shutil.rmtree(here / "results")

    save_state, states = Trainer.save_state, []

    def killed_in_the_third_run(*arguments: Any) -> None:
        save_state(*arguments)
        states.append(arguments[1])
        if len(states) == 5:  # visual-semantic and RGCN with their two epochs each, and one epoch of the next seed's
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save_state", killed_in_the_third_run)
    broken = call(photos, here, *flags)
    assert broken.exit_code == 130
    assert not (here / "results").exists()
    done = kept_runs(here)
    assert len(done) == 3
    assert states[-1].exists()

    result = call(photos, here, *flags)
    assert result.exit_code == 0, result.output
    assert "3 of 6 runs were done before" in result.stderr
    assert len(states) == 5 + 1 + 2  # the broken run's second epoch, and the last run
    assert rows_of(here / "results/table1.csv") == unbroken
    assert "more than" in (here / "results/table1.md").read_text()
    assert set(done) < set(kept_runs(here))
    assert not states[-4].exists()

    again = call(photos, here, *flags)
    assert "6 of 6 runs were done before" in again.stderr
    assert "training:" not in again.stderr
    assert rows_of(here / "results/table1.csv") == unbroken


@pytest.mark.parametrize("damage", ["cut short", "other bytes", "state cut short", "state of another run"])
def test_what_is_damaged_is_done_again(photos: Path, here: Path, damage: str) -> None:
    flags = ("table1", "--systems", "visual-semantic", "--seeds", 1)
    assert call(photos, here, *flags).exit_code == 0
    sound = rows_of(here / "results/table1.csv")
    (run,) = kept_runs(here)
    whole = run.read_bytes()
    state = run.with_suffix(".training.safetensors")
    if damage == "cut short":
        run.write_bytes(whole[:-7])
    elif damage == "other bytes":
        run.write_bytes(whole[:-4] + b"\0\0\0\0")
    else:
        run.unlink()
        state.write_bytes(whole[:-7] if damage == "state cut short" else whole)
    result = call(photos, here, *flags)
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stderr.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert str(state if damage.startswith("state") else run) in notes[0]
    assert rows_of(here / "results/table1.csv") == sound
    assert kept_runs(here) == [run]
    assert not state.exists()


def test_runs_of_other_settings_are_not_mixed_up(photos: Path, here: Path) -> None:
    first = ("table1", "--systems", "RGCN", "--seeds", 1)
    changes = [(), ("--epochs", 1), ("--learning-rate", 1e-3), ("--layers", 1), ("--threshold", 0.85), ("--seed", 7)]
    for count, change in enumerate([*changes, ("--folds", 2)], start=1):
        result = call(photos, here, *first, *change)
        assert result.exit_code == 0, result.output
        assert "runs were done before" not in result.stderr
        assert len(kept_runs(here)) == count + (count > len(changes))
    other = photos.parent / "other"
    shutil.copytree(photos, other, dirs_exist_ok=True)
    some = json.loads((other / "labels.json").read_text())
    name = sorted(some)[0]
    (other / "labels.json").write_text(json.dumps(some | {name: ["dog" if some[name] != ["dog"] else "cat"]}))
    result = call(other, here, *first)
    assert result.exit_code == 0, result.output
    assert "runs were done before" not in result.stderr


def test_a_changed_program_is_another_run() -> None:
    names = {path.name for path in runs.program_files(MODELS["RGCN"].__module__)}
    assert {
        "rgcn.py",
        "layers.py",
        "initialization.py",
        "model.py",
        "trainer.py",
    } <= names
    assert "skg.py" not in names


def test_layers_makes_figure_3a(photos: Path, here: Path) -> None:
    result = call(photos, here, "layers", "--values", "1,3", "--seeds", 2, "--system", "RGCN")
    assert result.exit_code == 0, result.output
    rows = rows_of(here / "results/layers.csv")
    columns = ["layers", "edges", "measure", "mean", "deviation", "low", "high", "seed 42", "seed 43"]
    assert list(rows[0]) == columns
    assert [(row["layers"], row["measure"]) for row in rows] == [(n, name) for n in "13" for name in METRIC_NAMES]
    assert len({row["edges"] for row in rows}) == 1
    assert is_a_plot(here / "results/layers.png")
    # Two layers are what table1 trains, so the third point adds one run to those that are there.
    assert call(photos, here, "table1", "--systems", "RGCN", "--seeds", 2).exit_code == 0
    grown = call(photos, here, "layers", "--values", "1,2,3", "--seeds", 2, "--system", "RGCN")
    assert "6 of 6 runs were done before" in grown.stderr
    assert [row for row in rows_of(here / "results/layers.csv") if row["layers"] != "2"] == rows


def test_threshold_makes_figure_3b_with_edge_counts(photos: Path, here: Path) -> None:
    result = call(photos, here, "threshold", "--values", "0.85,0.95", "--seeds", 1, "--system", "RGCN", "--json")
    assert result.exit_code == 0, result.output
    rows = rows_of(here / "results/threshold.csv")
    edges = {row["threshold"]: int(row["edges"]) for row in rows}
    assert edges.keys() == {"0.85", "0.95"}
    assert edges["0.85"] > edges["0.95"] > 0
    assert {row["deviation"] for row in rows} == {""}  # one seed has none
    assert is_a_plot(here / "results/threshold.png")
    points = json.loads(result.stdout)["points"]
    assert [point["edges"] for point in points] == list(edges.values())
    assert points[0]["unseen miAP"]["mean"] == float(next(r for r in rows if r["measure"] == "unseen miAP")["mean"])


def is_a_plot(path: Path) -> bool:
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
        return picture.format == "PNG" and min(picture.size) >= 300 and colours is not None and len(colours) > 20


@pytest.mark.parametrize(
    ("command", "flags", "sentence"),
    [
        (
            "table1",
            ("--systems", "RGCN,skgg"),
            "--systems RGCN,skgg: expected different ones of visual-semantic, Fast0Tag",
        ),
        ("table1", ("--systems", "RGCN,RGCN"), "--systems RGCN,RGCN: expected different ones of"),
        ("table1", ("--systems", ","), "--systems : expected different ones of"),
        ("table1", ("--folds", 25), "24 labelled photos cannot be split into 25 parts"),
        (
            "table1",
            ("--data", "scenes", "--folds", 3, "--backbone", "small"),
            "--folds 3: scenes has test photos of its",
        ),
        ("table1", ("--data", "voc:/nowhere"), "/nowhere: no ImageSets/Main in it"),
        ("table1", ("--labels", "voc20"), "labels are not in the label set"),
        ("layers", ("--system", "SKG"), "--system SKG: expected different ones of RGCN, RGCN-XL, RGCN-PosVAE"),
        ("layers", ("--values", "1,1"), "--values 1,1: expected different numbers"),
        ("layers", ("--values", "1,two"), "--values 1,two: expected numbers from 1 to 16, separated by commas"),
        ("threshold", ("--values", "0.5,1.5"), "--values 0.5,1.5: expected numbers from 0 to 1, separated by commas"),
        ("threshold", ("--values", "nan"), "--values nan: expected numbers from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    photos: Path, here: Path, command: str, flags: tuple[object, ...], sentence: str
) -> None:
    result = call(photos, here, command, *flags)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"mlzsl-experiment {command}: error: ")
    assert sentence in last
    assert "Traceback" not in result.output
    assert not (here / "results").exists()

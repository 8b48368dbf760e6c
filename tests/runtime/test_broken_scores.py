"""An engine that gives NaN: every command that scores says so in one sentence, and none writes NaN as JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tinymodel import LABELS, broken_network, random_images, write_tiny_model

from mlzsl.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with nan.onnx, good.onnx and labelled images/."""
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "nan.onnx", broken_network())
    write_tiny_model(tmp_path / "good.onnx")
    (tmp_path / "images").mkdir()
    for index, image in enumerate(random_images(12)):
        Image.fromarray(image).save(tmp_path / f"images/{index:02}.png")
    labels = {f"{index:02}.png": [LABELS[index % 6].name, LABELS[index // 2].name] for index in range(12)}
    (tmp_path / "images/labels.json").write_text(json.dumps(labels))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "verify nan.onnx",
        "verify nan.onnx --certify --json",
        "verify nan.onnx --against good.onnx --photos images --labels-json images/labels.json --json",
        "verify good.onnx --against nan.onnx --photos images --json",
        "thresholds nan.onnx --photos images --goal best-f1 --min-photos 1 --json",
        "bench nan.onnx --json",
        "bench nan.onnx --photos images --json",
        "bench compare good.onnx nan.onnx --photos images --json",
        "bench plan nan.onnx --photos images --json",
        "infer images --engine nan.onnx --quiet",
    ],
)
def test_every_command_says_so_once(here: Path, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "error: a score is NaN or infinite on " in lines[0]
    assert result.stdout == ""
    assert "Traceback" not in capfd.readouterr().err  # nor from the processes that it starts

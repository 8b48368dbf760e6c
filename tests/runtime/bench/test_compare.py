"""`mlzsl-bench --compare`: the arithmetic in virtual time, what runs and what does not, and PyTorch's own scores."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from resnetmodel import write_resnet18_model
from tinymodel import random_images

from mlzsl.runtime.bench import baselines as bench_contenders
from mlzsl.runtime.bench.baselines import Absent, Contender, Race, open_contenders
from mlzsl.runtime.bench.cli import main
from mlzsl.runtime.bench.compare import compare
from mlzsl.runtime.bench.statistics import Spread

PICTURES = random_images(2)


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def images(tmp_path):
    """Five good photos and a broken one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip("acdef", random_images(5), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


class VirtualTime:
    """A clock, and contenders that take so many seconds a photo of it."""

    def __init__(self) -> None:
        self.now, self.slow, self.turns = 0.0, 1.0, []

    def clock(self) -> float:
        return self.now

    def contender(self, name: str, seconds: float, score: float) -> Contender:
        def tag(paths):
            self.turns.append((name, len(paths)))
            self.now += self.slow * seconds * len(paths)
            self.slow *= 2 if name == "slowest" else 1  # other work comes in, round by round

        return Contender(name, tag, lambda images: np.full((len(images), 3), score, np.float32))


def test_speedups_are_ratios_within_a_round():
    time = VirtualTime()
    contenders = [
        time.contender("ours", 0.125, 0.5),
        time.contender("ONNX Runtime fp32, Pillow", 0.5, 0.25),
        time.contender("slowest", 1.0, 0.5),
    ]
    paths = [f"{place}.jpg" for place in range(10)]
    absent = [Absent("TensorRT", "none")]
    found = compare(contenders, absent, paths, PICTURES, batch_size=4, repeats=3, quiet=True, clock=time.clock)
    assert [each.speedup for each in found.compared] == [Spread(1, 1, 1), Spread(4, 4, 4), Spread(8, 8, 8)]
    assert found.compared[0].photos_per_second.low < found.compared[0].photos_per_second.high
    assert found.right == "ONNX Runtime fp32, Pillow"
    assert [each.difference for each in found.compared] == [0.25, 0, 0.25]
    assert found.absent == tuple(absent)
    warm_up = time.turns[:3]
    assert [count for _, count in warm_up] == [6, 6, 6]  # a whole batch, and one of the 2 that the last one has
    assert time.turns[3:] == 3 * [(name, 10) for name, _ in warm_up]


def test_what_is_installed_runs_and_the_rest_is_listed_with_its_reason(tiny_model, images):
    result = run(
        tiny_model.path, "--compare", "--photos", images, "--count", 6, "--batch-size", 2, "--repeats", 2,
        "--threads", 1, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["comparison"]
    assert found["photos"] == 5
    names = [each["name"] for each in found["compared"]]
    assert names == ["mlzsl model.onnx, openvino fp32", "ONNX Runtime fp32, Pillow", "OpenVINO fp32, Pillow"]
    assert all(each["difference"] < 1e-5 for each in found["compared"])
    assert all(each["photos_per_second"]["low"] > 0 for each in found["compared"])
    reasons = {each["name"]: each["reason"] for each in found["absent"]}
    assert "--checkpoint" in reasons["PyTorch eager fp32, DataLoader"]
    assert "--checkpoint" in reasons["torch.compile bf16, DataLoader"]
    assert "mlzsl-build" in reasons["TensorRT"]


def test_other_models_and_missing_libraries(tiny_model, tmp_path, images, monkeypatch):
    def nothing(name: str):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(bench_contenders.importlib, "import_module", nothing)
    (tmp_path / "broken.plan").write_bytes(b"no plan")
    contenders, absent = open_contenders(
        Race((tiny_model.path, tmp_path / "broken.plan"), None, None, batch_size=2, threads=1)
    )
    assert [contender.name for contender in contenders] == ["mlzsl model.onnx, openvino fp32"]
    reasons = {each.name: each.reason for each in absent}
    assert "pip install 'mlzsl[cpu]'" in reasons["ONNX Runtime fp32, Pillow"]
    assert "pip install 'mlzsl[cpu]'" in reasons["OpenVINO fp32, Pillow"]
    assert "broken.plan" in reasons["mlzsl broken.plan"]
    assert "TensorRT" not in reasons


def test_a_table_is_printed_with_what_did_not_run(tiny_model, images):
    result = run(tiny_model.path, "--compare", "--photos", images, "--count", 3, "--repeats", 1, "--threads", 1, "-q")
    assert result.exit_code == 0, result.output
    assert "ONNX Runtime fp32, Pillow" in result.stdout
    assert "not run: TensorRT:" in result.stdout


def test_wrong_use_is_answered_in_one_sentence(tiny_model, tmp_path, images):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    for arguments, words in (
        (("--compare",), "name photos to tag"),
        (("--checkpoint", other), "belongs to --compare"),
        (("--compare", "--photos", images, "--checkpoint", other), "was exported from a checkpoint with"),
        (("--compare", "--photos", images, "--checkpoint", tmp_path / "none"), "no file is there"),
        (("--compare", "--plan", "--photos", images), "choose one"),
        (("--compare", "--photos", images, "--labels", 9), "--labels: belongs to --plan"),
        (("--compare", "--photos", images, "--plot", tmp_path / "a.png"), "is not drawn with --compare"),
    ):
        result = run(tiny_model.path, *arguments)
        assert result.exit_code == 2, result.output
        assert words in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.slow
def test_pytorch_runs_from_the_checkpoint_beside_the_model(tmp_path, images):
    model = write_resnet18_model(tmp_path, image_size=32)
    result = run(
        model, "--compare", "--checkpoint", tmp_path / "checkpoint.safetensors", "--photos", images, "--count", 6,
        "--batch-size", 2, "--repeats", 1, "--threads", 1, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["comparison"]
    differences = {each["name"]: each["difference"] for each in found["compared"]}
    absent = {each["name"]: each["reason"] for each in found["absent"]}
    assert found["right"] == "PyTorch eager fp32, DataLoader"
    assert differences["mlzsl resnet18.onnx, openvino fp32"] < 1e-5
    compiled = "torch.compile bf16, DataLoader"  # needs a C++ compiler
    assert differences.get(compiled, 0.0) < 0.1
    assert compiled in differences or "torch.compile failed" in absent[compiled]

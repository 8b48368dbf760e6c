"""`mlzsl-bench compare`: the arithmetic in virtual time, which baselines run, and PyTorch's own scores."""

import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from resnetmodel import write_resnet18_model
from tinymodel import random_images

from mlzsl.cli.errors import UsageError
from mlzsl.runtime.bench import compare as bench_compare
from mlzsl.runtime.bench.cli import main
from mlzsl.runtime.bench.compare import Baseline, Comparison, Skipped, compare, open_baselines
from mlzsl.runtime.bench.load import Spread

IMAGES = random_images(2)


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
    """A clock, and baselines that take a fixed number of its seconds per photo."""

    def __init__(self) -> None:
        self.now, self.slow, self.runs = 0.0, 1.0, []

    def clock(self) -> float:
        return self.now

    def baseline(self, name: str, seconds: float, score: float) -> Baseline:
        def tag(paths):
            self.runs.append((name, len(paths)))
            self.now += self.slow * seconds * len(paths)
            self.slow *= 2 if name == "slowest" else 1  # other work slows each repeat more

        return Baseline(name, tag, lambda images: np.full((len(images), 3), score, np.float32))


def test_speedups_are_ratios_within_a_repeat():
    time = VirtualTime()
    baselines = [
        time.baseline("ours", 0.125, 0.5),
        time.baseline("ONNX Runtime fp32, Pillow", 0.5, 0.25),
        time.baseline("slowest", 1.0, 0.5),
    ]
    paths = [f"{index}.jpg" for index in range(10)]
    skipped = [Skipped("TensorRT", "none")]
    found = compare(baselines, skipped, paths, IMAGES, batch_size=4, repeats=3, quiet=True, clock=time.clock)
    assert [each.speedup for each in found.baselines] == [Spread(1, 1, 1), Spread(4, 4, 4), Spread(8, 8, 8)]
    assert found.baselines[0].photos_per_second.low < found.baselines[0].photos_per_second.high
    assert found.reference == "ONNX Runtime fp32, Pillow"
    assert [each.difference for each in found.baselines] == [0.25, 0, 0.25]
    assert found.skipped == tuple(skipped)
    warm_up = time.runs[:3]
    assert [count for _, count in warm_up] == [6, 6, 6]  # a whole batch, and one of the 2 that the last one has
    assert time.runs[3:] == 3 * [(name, 10) for name, _ in warm_up]


def test_installed_baselines_run_and_the_others_are_listed_with_the_reason(tiny_model, images):
    result = run(
        "compare", tiny_model.path, "--photos", images, "--count", 6, "--batch-size", 2, "--repeats", 2,
        "--threads", 1, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["comparison"]
    assert found["photos"] == 5
    names = [each["name"] for each in found["baselines"]]
    assert names == ["mlzsl model.onnx, openvino fp32", "ONNX Runtime fp32, Pillow", "OpenVINO fp32, Pillow"]
    assert all(each["difference"] < 1e-5 for each in found["baselines"])
    assert all(each["photos_per_second"]["low"] > 0 for each in found["baselines"])
    reasons = {each["name"]: each["reason"] for each in found["skipped"]}
    assert "--checkpoint" in reasons["PyTorch eager fp32, DataLoader"]
    assert "--checkpoint" in reasons["torch.compile bf16, DataLoader"]
    assert "mlzsl-build" in reasons["TensorRT"]


def test_a_photo_that_only_mlzsl_reads_is_one_sentence(tiny_model, images):
    stream = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(stream, "JPEG")
    (images / "cut.jpg").write_bytes(stream.getvalue()[:-2])
    result = run("compare", tiny_model.path, "--photos", images, "--repeats", "1", "--threads", "1", "--quiet")
    assert result.exit_code == 1
    assert "failed: image file is truncated" in result.stderr
    assert "; leave out photos that Pillow alone cannot read." in result.stderr


def test_other_models_and_missing_libraries(tiny_model, tmp_path, images, monkeypatch):
    def not_installed(name: str, missing: str):
        raise UsageError(missing)

    monkeypatch.setattr(bench_compare, "import_optional", not_installed)
    (tmp_path / "broken.plan").write_bytes(b"no plan")
    baselines, skipped = open_baselines(
        Comparison((tiny_model.path, tmp_path / "broken.plan"), None, None, batch_size=2, threads=1)
    )
    assert [baseline.name for baseline in baselines] == ["mlzsl model.onnx, openvino fp32"]
    reasons = {each.name: each.reason for each in skipped}
    assert "pip install 'mlzsl[cpu]'" in reasons["ONNX Runtime fp32, Pillow"]
    assert "pip install 'mlzsl[cpu]'" in reasons["OpenVINO fp32, Pillow"]
    assert "broken.plan" in reasons["mlzsl broken.plan"]
    assert "TensorRT" not in reasons


def test_the_report_lists_skipped_baselines(tiny_model, images):
    result = run("compare", tiny_model.path, "--photos", images, "--count", 3, "--repeats", 1, "--threads", 1, "-q")
    assert result.exit_code == 0, result.output
    assert "ONNX Runtime fp32, Pillow" in result.stdout
    assert "skipped: TensorRT:" in result.stdout


def test_usage_errors_are_one_sentence(tiny_model, tmp_path, images):
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    for arguments, message in (
        ((), "--photos: is missing"),
        (("--photos", images, "--checkpoint", other), "was exported from a checkpoint with"),
        (("--photos", images, "--checkpoint", tmp_path / "none"), "no such file"),
        (("--photos", images, "--embeddings", "taxonomy"), "--embeddings: has no effect without --checkpoint"),
        (("--photos", images, "--labels", 9), "--labels: no such option"),
        (("--photos", images, "--plot", tmp_path / "a.png"), "--plot: no such option"),
        (("--photos", images, tmp_path / "none.onnx"), "none.onnx: no such model file"),
    ):
        result = run("compare", tiny_model.path, *arguments)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
        assert "Traceback" not in result.output


@pytest.mark.slow
def test_pytorch_runs_from_the_checkpoint(tmp_path, images):
    model = write_resnet18_model(tmp_path, image_size=32)
    result = run(
        "compare", model, "--checkpoint", tmp_path / "checkpoint.safetensors", "--photos", images, "--count", 6,
        "--batch-size", 2, "--repeats", 1, "--threads", 1, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["comparison"]
    differences = {each["name"]: each["difference"] for each in found["baselines"]}
    skipped = {each["name"]: each["reason"] for each in found["skipped"]}
    assert found["reference"] == "PyTorch eager fp32, DataLoader"
    assert differences["mlzsl resnet18.onnx, openvino fp32"] < 1e-5
    compiled = "torch.compile bf16, DataLoader"  # needs a C++ compiler
    assert differences.get(compiled, 0.0) < 0.1
    assert compiled in differences or "torch.compile failed" in skipped[compiled]

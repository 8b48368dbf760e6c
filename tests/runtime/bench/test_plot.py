"""`mlzsl-bench run --plot`: what is drawn, read back from the file, and accuracy as certificates state it."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from PIL import Image
from tinymodel import LABELS, manifest, random_images, reference_scores, write_tiny_model

from mlzsl.engines.artifact.certificate import Certificate, Check, Measurement
from mlzsl.engines.engine import ExecutionInfo
from mlzsl.runtime.bench import plot as bench_plot
from mlzsl.runtime.bench.benchmark import Accuracy, Memory, ModelBench, Settings, accuracy_of, bench_model
from mlzsl.runtime.bench.cli import main
from mlzsl.runtime.bench.load import Latency, Load, LoadResult, Spread
from mlzsl.runtime.bench.plot import draw_plot
from mlzsl.runtime.verify.cli import main as verify


def certificate(precision: str, *checks: Check) -> Certificate:
    return Certificate(
        network_sha256="1" * 64,
        backend="openvino",
        version="1",
        provider="CPU",
        device="cpu",
        precision=precision,
        reference="fp32.onnx",
        reference_sha256="2" * 64,
        checks=checks,
        mlzsl="0",
        machine="any",
        made="2026-01-01",
    )


def ranked(seen: float, unseen: float) -> Check:
    return Check(
        "true labels",
        540,
        "3" * 64,
        (Measurement("seen mAP", seen, "points"), Measurement("unseen mAP", unseen, "points")),
    )


def bench(name: str, precision: str, rate: float, *certificates: Certificate) -> ModelBench:
    loads = tuple(
        LoadResult(Load(size, 2), Spread(rate * size, rate, rate * 20), Latency(9, 0.1, 0.2, 0.3), 1) for size in (1, 8)
    )
    made = replace(manifest(precision=precision), network_sha256="1" * 64, certificates=certificates)
    execution = ExecutionInfo("openvino", "1", "CPU", "cpu", precision)
    return ModelBench(Path(name), made, execution, loads, None, Memory(1, 1, 1))


@pytest.fixture
def text_drawn(tmp_path, monkeypatch):
    """Draws models as SVG and returns all text in it."""
    import matplotlib

    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")

    def draw(*benches: ModelBench) -> set[str]:
        draw_plot(benches, tmp_path / "plot.svg")
        root = ElementTree.parse(tmp_path / "plot.svg").getroot()
        return {element.text for element in root.iter("{http://www.w3.org/2000/svg}text") if element.text}

    return draw


def test_one_line_for_each_model_and_number_in_flight(text_drawn):
    text = text_drawn(bench("model.onnx", "fp32", 10), bench("model.int8.onnx", "int8", 40))
    assert {"model.onnx, openvino fp32, 2 in flight", "model.int8.onnx, openvino int8, 2 in flight"} <= text
    assert {"batch size", "photos/s", "1", "8"} <= text
    assert "mAP, points" not in text  # nothing is certified


def test_accuracy_of_certified_models_is_drawn_against_the_best_rate(text_drawn):
    fp32 = bench("model.onnx", "fp32", 10, certificate("fp32", ranked(60, 30)))
    int8 = bench("model.int8.onnx", "int8", 40, certificate("int8", ranked(59.5, 29)))
    text = text_drawn(fp32, int8, bench("model.bf16.onnx", "bf16", 20))
    assert {"mAP, points", "seen mAP", "unseen mAP", "fp32", "int8"} <= text
    assert "bf16" not in text
    assert "Accuracy on 540 photos against rate" in text
    assert int8.fastest.load.batch_size == 8


def test_accuracy_is_that_of_the_engine_that_ran():
    golden = Check("golden sample", 3, "4" * 64, (Measurement("largest difference", 0.0),))
    both = (certificate("fp32", golden, ranked(60, 30)), certificate("bf16", golden))
    assert accuracy_of(bench("a.onnx", "fp32", 1, *both)) == Accuracy({"seen mAP": 60, "unseen mAP": 30}, 540)
    assert accuracy_of(bench("a.onnx", "bf16", 1, *both)) is None
    assert accuracy_of(bench("a.onnx", "int8", 1, *both)) is None


def test_accuracy_is_read_from_the_certificate_of_verify(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx").path
    images = random_images(24, seed=3)
    targets = {}
    for index, (image, scores) in enumerate(zip(images, reference_scores(images), strict=True)):
        Image.fromarray(image).save(tmp_path / f"{index:02}.png")
        targets[f"{index:02}.png"] = [label.name for label, score in zip(LABELS, scores, strict=True) if score > 0.6]
    (tmp_path / "labels.json").write_text(json.dumps(targets))
    arguments = ["--against", str(model), "--photos", str(tmp_path), "--labels-json", str(tmp_path / "labels.json")]
    result = CliRunner().invoke(verify, [str(model), *arguments, "--certify", "--backend", "onnxruntime"])
    assert result.exit_code == 0, result.output
    settings = Settings((1,), (1,), repeats=1, seconds=0.01)
    found = accuracy_of(bench_model(model, settings, quiet=True, backend="onnxruntime", threads=1))
    assert found is not None
    assert found.photos == sum(1 for labels in targets.values() if labels)
    assert found.points["seen mAP"] == pytest.approx(100)  # the labels are those of its own scores
    assert accuracy_of(bench_model(model, settings, quiet=True, threads=1)) is None  # OpenVINO was not certified


def test_the_command_draws_a_plot_and_names_uncertified_models(tiny_model, tmp_path):
    arguments = ["--batch-sizes", "1,2", "--repeats", "1", "--seconds", "0.01", "--threads", "1"]
    image = tmp_path / "bench.png"
    result = CliRunner().invoke(main, [str(tiny_model.path), str(tiny_model.path), *arguments, "--plot", str(image)])
    assert result.exit_code == 0, result.output
    assert "has no certificate with mAP" in result.stderr
    assert f"wrote {image}" in result.stdout
    with Image.open(image) as drawn:
        assert drawn.format == "PNG"
        assert len(drawn.convert("L").getcolors()) > 10


def test_another_format_is_refused_before_anything_is_measured(tmp_path):
    result = CliRunner().invoke(main, ["no.onnx", "--plot", str(tmp_path / "bench.gif")])
    assert result.exit_code == 2
    assert ".png or .svg" in result.stderr


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_plot.importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["no.onnx", "--plot", str(tmp_path / "bench.png")])
    assert result.exit_code == 2
    assert "pip install 'mlzsl[plot]'" in result.stderr

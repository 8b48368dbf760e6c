"""`mlzsl-bench plan`: predictions from rates with known answers, and a real run on fewer cores."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tinymodel import LABELS, manifest, network, random_images, reference_scores

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.modelfile import write_model_file
from mlzsl.runtime.bench.cli import main
from mlzsl.runtime.bench.plan import cost_of_labels, fit_scaling, plan
from mlzsl.runtime.bench.stages import DECODE, ENGINE, Stages, cores_to_measure, summarize

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
limits_cores = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def stages(decode: float, engine: float, pipeline: float, on_cpu: bool = True) -> Stages:
    return summarize([(decode, engine, pipeline)], photos=64, batch_size=16, on_cpu=on_cpu)


@given(st.floats(0.1, 1e4), st.floats(0, 1), st.integers(2, 64), st.integers(1, 512))
def test_a_stage_that_scales_by_the_law_is_predicted_exactly(single, serial, measured, cores):
    def law(n: int) -> float:
        return 1 / (serial / single + (1 - serial) / (n * single))  # a part runs on one core, the rest on n

    fitted = fit_scaling({1: law(1), measured: law(measured)})
    assert fitted.serial == pytest.approx(serial, abs=1e-9)
    assert fitted.at(cores) == pytest.approx(law(cores))


def test_no_stage_is_predicted_to_scale_faster_than_the_cores():
    assert fit_scaling({1: 10.0, 2: 25.0}).at(8) == 80
    assert fit_scaling({1: 10.0}).at(8) == 80


def test_what_was_measured_is_predicted_from_fewer_cores():
    measured = {1: stages(100, 25, 18), 2: stages(200, 50, 44), 4: stages(400, 80, 70)}
    one, two, four, eight = plan(measured, (8,), on_cpu=True)
    assert [row.from_cores for row in (one, two, four, eight)] == [(1,), (1,), (1, 2), (1, 2, 4)]
    assert one.pipeline == pytest.approx(20)  # 1 / (1/100 + 1/25)
    assert two.pipeline == pytest.approx(40)
    assert two.relative_error == pytest.approx(40 / 44 - 1)
    assert four.engine == pytest.approx(100)  # two cores gave no reason to expect 80
    assert eight.measured is None
    assert eight.relative_error is None
    assert eight.engine < 200
    assert eight.limiting == ENGINE


def test_a_gpu_runs_in_parallel_with_decoding_and_does_not_scale_with_the_cores():
    measured = {1: stages(100, 900, 90, on_cpu=False), 2: stages(200, 1000, 190, on_cpu=False)}
    few, many = plan(measured, (4, 16), on_cpu=False)[2:]
    assert (few.pipeline, few.limiting) == (pytest.approx(400), DECODE)
    assert (many.pipeline, many.limiting) == (pytest.approx(1000), ENGINE)


def test_more_labels_slow_only_the_engine():
    [one] = plan({1: stages(100, 50, 30)}, (1,), on_cpu=True, slowdown=2.0)
    assert (one.decode, one.engine) == (100, 25)
    assert one.measured is None


@given(st.floats(1e-3, 1), st.floats(0, 1e-4), st.floats(0, 1e-8))
def test_the_cost_of_labels_is_a_parabola_through_three_models(a, b, c):
    def law(labels: int) -> float:
        return a + b * labels + c * labels**2

    known = {20: law(20), 81: law(81), 1000: law(1000)}
    assert cost_of_labels(known, 500).seconds == pytest.approx(law(500), rel=1e-6)
    far = cost_of_labels(known, 5000)
    assert far.seconds == pytest.approx(law(5000), rel=1e-3)
    assert far.extrapolated
    assert not cost_of_labels(known, 500).extrapolated
    assert cost_of_labels({20: law(20), 81: law(81)}, 81).seconds == law(81)


def test_labels_that_cannot_be_predicted_are_refused():
    with pytest.raises(UsageError, match="a fit needs two or more"):
        cost_of_labels({80: 0.1}, 500)
    with pytest.raises(UsageError, match="measure again"):
        cost_of_labels({80: 0.2, 100: 0.1}, 500)


def test_one_core_half_and_all_are_measured():
    assert cores_to_measure(1) == (1,)
    assert cores_to_measure(2) == (1, 2)
    assert cores_to_measure(16) == (1, 8, 16)


@limits_cores
def test_a_real_run_on_fewer_cores_with_other_labels(tiny_model, tmp_path):
    for index, image in enumerate(random_images(4)):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.jpg").write_bytes(b"")
    few, images = tmp_path / "few.onnx", random_images(3)
    scores = reference_scores(images)[:, :2].astype(np.float32)
    write_model_file(few, network(labels=2), manifest(labels=LABELS[:2]), images, scores)
    result = run(
        "plan", tiny_model.path, few, "--photos", tmp_path, "--count", 10, "--repeats", 1, "--seconds", 0.01,
        "--cores", "3,64", "--labels", 4, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["plan"]
    assert [row["cores"] for row in found["cores"]] == sorted({*cores_to_measure(CORES), 3, 64})
    assert all(row["pipeline"] > 0 for row in found["cores"])
    assert found["labels"]["from_labels"] == [2, 6]
    assert found["labels"]["extrapolated"] is False


@limits_cores
def test_a_plan_is_printed_with_the_measurements(tiny_model, tmp_path):
    Image.fromarray(random_images(1)[0]).save(tmp_path / "a.png")
    result = run("plan", tiny_model.path, "--photos", tmp_path, "--count", 4, "--repeats", 1, "--quiet")
    assert result.exit_code == 0, result.output
    assert "error" in result.stdout
    assert "%" in result.stdout


@limits_cores
def test_usage_errors_are_one_sentence(tiny_model, tmp_path):
    Image.fromarray(random_images(1)[0]).save(tmp_path / "a.png")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/b.jpg").write_bytes(b"")
    good = ("--photos", tmp_path / "a.png", "--count", 1)
    for code, arguments, message in (
        (2, ("plan", tiny_model.path), "--photos: is missing"),
        (2, ("plan", tiny_model.path, *good, "--threads", 1), "--threads: no such option"),
        (2, ("plan", tiny_model.path, *good, "--seconds", 1), "--seconds: has no effect without --labels"),
        (2, ("plan", tiny_model.path, tiny_model.path, *good), "takes one MODEL"),
        (2, ("plan", tiny_model.path, *good, "--labels", 9, "--seconds", 0.01), "a fit needs two or more"),
        (2, ("plan", tiny_model.path, tiny_model.path, *good, "--labels", 9), "has 6 labels, as many as another MODEL"),
        (2, ("plan", tmp_path / "no.onnx", *good), "no.onnx"),
        (1, ("plan", tiny_model.path, "--photos", tmp_path / "broken"), "photos could be read"),
        (2, (tiny_model.path, "--cores", "4"), "--cores: no such option"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert message in result.stderr
        assert "Traceback" not in result.output

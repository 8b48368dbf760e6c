"""`mlzsl-bench run`: its arithmetic on virtual engines and clocks with known answers, and a small real run."""

import json
import math

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tinymodel import manifest, random_images
from virtualengine import VirtualEngine

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.runtime.bench.benchmark import Settings, bench_model, photos_to_bench
from mlzsl.runtime.bench.cli import main
from mlzsl.runtime.bench.load import MIN_BATCHES, Load, Spread, latency, loads_for, measure_loads, ratios, spread
from mlzsl.runtime.bench.stages import DECODE, ENGINE, shared_rate, summarize


def bench(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """The error message of a usage error."""
    result = bench(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture
def images(tmp_path):
    """A folder of four good photos and a broken one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip("acde", random_images(4), strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_rate_and_latency_are_those_of_the_engine_for_any_number_in_flight():
    engine = VirtualEngine(manifest(), in_flight=3, fixed=0.5, each=0.25)
    loads = loads_for(engine, (1, 6), (1, 2, 3))
    for measured in measure_loads(engine, loads, repeats=2, seconds=20, quiet=True, clock=engine.clock):
        takes = 0.5 + 0.25 * measured.load.batch_size
        assert measured.latency.p50 == pytest.approx(takes)
        assert measured.latency.p99 == pytest.approx(takes)
        rate = measured.load.batch_size * measured.load.in_flight / takes
        assert measured.photos_per_second.median == pytest.approx(rate, rel=0.1)  # repeats end within a batch
    assert engine.in_flight == 3


def test_a_repeat_lasts_as_long_as_requested_and_at_least_a_few_batches():
    engine = VirtualEngine(manifest(), in_flight=1, fixed=1.0, each=0.0)
    [long] = measure_loads(engine, [Load(2, 1)], repeats=3, seconds=50, quiet=True, clock=engine.clock)
    assert long.latency.batches == 3 * 50
    [short] = measure_loads(engine, [Load(2, 1)], repeats=3, seconds=0.001, quiet=True, clock=engine.clock)
    assert short.latency.batches == 3 * MIN_BATCHES


def test_the_default_loads_are_one_and_as_many_as_the_engine_runs_at_once():
    engine = VirtualEngine(manifest(), in_flight=4, fixed=1.0, each=0.0)
    assert loads_for(engine, (2, 8)) == [Load(2, 1), Load(8, 1), Load(2, 4), Load(8, 4)]  # by images in flight
    engine.in_flight = 1
    assert loads_for(engine, (2, 2)) == [Load(2, 1)]
    with pytest.raises(UsageError, match=r"--in-flight 5: the engine runs 1 batches at once"):
        loads_for(engine, (2,), (1, 5))


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300))
def test_percentiles_are_the_sorted_latencies_interpolated(seconds):
    ordered = sorted(seconds)

    def naive(share: float) -> float:
        index = share * (len(ordered) - 1)
        low = math.floor(index)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (index - low) * (ordered[high] - ordered[low])

    found = latency(seconds)
    assert found.batches == len(seconds)
    assert (found.p50, found.p90, found.p99) == pytest.approx((naive(0.5), naive(0.9), naive(0.99)))


def test_work_that_slows_a_whole_repeat_changes_no_ratio():
    theirs, slowed = [10.0, 10.0, 10.0], [1.0, 0.25, 0.5]
    ours = [30 * share for share in slowed]
    assert ratios(ours, [rate * share for rate, share in zip(theirs, slowed, strict=True)]) == Spread(3, 3, 3)
    assert spread([2.0, 9.0, 3.0]) == Spread(3.0, 2.0, 9.0)


def test_the_slower_stage_limits_and_the_pipeline_is_compared_with_it():
    found = summarize([(100.0, 25.0, 20.0), (110.0, 22.0, 22.0)], photos=64, batch_size=16, on_cpu=True)
    assert found.limiting == ENGINE
    assert (found.of_slower.low, found.of_slower.high) == (0.8, 1.0)
    assert found.of_shared is not None
    assert found.of_shared.low == pytest.approx(20 * (1 / 100 + 1 / 25))
    on_a_gpu = summarize([(5.0, 50.0, 4.0)], photos=64, batch_size=16, on_cpu=False)
    assert on_a_gpu.limiting == DECODE
    assert on_a_gpu.of_shared is None


def test_stages_that_share_their_cores_share_their_time():
    assert shared_rate(30, 60) == pytest.approx(20)
    assert shared_rate(1e12, 7) == pytest.approx(7)


def test_a_real_run_reports_every_number_as_json(tiny_model, images):
    result = bench(
        tiny_model.path, "--batch-sizes", "1,4", "--in-flight", "1,2", "--repeats", 2, "--seconds", 0.01,
        "--photos", images, "--count", 12, "--threads", 2, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    [model] = report["models"]
    assert model["network_sha256"] == tiny_model.manifest.network_sha256
    assert model["execution"]["precision"] == "fp32"
    assert [list(load["load"].values()) for load in model["loads"]] == [[1, 1], [1, 2], [4, 1], [4, 2]]
    for load in model["loads"]:
        taken = load["latency"]
        assert taken["batches"] >= 2 * MIN_BATCHES
        assert 0 < taken["p50"] <= taken["p90"] <= taken["p99"]
        assert 0 < load["photos_per_second"]["low"] <= load["photos_per_second"]["high"]
    stages = model["stages"]
    assert stages["photos"] == 9  # of a, b, c, d, e, a, b, c, d, e, a, b, where b is broken
    assert stages["limiting"] in (DECODE, ENGINE)
    assert min(stages[name]["low"] for name in ("decode", "engine", "pipeline")) > 0
    assert model["memory"]["peak"] > 0


def test_a_real_run_prints_a_table_and_names_the_limiting_stage(tiny_model, images):
    result = bench(
        tiny_model.path, "--backend", "onnxruntime", "--batch-sizes", "3", "--repeats", 1, "--seconds", 0.01,
        "--photos", images, "--count", 4, "--threads", 1, "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "onnxruntime" in result.stdout
    assert "p99 ms" in result.stdout
    assert "whole pipeline" in result.stdout
    assert "limits: the pipeline reaches" in result.stdout


def test_python_can_do_what_the_command_does(tiny_model):
    found = bench_model(tiny_model.path, Settings((2,), (1,), repeats=1, seconds=0.01), quiet=True, threads=1)
    assert found.stages is None
    assert found.fastest.load == Load(2, 1)


def test_photos_are_repeated_until_there_are_enough(images):
    names = [path.rsplit("/", 1)[1] for path in photos_to_bench([str(images)], 7)]
    assert names == ["a.png", "b.jpg", "c.png", "d.png", "e.png", "a.png", "b.jpg"]
    assert len(photos_to_bench([str(images)], 2)) == 2


def test_unreadable_photos_alone_are_refused(tiny_model, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(FailureError, match="none of the 3 photos could be read"):
        bench_model(
            tiny_model.path,
            Settings((1,), (1,), repeats=1, seconds=0.01),
            photos_to_bench([str(tmp_path)], 3),
            quiet=True,
            threads=1,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-sizes", "1,zero"), "'1,zero' is not a list of whole numbers"),
        (("--in-flight", "0"), "'0' is not a list of whole numbers"),
        (("--in-flight", "99", "--threads", "1"), "--in-flight 99: the engine runs"),
        (("--photos", "nowhere/"), "nowhere/"),
        (("--seconds", "0"), "--seconds"),
        (("--count", "3"), "--count: has no effect without --photos; leave it out"),
        (("--batch-size", "3"), "--batch-size: has no effect without --photos; leave it out"),
        (("no.onnx",), "no.onnx: no such model file"),
        (("--engine", "other.onnx"), "--engine other.onnx: MODEL"),
    ],
)
def test_invalid_flags_are_refused_in_one_sentence(tiny_model, arguments, message):
    assert message in refused(tiny_model.path, *arguments)


def test_a_missing_model_is_named(tmp_path):
    assert "no.onnx" in refused(tmp_path / "no.onnx")
    assert "no.onnx" in refused("--engine", tmp_path / "no.onnx")


def test_run_is_the_default_subcommand(tiny_model):
    flags = ("--batch-sizes", "1", "--in-flight", "1", "--repeats", 1, "--seconds", 0.01, "--threads", 1, "--json")
    for arguments in ((tiny_model.path,), ("run", tiny_model.path), ("run", "--engine", tiny_model.path)):
        result = bench(*arguments, *flags)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["models"][0]["model"] == str(tiny_model.path)

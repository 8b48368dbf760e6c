"""The contract of every engine: correct scores, in order, independent of the batch."""

import os
import subprocess
import sys
from contextlib import closing

import numpy as np
import onnx
import pytest
from tinymodel import LABELS, SIZE, broken_network, network, random_images, reference_scores, write_tiny_model

from mlzsl.calibration.conversion import backbone_nodes, convert_precision
from mlzsl.calibration.network import Network
from mlzsl.cli.errors import FailureError, MlzslError, UsageError
from mlzsl.engines import onnxruntime as onnxruntime_engine
from mlzsl.engines.opening import BACKENDS, open_engine


@pytest.fixture(params=BACKENDS)
def engine(request, tiny_model):
    with closing(open_engine(tiny_model.path, backend=request.param, threads=2)) as opened:
        yield opened


def openvino_has(capability: str) -> bool:
    import openvino

    return capability in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_scores_equal_the_formulas(engine):
    images = random_images(9)
    scores = engine.scores(images)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference_scores(images), atol=2e-6, rtol=0)


def test_scores_do_not_depend_on_the_batch_or_the_position_in_it(engine):
    images = random_images(13)
    together = engine.scores(images)
    for size in (1, 2, 5, 13):
        batches = [images[start : start + size] for start in range(0, 13, size)]
        np.testing.assert_allclose(np.concatenate(list(engine.run(batches))), together, atol=1e-6, rtol=0)
    order = np.random.default_rng(0).permutation(13)
    np.testing.assert_allclose(engine.scores(images[order]), together[order], atol=1e-6, rtol=0)


def test_results_are_in_order_for_varying_batch_sizes(engine):
    batches = [random_images(1 + 17 * i % 40, seed=i) for i in range(25)]
    for batch, scores in zip(batches, engine.run(iter(batches)), strict=True):
        np.testing.assert_allclose(scores, reference_scores(batch), atol=2e-6, rtol=0)


def test_scores_do_not_change_while_later_batches_run(engine):
    batches = [random_images(4, seed=i) for i in range(12)]
    kept = list(engine.run(batches))
    np.testing.assert_allclose(kept[0], reference_scores(batches[0]), atol=2e-6, rtol=0)


def test_batches_are_taken_no_further_ahead_than_can_run(engine):
    pulled = 0

    def source():
        nonlocal pulled
        for _ in range(50):
            pulled += 1
            yield random_images(1)

    results = engine.run(source())
    for taken in range(1, 20):
        next(results)
        assert pulled <= taken + engine.in_flight
    results.close()


def test_closing_early_leaves_the_engine_usable(engine):
    images = random_images(2)
    results = engine.run(random_images(8, seed=i) for i in range(100))
    next(results)
    results.close()
    np.testing.assert_allclose(engine.scores(images), reference_scores(images), atol=2e-6, rtol=0)


def test_two_runs_at_once_do_not_mix(engine):
    first = engine.run([random_images(3, seed=i) for i in range(6)])
    second = engine.run([random_images(3, seed=100 + i) for i in range(6)])
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_allclose(one, reference_scores(random_images(3, seed=i)), atol=2e-6, rtol=0)
        np.testing.assert_allclose(other, reference_scores(random_images(3, seed=100 + i)), atol=2e-6, rtol=0)


def test_an_error_in_the_source_of_batches_is_passed_on(engine):
    def source():
        yield random_images(1)
        raise RuntimeError("the camera is on fire")

    with pytest.raises(RuntimeError, match="the camera is on fire"):
        list(engine.run(source()))


def test_no_batches_no_scores(engine):
    assert list(engine.run([])) == []


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, SIZE, SIZE, 3), np.float32),
        np.zeros((SIZE, SIZE, 3), np.uint8),
        np.zeros((1, 3, SIZE, SIZE), np.uint8),
        np.zeros((1, SIZE + 1, SIZE, 3), np.uint8),
        np.zeros((0, SIZE, SIZE, 3), np.uint8),
        [[0]],
    ],
)
def test_images_of_another_shape_or_type_are_refused_in_one_sentence(engine, images):
    with pytest.raises(MlzslError, match=r"expected uint8 \[n, 32, 32, 3\]"):
        engine.scores(images)
    with pytest.raises(FailureError, match="expected uint8"):
        list(engine.run([random_images(1), images]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_score_that_is_not_finite_is_a_failure(tmp_path, backend):
    write_tiny_model(tmp_path / "nan.onnx", broken_network())
    with closing(open_engine(tmp_path / "nan.onnx", backend=backend, threads=2)) as engine:
        with pytest.raises(FailureError, match=f"a score is NaN or infinite on {backend} "):
            engine.scores(random_images(2))
        with pytest.raises(FailureError, match="a score is NaN or infinite"):
            list(engine.run([random_images(1)] * 5))


def test_images_that_are_a_view_are_read_correctly(engine):
    images = random_images(6)
    np.testing.assert_allclose(engine.scores(images[::-2]), reference_scores(images[::-2]), atol=2e-6, rtol=0)


def test_the_execution_info_is_that_of_the_library(tiny_model):
    with closing(open_engine(tiny_model.path)) as engine:
        assert (engine.execution.backend, engine.execution.provider, engine.execution.precision) == (
            "openvino",
            "CPU",
            "fp32",
        )
    with closing(open_engine(tiny_model.path, backend="onnxruntime")) as engine:
        assert engine.execution.provider == "CPUExecutionProvider"
        assert "onnxruntime" in str(engine.execution)
        assert "fp32" in str(engine.execution)


def test_fp32_runs_as_fp32_where_the_library_would_take_bf16(tiny_model):
    """On CPUs with bf16 arithmetic the difference to the formulas would be a thousand times larger."""
    images = random_images(50, seed=3)
    with closing(open_engine(tiny_model.path)) as engine:
        assert np.abs(engine.scores(images) - reference_scores(images)).max() < 2e-6


def test_bf16_runs_on_a_cpu_that_has_it_and_is_an_error_on_others(tiny_model):
    if openvino_has("BF16"):
        with closing(open_engine(tiny_model.path, precision="bf16")) as engine:
            assert engine.execution.precision == "bf16"
            np.testing.assert_allclose(
                engine.scores(tiny_model.images), tiny_model.scores(tiny_model.images), atol=0.05, rtol=0
            )
    else:
        with pytest.raises(UsageError, match="has no bf16 arithmetic"):
            open_engine(tiny_model.path, precision="bf16")


def test_a_bf16_file_runs_in_bf16_by_default(tmp_path):
    if not openvino_has("BF16"):
        pytest.skip("needs a CPU with bf16 arithmetic")
    fp32 = Network(onnx.load_model_from_string(network()))
    lower = convert_precision(fp32, "bf16", backbone_nodes(fp32)).SerializeToString()
    model = write_tiny_model(tmp_path / "model.onnx", lower, precision="bf16")
    with closing(open_engine(model.path)) as engine:
        assert engine.execution.precision == "bf16"


def test_a_file_that_only_claims_to_be_bf16_is_refused(tmp_path):
    if not openvino_has("BF16"):
        pytest.skip("needs a CPU with bf16 arithmetic")
    model = write_tiny_model(tmp_path / "model.onnx", precision="bf16")
    with pytest.raises(UsageError, match=r"model\.onnx: OpenVINO would run no layer of it in bf16 on this CPU"):
        open_engine(model.path)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"precision": "int8"}, "--precision int8: .* is a file of precision fp32, which runs in fp32 or bf16"),
        (
            {"precision": "bf16", "backend": "onnxruntime"},
            "onnxruntime runs a file in its own precision, and .* fp32",
        ),
        ({"device": "tpu"}, "--device tpu: unknown, expected cpu or cuda"),
        ({"backend": "tvm"}, "--backend tvm: unknown, expected openvino or onnxruntime"),
        ({"device": "cuda", "backend": "openvino"}, "runs with --device cpu, not cuda; use --backend onnxruntime"),
        ({"threads": 0}, "--threads 0: expected at least 1"),
    ],
)
def test_an_unavailable_option_is_refused_with_its_flag(tiny_model, asked, expected):
    with pytest.raises(UsageError, match=expected):
        open_engine(tiny_model.path, **asked)


def test_an_fp16_file_runs_in_fp16_or_the_error_names_a_backend_that_runs_it(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx", precision="fp16")
    if openvino_has("FP16"):
        with closing(open_engine(model.path)) as engine:
            assert engine.execution.precision == "fp16"
    else:
        with pytest.raises(UsageError, match=r"has no fp16 arithmetic; use --backend onnxruntime"):
            open_engine(model.path)


def test_a_file_that_only_claims_to_be_int8_is_not_run_as_int8(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx", precision="int8")
    with pytest.raises(UsageError, match="no layer of it in int8"):
        open_engine(model.path)


def test_only_openvino_runs_bf16_on_a_cpu(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx", precision="bf16")
    with pytest.raises(UsageError, match=r"--backend onnxruntime does not run on a cpu; use --backend openvino"):
        open_engine(model.path, backend="onnxruntime")


def test_a_file_is_never_run_in_more_precision_than_it_has(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx", precision="bf16")
    with pytest.raises(UsageError, match=r"--precision fp32: .* is a file of precision bf16"):
        open_engine(model.path, precision="fp32")


def test_cuda_is_never_replaced_by_the_cpu(tiny_model):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(UsageError, match=r"--device cuda: .* no CUDAExecutionProvider; .*mlzsl\[gpu\]"):
        open_engine(tiny_model.path, device="cuda")


def test_a_cuda_provider_that_does_not_start_is_an_error(tiny_model, monkeypatch):
    """ONNX Runtime itself only logs it and falls back to the CPU."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    with pytest.warns(UserWarning, match="not in available provider names"), pytest.raises(UsageError) as caught:
        open_engine(tiny_model.path, device="cuda")
    assert "could not start its CUDAExecutionProvider" in str(caught.value)


@pytest.mark.parametrize(("backend", "package"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(tiny_model, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"is not installed; run `pip install 'mlzsl\[cpu\]'`"):
        open_engine(tiny_model.path, backend=backend)
    if backend == "onnxruntime":
        with pytest.raises(UsageError, match=r"mlzsl\[gpu\]"):
            open_engine(tiny_model.path, device="cuda")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_thread_limit_holds(tiny_model, backend):
    with closing(open_engine(tiny_model.path, backend=backend, threads=1)) as engine:
        np.testing.assert_allclose(
            engine.scores(tiny_model.images), tiny_model.scores(tiny_model.images), atol=2e-6, rtol=0
        )
        if backend == "onnxruntime":
            assert engine.in_flight == 1
        else:
            assert engine._compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize(("threads", "in_flight"), [(1, 1), (2, 2), (64, onnxruntime_engine.MOST_IN_FLIGHT)])
def test_onnxruntime_keeps_a_bounded_number_of_batches(tiny_model, threads, in_flight):
    with closing(open_engine(tiny_model.path, backend="onnxruntime", threads=threads)) as engine:
        assert engine.in_flight == in_flight


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "changes",
    [{"output": "probabilities"}, {"input_type": onnx.TensorProto.FLOAT}],
)
def test_a_network_that_does_not_match_its_manifest_is_refused(tmp_path, backend, changes):
    if "input_type" in changes:
        serialized = network(**changes)
        expected = r"maps images float32 \[N, 32, 32, 3\]"
    else:
        serialized = network(**changes)
        expected = r"→ probabilities float32 \[N, 6\], expected images uint8"
    model = write_tiny_model(tmp_path / "model.onnx", serialized)
    with pytest.raises(UsageError, match=expected):
        open_engine(model.path, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_network_that_does_not_load_is_refused_in_one_sentence(tmp_path, backend):
    broken = onnx.load_from_string(network())
    broken.graph.node[4].op_type = "Convolve"
    model = write_tiny_model(tmp_path / "model.onnx", broken.SerializeToString())
    with pytest.raises(UsageError, match="cannot load the network") as caught:
        open_engine(model.path, backend=backend)
    assert "\n" not in str(caught.value)


def test_another_kind_of_file_is_refused(tmp_path):
    other = tmp_path / "model.engine"
    other.write_bytes(b"ftrt")
    with pytest.raises(UsageError, match=r"is not an engine file; expected a name that ends in \.onnx or \.plan"):
        open_engine(other)
    with pytest.raises(UsageError, match="no such model file"):
        open_engine(tmp_path / "missing.onnx")


def test_engines_run_without_torch_and_the_onnx_package(tiny_model):
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import mlzsl.engines.opening as engines\n"
        "assert 'openvino' not in sys.modules and 'onnxruntime' not in sys.modules\n"
        f"for backend in engines.BACKENDS: engines.open_engine({str(tiny_model.path)!r}, backend=backend).close()\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)


def test_the_reference_of_these_tests_gives_labels_different_scores():
    scores = reference_scores(random_images(20))
    assert scores.shape == (20, len(LABELS))
    assert scores.std(axis=0).min() > 0.02


def test_signals_are_safe_after_engines_close_in_the_order_of_opening(tiny_model):
    program = (
        "import gc, signal, subprocess, sys\n"
        "from mlzsl.engines.opening import open_engine\n"
        "first, second = (open_engine(sys.argv[1]) for _ in range(2))\n"
        "for engine in (first, second):\n"
        "    engine.close()\n"
        "del first, second, engine\n"
        "gc.collect()\n"
        "signal.signal(signal.SIGCHLD, lambda *_: print('a child ended'))\n"
        "subprocess.run(['true'], check=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tiny_model.path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a child ended\n"), done.stderr

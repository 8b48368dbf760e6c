"""Calibration from an fp32 file and photos to files of lower precision that engines run, with their accuracy drop."""

import dataclasses
import json
import shutil
from contextlib import closing
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from residualmodel import LAYERS, fragile_network, residual_network, write_residual_model
from tinymodel import manifest, random_images, write_tiny_model
from tinymodel import network as tiny_network

from mlzsl.calibration.accuracy import compare_accuracy
from mlzsl.calibration.calibrate import calibrate
from mlzsl.calibration.mixed_precision import Candidate, LayerSensitivity, multiply_adds, search_mixed_precision
from mlzsl.calibration.ranges import read_record
from mlzsl.calibration.settings import Settings
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import sha256_of_file
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest
from mlzsl.engines.opening import open_engine
from mlzsl.imaging import TransientReadError
from mlzsl.runtime.verify.reference import open_reference
from mlzsl.runtime.verify.verify import verify

QUICK = Settings(count=30, check_count=30, threads=1)
ANYTHING = dataclasses.replace(QUICK, max_drop=100, min_agreement=0)


def settings(**changes: object) -> Settings:
    return dataclasses.replace(ANYTHING, **changes)


def made(model, photos, **changes):
    return calibrate(model.path, [str(photos)], settings(**changes), quiet=True)


def kinds(path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_a_calibrated_file_keeps_labels_and_golden_sample_and_states_its_precision(model, photos):
    result = made(model, photos)
    assert result.path == model.path.with_name("model.int8.onnx")
    found = read_manifest(result.path)
    assert found == result.manifest
    assert (found.precision, found.quantized_for) == ("int8", "openvino")
    assert (found.labels, found.preprocessing) == (model.manifest.labels, model.manifest.preprocessing)
    assert found.sources["fp32"] == model.manifest.network_sha256
    assert found.sources["calibration"] == sha256_of_file(result.record)
    np.testing.assert_array_equal(read_golden(result.path).scores, read_golden(model.path).scores)


def test_a_certified_fp32_file_is_still_the_reference_of_files_made_from_it(model, photos):
    from mlzsl.engines.artifact.engine_file import certify

    result = made(model, photos)
    with closing(open_engine(model.path, threads=1)) as engine:
        certify(model.path, verify(engine, model.path).certificate())
    images = random_images(4)
    with (
        open_reference(model.path, result.path, result.manifest, threads=1) as reference,
        closing(open_engine(result.path, threads=1)) as engine,
    ):
        np.testing.assert_allclose(engine.scores(images), next(reference.scores([images])), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("changes", "name", "backends"),
    [
        ({"precision": "fp16"}, "model.fp16.onnx", ["onnxruntime"]),
        ({"precision": "bf16"}, "model.bf16.onnx", ["openvino"]),
        ({}, "model.int8.onnx", ["openvino", "onnxruntime"]),
        ({"target": "tensorrt"}, "model.int8.tensorrt.onnx", ["openvino", "onnxruntime"]),
        ({"target": "onnxruntime"}, "model.int8.onnxruntime.onnx", ["openvino", "onnxruntime"]),
        ({"precision": "fp8"}, "model.fp8.onnx", ["onnxruntime"]),
    ],
    ids=str,
)
def test_engines_run_every_precision_with_scores_close_to_fp32(model, photos, changes, name, backends):
    if changes.get("precision") == "bf16" and not has_bf16():
        pytest.skip("needs a CPU with bf16 arithmetic")
    result = made(model, photos, **changes)
    assert result.path.name == name
    images = random_images(20, seed=4)
    with closing(open_engine(model.path, threads=1)) as engine:
        fp32 = engine.scores(images)
    for backend in backends:
        with closing(open_engine(result.path, backend=backend, threads=1)) as engine:
            assert engine.execution.precision == settings(**changes).precision
            difference = np.abs(engine.scores(images) - fp32)
            assert 0 < difference.mean() < 0.03
            assert verify(engine, result.path).passed


def test_openvino_runs_int8_in_one_stream(model, photos):
    """With several, OpenVINO 2026.4 compiles some networks to wrong scores, not every time."""
    with closing(open_engine(made(model, photos).path, threads=4)) as engine:
        assert engine.in_flight == 2, "one that runs, one that is put together"


def test_the_head_of_a_bf16_file_computes_in_fp32(model):
    if not has_bf16():
        pytest.skip("needs a CPU with bf16 arithmetic")
    with closing(open_engine(made_unmeasured(model, "bf16"), threads=1)) as engine:
        layers = {op.get_friendly_name(): op.get_rt_info() for op in engine._compiled.get_runtime_model().get_ops()}
    kinds = {(str(told["layerType"].value), str(told["runtimePrecision"].value)) for told in layers.values()}
    assert ("Convolution", "bf16") in kinds
    assert {precision for kind, precision in kinds if kind in ("FullyConnected", "MatMul")} == {"f32"}


def test_a_file_that_a_backend_cannot_run_is_refused_in_one_sentence(model, photos):
    fp8, bf16 = made(model, photos, precision="fp8").path, made_unmeasured(model, "bf16")
    with pytest.raises(UsageError, match=r"model\.fp8\.onnx: is a file of precision fp8, and --backend openvino runs"):
        open_engine(fp8)
    with pytest.raises(UsageError, match=r"precision bf16, which --backend onnxruntime does not run on a cpu"):
        open_engine(bf16, backend="onnxruntime")


def made_unmeasured(model, precision):
    return calibrate(model.path, [], settings(precision=precision), quiet=True).path


def test_fp16_and_bf16_need_no_photos(model):
    for precision in ("fp16", "bf16"):
        result = calibrate(model.path, [], settings(precision=precision), quiet=True)
        assert (result.accuracy_drop, result.record) == (None, None)
        assert read_manifest(result.path).precision == precision
        assert "QuantizeLinear" not in kinds(result.path)


def test_the_same_photos_give_the_same_file(model, photos, tmp_path):
    first = made(model, photos).path.read_bytes()
    assert made(model, photos).path.read_bytes() == first
    assert made(model, photos, seed=1).path.read_bytes() != first


def test_calibration_and_check_share_no_image(model, photos, tmp_path):
    """Duplicates in a folder are used once."""
    twice = tmp_path / "twice"
    for copy in ("a", "b"):
        shutil.copytree(photos, twice / copy)
    result = made(model, twice, count=20, check_count=500)
    assert read_record(result.record).photos + result.accuracy_drop.agreement.photos == len(list(photos.iterdir()))


def test_labels_add_the_drop_of_map(model, labelled, photos):
    assert made(model, photos).accuracy_drop.mAP == {}
    assert set(made(model, labelled).accuracy_drop.mAP) == {"seen", "unseen"}


def test_other_photos_can_measure(model, photos, labelled):
    result = calibrate(model.path, [str(photos)], settings(count=7), check=str(labelled), quiet=True)
    assert read_record(result.record).photos == 7
    assert set(result.accuracy_drop.mAP) == {"seen", "unseen"}


# The record.


def test_an_earlier_record_gives_the_same_scales_without_photos(model, photos, tmp_path):
    """Only the rounded weights differ: GPTQ needs photos."""
    first = made(model, photos)
    again = calibrate(model.path, [], ANYTHING, tmp_path / "again.onnx", record=first.record, quiet=True)
    assert again.accuracy_drop is None
    before, after = (
        {tensor.name: tensor for tensor in onnx.load(path).graph.initializer} for path in (first.path, again.path)
    )
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {f"{layer}/weight/quantized" for layer in LAYERS}


def test_one_record_serves_every_backend(model, photos):
    record = made(model, photos).record
    for target in ("tensorrt", "onnxruntime"):
        result = calibrate(model.path, [], settings(target=target), record=record, quiet=True)
        assert result.manifest.quantized_for == target


def test_an_earlier_record_gives_the_same_file_with_its_photos(model, photos, tmp_path):
    first = made(model, photos)
    again = calibrate(model.path, [str(photos)], ANYTHING, tmp_path / "again.onnx", record=first.record, quiet=True)
    assert onnx.load(again.path).graph == onnx.load(first.path).graph


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("photos", "its photos' SHA-256 is"),
        ("method", "its method is mse, expected entropy"),
        ("model", "is of another model"),
        ("damage", "is not JSON"),
    ],
)
def test_a_stale_record_is_refused_and_nothing_is_written(model, photos, tmp_path, change, expected):
    record = made(model, photos).record
    asked, given = ANYTHING, photos
    if change == "photos":
        given = tmp_path / "others"
        shutil.copytree(photos, given)
        from PIL import Image

        for path in given.iterdir():
            Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    elif change == "method":
        asked = settings(method="entropy")
    elif change == "model":
        other = residual_network()
        other.graph.initializer[-1].raw_data = bytes(len(other.graph.initializer[-1].raw_data))
        model = write_tiny_model(tmp_path / "other.onnx", other.SerializeToString())
    else:
        record.write_text(record.read_text()[:-40])
    with pytest.raises(UsageError, match=expected):
        calibrate(model.path, [str(given)], asked, tmp_path / "out.onnx", record=record, quiet=True)
    assert not (tmp_path / "out.onnx").exists()


# Keeping layers float.


def test_the_search_keeps_the_most_sensitive_layers_in_float_until_the_drop_is_within_the_settings(tmp_path, photos):
    fragile = write_residual_model(tmp_path / "fragile.onnx", fragile_network())
    limits = settings(method="minmax", min_agreement=97)
    result = calibrate(fragile.path, [str(photos)], limits, quiet=True)
    counts = [len(candidate.kept) for candidate in result.candidates]
    assert counts == [0, 2], "two layers are an eighth of the multiply-adds, three are more"
    assert set(result.candidates[-1].kept) <= {"first", "skip"}, "those that read the spoilt tensor"
    agreements = [candidate.accuracy_drop.agreement.top_agreement for candidate in result.candidates]
    assert max(agreements[:-1]) < 0.97 <= agreements[-1]
    assert result.accuracy_drop == result.candidates[-1].accuracy_drop
    shares = [candidate.quantized_share for candidate in result.candidates]
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)
    speedups = [candidate.speedup for candidate in result.candidates]
    assert speedups == sorted(speedups, reverse=True)
    assert {entry.layer for entry in result.ranked} == set(LAYERS)
    assert sum(entry.share for entry in result.ranked) == pytest.approx(1)
    per_mac = [entry.sensitivity**2 / entry.share for entry in result.ranked]
    assert per_mac == sorted(per_mac, reverse=True)
    constants = {tensor.name for tensor in onnx.load(result.path).graph.initializer}
    for layer in LAYERS:
        assert (f"{layer}.weight/bf16" in constants) == (layer in result.candidates[-1].kept)
        assert (f"{layer}/weight/quantized" in constants) == (layer not in result.candidates[-1].kept)


def test_the_share_of_a_layer_is_its_multiply_adds(network):
    places = {"stem": 32 * 32, "first": 16 * 16, "second": 16 * 16, "skip": 16 * 16, "last": 8 * 8}
    weights = {"stem": 8 * 3 * 9, "first": 8 * 8, "second": 16 * 8 * 9, "skip": 16 * 8, "last": 16 * 16 * 9}
    assert multiply_adds(network) == {layer: places[layer] * weights[layer] for layer in LAYERS}


def test_a_search_without_success_fails_with_the_drop_that_it_reached():
    """Every candidate has the scores of the worst network."""
    scores = np.tile(np.arange(6, dtype=np.float32), (30, 1)) / 6
    worst = compare_accuracy(scores[:, ::-1], scores, manifest())
    tried = [Candidate((), worst, 1.0)]

    def evaluate(kept):
        tried.append(Candidate(kept, worst, 1 - 0.2 * len(kept)))
        return tried[-1]

    ranked = [LayerSensitivity(layer, 1.0, 0.2) for layer in LAYERS]
    with pytest.raises(FailureError, match=r"with 2 of 5 layers in float, .* top-3 agreement is 0.0%; .* exceeded"):
        search_mixed_precision(tried[0], ranked, evaluate, settings(min_agreement=50))
    assert [len(candidate.kept) for candidate in tried] == [0, 1, 2]


# Bad input.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "--precision int8: needs a few hundred photos"),
        ({"precision": "fp8"}, "--precision fp8: needs a few hundred photos"),
        ({"precision": "int4"}, "--precision int4: unknown, expected one of fp16, bf16, int8, fp8"),
        ({"method": "guess"}, "--method guess: unknown"),
        ({"target": "tvm"}, "--for tvm: unknown"),
        ({"precision": "fp16", "target": "tensorrt"}, "--for: has no effect on an fp16 file"),
        ({"precision": "fp8", "target": "openvino"}, "--precision fp8 --for openvino: only TensorRT"),
    ],
    ids=str,
)
def test_unknown_and_contradicting_settings_are_refused(model, changes, expected):
    with pytest.raises(UsageError, match=expected):
        calibrate(model.path, [], settings(**changes), quiet=True)


def test_a_calibrated_file_is_not_calibrated_again(model, photos):
    with pytest.raises(UsageError, match=r"model\.int8\.onnx: is a file of precision int8, expected fp32"):
        calibrate(made(model, photos).path, [str(photos)], ANYTHING, quiet=True)


def test_a_file_without_a_manifest_is_refused(tmp_path, photos):
    (tmp_path / "bare.onnx").write_bytes(tiny_network())
    with pytest.raises(UsageError, match=r"bare\.onnx: the model has no manifest"):
        calibrate(tmp_path / "bare.onnx", [str(photos)], ANYTHING, quiet=True)


def test_the_model_itself_is_not_overwritten(model, photos):
    with pytest.raises(UsageError, match="is the fp32 model file itself"):
        calibrate(model.path, [str(photos)], ANYTHING, model.path, quiet=True)


def test_unreadable_photos_are_an_error_that_names_one(model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"the only photo could not be read: .*broken\.jpg: not an image"):
        calibrate(model.path, [str(tmp_path / "photos")], ANYTHING, quiet=True)


def test_a_photo_that_the_machine_failed_to_read_ends_the_calibration(model, photos, monkeypatch):
    monkeypatch.setattr("mlzsl.calibration.photos.load_image", Mock(side_effect=TransientReadError("no memory")))
    with pytest.raises(FailureError, match=r"\.png: could not be read: no memory"):
        calibrate(model.path, [str(photos)], ANYTHING, quiet=True)


def test_a_single_photo_leaves_none_to_measure_on(model, photos):
    with pytest.raises(UsageError, match="no photo is left to measure the accuracy drop on"):
        calibrate(model.path, [str(photos / "00.png")], ANYTHING, quiet=True)


def test_an_unknown_backend_in_a_manifest_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(UsageError, match='quantized_for is "tvm", not one of tensorrt, openvino, onnxruntime or null'):
        write_residual_model(path, quantized_for="tvm")
    assert json.loads(manifest().to_json())["quantized_for"] is None

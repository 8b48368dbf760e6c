"""`mlzsl-verify --certify`: an engine within its tolerances gets a certificate in its file; nothing else changes it."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from onnx import numpy_helper
from PIL import Image
from tinymodel import LABELS, TinyModel, manifest, network, random_images, reference_scores, write_tiny_model

from mlzsl.engines.artifact.modelfile import read_manifest, write_model_file
from mlzsl.metrics.average_precision import evaluate
from mlzsl.runtime.verify.cli import main

PHOTOS = random_images(24, seed=3)


def verify(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def distorted_network(by):
    """The tiny network with other weights for its first label, which changes its tags, their order and its mAP."""
    model = onnx.load_model_from_string(network())
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    turned = numpy_helper.to_array(weights) * np.array([1 - by, 1, 1, 1, 1, 1], np.float32)
    weights.CopyFrom(numpy_helper.from_array(turned, "weights"))
    return model.SerializeToString()


def derive(source, path, by, **changes):
    """A file made as by calibration: another network, with the golden sample of the source."""
    images = random_images(3, seed=5)
    made = replace(source.manifest, sources={"model": source.manifest.network_sha256}, **changes)
    return write_model_file(path, distorted_network(by), made, images, reference_scores(images).astype(np.float32))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """model.onnx, derived.onnx made from it with other scores, and photos/ with labels.json beside it."""
    monkeypatch.chdir(tmp_path)
    source = write_tiny_model(tmp_path / "model.onnx")
    derive(source, tmp_path / "derived.onnx", by=0.01)
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(PHOTOS):
        Image.fromarray(image).save(tmp_path / f"photos/{index:02}.png")
    scores = reference_scores(PHOTOS)
    targets = {
        f"{index:02}.png": [label.name for label, score in zip(LABELS, row, strict=True) if score > 0.6] + ["unicorn"]
        for index, row in enumerate(scores)
    }
    (tmp_path / "labels.json").write_text(json.dumps(targets))
    return tmp_path


ON_PHOTOS = ("--against", "model.onnx", "--photos", "photos")
LOOSE = (
    *("--tolerance", "1", "--mean-tolerance", "1", "--max-flips", "100", "--min-top-agreement", "0"),
    *("--max-drop", "100"),
)


def test_verifying_alone_changes_no_file(here):
    before = (here / "model.onnx").read_bytes()
    assert verify("model.onnx").exit_code == 0
    assert (here / "model.onnx").read_bytes() == before


def test_the_measurements_are_written_into_the_file(here):
    result = verify("model.onnx", *ON_PHOTOS, "--certify", "--backend", "onnxruntime", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["certified"] is True
    written = read_manifest("model.onnx")
    (certificate,) = written.certificates
    assert certificate.network_sha256 == written.network_sha256 == report["network_sha256"]
    assert certificate.engine == ("onnxruntime", "CPUExecutionProvider", "fp32")
    assert certificate.photos == 24
    assert certificate.reference_sha256 == written.network_sha256
    kept = [[entry["value"] for entry in check["measurements"]] for check in report["checks"]]
    assert [[found.value for found in check.measurements] for check in certificate.checks] == kept
    assert verify("model.onnx", "--backend", "onnxruntime").exit_code == 0


def test_each_engine_and_precision_has_its_own(here):
    for backend in ("openvino", "onnxruntime", "openvino"):
        assert verify("model.onnx", "--certify", "--backend", backend).exit_code == 0
    assert [made.backend for made in read_manifest("model.onnx").certificates] == ["onnxruntime", "openvino"]


def test_an_engine_that_exceeds_its_tolerances_gets_none(here):
    before = (here / "derived.onnx").read_bytes()
    result = verify("derived.onnx", *ON_PHOTOS, "--certify")
    assert result.exit_code == 1
    assert "derived.onnx: exceeds its tolerances: golden sample: largest difference is" in result.stderr
    assert result.stderr.endswith("no certificate was written.\n")
    assert (here / "derived.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("tighter", "measured"),
    [
        (("--tolerance", "0.01"), "golden sample: largest difference"),
        (("--mean-tolerance", "0.001"), "mean difference"),
        (("--max-flips", "0.1"), "photos: flipped tags"),
        (("--min-top-agreement", "99.9"), "photos: top-3 agreement"),
        (("--max-drop", "0.1"), "true labels: seen mAP lost"),
    ],
)
def test_every_tolerance_can_be_tightened(here, tighter, measured):
    derive(TinyModel(here / "model.onnx", read_manifest("model.onnx"), PHOTOS), here / "distorted.onnx", by=2)
    loose = dict(zip(LOOSE[::2], LOOSE[1::2], strict=True))
    labelled = (*ON_PHOTOS, "--labels-json", "labels.json", "--backend", "onnxruntime")
    assert verify("distorted.onnx", *labelled, *LOOSE, "--quiet").exit_code == 0
    loose.pop(tighter[0])
    result = verify("distorted.onnx", *labelled, *(word for pair in loose.items() for word in pair), *tighter)
    assert result.exit_code == 1, result.output
    assert f"{measured} is " in result.stderr


def test_the_map_drop_is_measured_on_labelled_photos(here):
    result = verify("derived.onnx", *ON_PHOTOS, *LOOSE, "--labels-json", "labels.json", "--json")
    assert result.exit_code == 0, result.output
    check = json.loads(result.stdout)["checks"][3]
    found = {entry["name"]: entry["value"] for entry in check["measurements"]}
    scores = reference_scores(PHOTOS)
    expected = evaluate(scores, scores > 0.6, np.array([label.seen for label in LABELS]))
    for part in ("seen", "unseen"):
        assert found[f"{part} mAP of the reference"] == pytest.approx(100 * expected[part].mAP)
        assert found[f"{part} miAP of the reference"] == pytest.approx(100 * expected[part].miAP)
        assert found[f"{part} mAP lost"] == pytest.approx(found[f"{part} mAP of the reference"] - found[f"{part} mAP"])


def test_the_fp32_file_is_its_own_reference_in_another_precision_and_nothing_else_is(here):
    other = here / "other.onnx"
    images = random_images(3, seed=9)
    write_model_file(other, distorted_network(1), manifest(), images, reference_scores(images).astype(np.float32))
    result = verify("model.onnx", "--against", other, "--photos", "photos")
    assert result.exit_code == 2
    assert "model.onnx was not made from it" in result.stderr
    assert verify("model.onnx", *ON_PHOTOS, "--quiet").exit_code == 0


def test_a_derived_file_of_other_precision_is_no_reference(here):
    derive(TinyModel(here / "model.onnx", read_manifest("model.onnx"), PHOTOS), here / "int8.onnx", 0, precision="int8")
    result = verify("model.onnx", "--against", "int8.onnx", "--photos", "photos")
    assert result.exit_code == 2
    assert "--against int8.onnx: is a file of precision int8; name the fp32 file" in result.stderr


def test_a_reference_that_does_not_give_its_own_golden_scores_is_not_trusted(here):
    result = verify("model.onnx", "--against", "derived.onnx", "--photos", "photos")
    assert result.exit_code == 1
    assert "--against derived.onnx: differs from PyTorch's scores by" in result.stderr


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"00.png": ["unicorn"]}, "none of the labels of its photos (unicorn, …) is among the 6 of the model"),
        ({"nowhere.png": ["dog"]}, "1 of its 1 photos are not in photos"),
        (["dog"], 'expected {"photo.jpg": ["dog", "chair"], ...}'),
    ],
)
def test_invalid_labels_are_one_sentence(here, labels, expected):
    (here / "labels.json").write_text(json.dumps(labels))
    result = verify("model.onnx", *ON_PHOTOS, "--labels-json", "labels.json")
    assert result.exit_code == 2, result.output
    assert expected in result.stderr


def test_photos_that_cannot_be_read_shift_no_labels(here):
    (here / "photos/03.png").write_bytes(b"broken")
    result = verify("model.onnx", *ON_PHOTOS, "--labels-json", "labels.json", "--json")
    report = json.loads(result.stdout)
    kept = np.delete(reference_scores(PHOTOS), 3, axis=0)
    expected = evaluate(kept, kept > 0.6, np.array([label.seen for label in LABELS]))["seen"].mAP
    found = {entry["name"]: entry["value"] for entry in report["checks"][3]["measurements"]}
    assert report["unreadable"] == 1
    assert found["seen mAP"] == pytest.approx(100 * expected)


def test_a_link_to_a_model_file_stays_one(here):
    (here / "link.onnx").symlink_to("model.onnx")
    assert verify("link.onnx", "--certify", "--backend", "onnxruntime").exit_code == 0
    assert (here / "link.onnx").is_symlink()
    assert len(read_manifest("model.onnx").certificates) == 1

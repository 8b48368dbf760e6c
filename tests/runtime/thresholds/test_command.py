"""`mlzsl-thresholds`: what is written into a file, what it changes, and what is refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from PIL import Image
from planrecord import RECORD
from tinymodel import LABELS, random_images, reference_scores, write_tiny_model

from mlzsl.cli.errors import FailureError
from mlzsl.engines.artifact.engine_file import golden_sample, set_thresholds
from mlzsl.engines.artifact.modelfile import read_manifest
from mlzsl.engines.artifact.plan_manifest import read_plan_manifest, write_plan
from mlzsl.runtime.tagging.cli import main as infer
from mlzsl.runtime.thresholds.cli import main as thresholds
from mlzsl.runtime.thresholds.learning import FEW_PHOTOS, UNSEEN, thresholds_from_scores
from mlzsl.runtime.thresholds.operating_point import BEST_F1, RECALL, Goal, choose_operating_point
from mlzsl.runtime.verify.cli import main as verify

PHOTOS = random_images(60, seed=3)
SCORES = reference_scores(PHOTOS).astype(np.float32)
ONE_UNSEEN = tuple(replace(label, seen=label.name != "zebra") for label in LABELS)
NAMES = [label.name for label in LABELS]
NOISE = np.random.default_rng(0).normal(0, 0.15, SCORES.shape)
TARGETS = np.quantile(SCORES, 0.7, axis=0) < SCORES + NOISE


def run(command, *arguments: str):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """model.onnx with one unseen label, and photos/ with their labels.json."""
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "model.onnx", labels=ONE_UNSEEN)
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(PHOTOS):
        Image.fromarray(image).save(tmp_path / f"photos/{index:02}.png")
    targets = {
        f"{index:02}.png": [name for name, true in zip(NAMES, row, strict=True) if true]
        for index, row in enumerate(TARGETS)
    }
    (tmp_path / "photos/labels.json").write_text(json.dumps(targets))
    return tmp_path


def test_thresholds_are_written_and_tagging_uses_them(here):
    golden = golden_sample("model.onnx")
    result = run(thresholds, "model.onnx", "--photos", "photos", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    labelled = TARGETS.any(axis=1)  # photos without a label are left out
    assert report["photos"] == labelled.sum()
    written = {label.name: label.threshold for label in read_manifest("model.onnx").labels}
    for index, entry in enumerate(report["labels"]):
        assert written[entry["label"]] == entry["threshold"]
        if entry["label"] == "zebra":
            assert entry["predicted"] == UNSEEN
            assert entry["low"] <= entry["threshold"] <= entry["high"]
        else:
            chosen = choose_operating_point(SCORES[labelled, index], TARGETS[labelled, index], Goal(BEST_F1))
            assert entry["threshold"] == pytest.approx(chosen.threshold, abs=1e-5)
            assert entry["f1"] == pytest.approx(chosen.f1)
            assert entry["predicted"] is None
    assert (golden_sample("model.onnx").scores == golden.scores).all()

    assert run(infer, "photos", "--json").exit_code == 0
    record = json.loads((here / "tags.jsonl.run.json").read_text())
    assert record["selection"]["rule"] == "every label that reaches its own threshold"
    for line, scores in zip(map(json.loads, (here / "tags.jsonl").read_text().splitlines()), SCORES, strict=True):
        clear = [name for name, score in zip(NAMES, scores, strict=True) if abs(score - written[name]) > 1e-5]
        expected = {name for name, score in zip(NAMES, scores, strict=True) if score >= written[name]}
        assert {tag["label"] for tag in line["tags"]} & set(clear) == expected & set(clear)


def test_the_report_states_how_good_predictions_are(here):
    result = run(thresholds, "--engine", "model.onnx", "--photos", "photos", "--goal", "precision=0.8")
    assert result.exit_code == 0, result.output
    assert "Thresholds for precision=0.8, on " in result.stdout
    assert "80% interval" in result.stdout
    assert "zebra *" in result.stdout
    assert "unseen, predicted" in result.stdout
    assert "For labels left out of this choice as well, the overlap is" in result.stdout
    assert "wrote the thresholds of 6 labels into model.onnx" in result.stderr


def test_certificates_of_other_thresholds_are_removed(here):
    assert run(verify, "model.onnx", "--certify").exit_code == 0
    assert read_manifest("model.onnx").certificates
    result = run(thresholds, "model.onnx", "--photos", "photos")
    assert result.exit_code == 0
    assert "into model.onnx; certify it again" in result.stderr
    assert not read_manifest("model.onnx").certificates
    assert run(verify, "model.onnx", "--certify").exit_code == 0
    assert run(thresholds, "model.onnx", "--photos", "photos").exit_code == 0
    assert read_manifest("model.onnx").certificates  # the thresholds are those that were there


def test_an_engine_that_exceeds_its_tolerances_gets_no_thresholds(here):
    before = (here / "model.onnx").read_bytes()
    result = run(thresholds, "model.onnx", "--photos", "photos", "--tolerance", "0")
    assert result.exit_code == 1
    assert "no thresholds were written" in result.stderr
    assert (here / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("--goal", "best", "--photos", "photos"), 2, "--goal best: unknown; use best-f1, precision=0.9"),
        ((), 2, "--photos: is missing"),
        (("--photos", "photos", "--certify"), 2, "--certify: no such option"),
        (("--photos", "photos", "--min-photos", "50"), 1, "only 0 seen labels have 50 photos or more"),
        (("--photos", "nowhere"), 2, "nowhere: no such folder"),
        (("--photos", "photos", "--labels-json", "nowhere.json"), 2, "nowhere.json: cannot be read"),
    ],
)
def test_errors_change_nothing(here, arguments, code, what):
    before = (here / "model.onnx").read_bytes()
    result = run(thresholds, "model.onnx", *arguments)
    assert result.exit_code == code, result.output
    assert what in result.stderr
    assert "Traceback" not in result.output
    assert (here / "model.onnx").read_bytes() == before


def test_labels_that_the_model_does_not_have_are_refused(here):
    (here / "photos/labels.json").write_text(json.dumps({"00.png": ["unicorn"]}))
    result = run(thresholds, "model.onnx", "--photos", "photos")
    assert result.exit_code == 2
    assert "photos: none of the labels of its photos (unicorn, …)" in result.stderr


def test_a_seen_label_with_too_few_photos_is_predicted_and_an_unseen_one_always(here):
    targets = TARGETS.copy()
    targets[np.flatnonzero(targets[:, 0])[3:], 0] = False
    labels = tuple(replace(label, seen=True) for label in LABELS)
    learned = thresholds_from_scores(labels, SCORES, targets, Goal(RECALL, 0.8))
    assert [found.predicted for found in learned.labels] == [FEW_PHOTOS, *[None] * 5]
    learned = thresholds_from_scores(labels, SCORES, targets, Goal(RECALL, 0.8), min_photos=3)
    assert [found.predicted for found in learned.labels] == [None] * 6
    assert learned.validation is None
    targets = TARGETS.copy()
    of_zebra = thresholds_from_scores(ONE_UNSEEN, SCORES, targets, Goal(BEST_F1)).labels[3]
    targets[:, 3] = ~targets[:, 3]
    turned = thresholds_from_scores(ONE_UNSEEN, SCORES, targets, Goal(BEST_F1)).labels[3]
    assert of_zebra.predicted == turned.predicted == UNSEEN
    assert of_zebra.point.threshold == turned.point.threshold
    assert of_zebra.point.f1 != turned.point.f1


def test_the_thresholds_of_a_plan_are_in_its_manifest(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")
    plan = tmp_path / "model.plan"
    write_plan(plan, b"native code", model.manifest, RECORD, golden_sample(model.path))
    set_thresholds(plan, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], model.manifest.network_sha256)
    assert [label.threshold for label in read_plan_manifest(plan).model.labels] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert plan.read_bytes() == b"native code"


def test_a_replaced_file_keeps_its_thresholds(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")
    before = model.path.read_bytes()
    with pytest.raises(FailureError, match="was replaced by another network while it was measured"):
        set_thresholds(model.path, [0.5] * 6, "0" * 64)
    assert model.path.read_bytes() == before


def test_a_label_without_a_synset_has_a_predicted_threshold():
    labels = tuple(replace(label, synset=label.synset if label.seen else None) for label in ONE_UNSEEN)
    of_zebra = thresholds_from_scores(labels, SCORES, TARGETS, Goal(BEST_F1), min_photos=1).labels[3]
    assert of_zebra.predicted == UNSEEN
    assert 0 <= of_zebra.low <= of_zebra.point.threshold <= of_zebra.high <= 1

"""`mlzsl-calibrate`: what it prints for people and for programs, and its usage errors."""

import json

import pytest
from click.testing import CliRunner, Result

from mlzsl.calibration.cli import main
from mlzsl.calibration.qdq import QDQ_SCHEMES
from mlzsl.calibration.ranges import METHODS
from mlzsl.calibration.settings import PRECISIONS, Settings

FREE = ("--max-drop", "100", "--min-agreement", "0", "--threads", "1", "--count", "20")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_table_has_the_candidates_the_accuracy_drop_and_the_next_command(model, labelled):
    result = run(model.path, "--photos", labelled, *FREE)
    assert result.exit_code == 0, result.output
    output = model.path.with_name("model.int8.onnx")
    for told in ("in float", "100%", "top-3 agreement", "seen mAP", "unseen mAP", "calibration.json"):
        assert told in result.stdout
    assert f"next: mlzsl-verify {output}" in result.stdout


def test_json_is_json_and_quiet_is_silent(model, photos):
    result = run(model.path, "--photos", photos, "--json", *FREE)
    record = json.loads(result.stdout)
    assert (record["precision"], record["quantized_for"], record["layers"]) == ("int8", "openvino", 5)
    assert record["candidates"][0]["top_agreement"] == record["accuracy_drop"]["top_agreement"]
    assert run(model.path, "--photos", photos, "--quiet", *FREE).output == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--precision", "int4"], "int4"),
        (["--method", "guess"], "guess"),
        (["--max-drop", "-1"], "--max-drop"),
        (["--max-drop", "nan"], "--max-drop"),
        (["--output", "model.int8"], "--output model.int8: expected a name that ends in .onnx"),
        (["--precision", "fp16", "--method", "mse"], "--method: has no effect with --precision fp16; leave it out"),
        (["--precision", "fp16", "--check-count", "9"], "--check-count: has no effect without --photos; leave it out"),
        (["--photos", "nowhere"], "nowhere: no such file or folder"),
        ([], "--precision int8: needs a few hundred photos like those to be tagged"),
        (["--check", "elsewhere", "--precision", "fp16"], "--check: needs calibration photos as well"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(model, words, expected):
    result = run(model.path, *words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert "Traceback" not in result.output


def test_the_flags_offer_every_precision_method_and_backend():
    choices = {option.name: option for option in main.params}
    assert set(choices["precision"].type.choices) == set(PRECISIONS)
    assert list(choices["method"].type.choices) == list(METHODS)
    assert set(choices["target"].type.choices) == {target for _, target in QDQ_SCHEMES}
    defaults = Settings()
    for name in ("precision", "method", "count", "check_count", "seed", "max_drop", "min_agreement"):
        assert choices[name].default == getattr(defaults, name)

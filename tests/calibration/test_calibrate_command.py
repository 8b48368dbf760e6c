"""What a person reads from mlzsl-calibrate, and what a program does."""

import json

import pytest
from click.testing import CliRunner, Result

from mlzsl.calibration.cli import main
from mlzsl.calibration.qdq import PLACEMENTS
from mlzsl.calibration.ranges import METHODS
from mlzsl.calibration.settings import PRECISIONS, Settings

FREE = ("--max-drop", "100", "--min-agreement", "0", "--threads", "1", "--count", "20")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_table_tells_the_ladder_the_drop_and_the_next_command(model, labelled):
    result = run(model.path, "--photos", labelled, *FREE)
    assert result.exit_code == 0, result.output
    output = model.path.with_name("model.int8.onnx")
    for told in ("kept float", "100%", "best 3 labels that stayed", "seen mAP", "unseen mAP", "calibration.json"):
        assert told in result.stdout
    assert f"next: mlzsl-verify {output}" in result.stdout


def test_json_is_json_and_quiet_is_silent(model, photos):
    result = run(model.path, "--photos", photos, "--json", *FREE)
    record = json.loads(result.stdout)
    assert (record["precision"], record["quantized_for"], record["layers"]) == ("int8", "openvino", 5)
    assert record["ladder"][0]["top_agreement"] == record["drop"]["top_agreement"]
    assert run(model.path, "--photos", photos, "--quiet", *FREE).output == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--precision", "int4"], "int4"),
        (["--method", "guess"], "guess"),
        (["--max-drop", "-1"], "--max-drop"),
        (["--photos", "nowhere"], "nowhere: no such file or folder"),
        ([], "--precision int8: needs photos like those that will be tagged"),
        (["--check", "elsewhere", "--precision", "fp16"], "--check: the drop is measured beside"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(model, words, expected):
    result = run(model.path, *words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert "Traceback" not in result.output


def test_the_flags_offer_what_there_is():
    choices = {option.name: option for option in main.params}
    assert set(choices["precision"].type.choices) == set(PRECISIONS)
    assert list(choices["method"].type.choices) == list(METHODS)
    assert set(choices["target"].type.choices) == {target for _, target in PLACEMENTS}
    defaults = Settings()
    for name in ("precision", "method", "count", "check_count", "seed", "max_drop", "min_agreement"):
        assert choices[name].default == getattr(defaults, name)

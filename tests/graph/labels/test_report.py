"""mlzsl-labels: the synset, vector and neighbours of every label, with all warnings and errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.cli import main
from mlzsl.graph.labels.report import report_labels


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_row_has_the_synset_vector_and_neighbours_of_a_label() -> None:
    report = report_labels("coco80", open_embeddings("taxonomy"))
    mouse = next(row for row in report.rows if row.label == "mouse")
    assert mouse.synset == "mouse.n.04"
    assert "cursor" in mouse.gloss
    assert mouse.duplicate_class == "mouse"
    assert mouse.target_neighbours > 0
    assert mouse.external_neighbours > 0
    assert (report.errors, len(report.rows), report.externals + report.externals_left_out) == ((), 80, 1000)


def test_all_warnings_and_errors_are_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("dog\n\nbass\nhot dgo\ndog\nhound\tdog.n.01\nxyzzy\nvirtue\tvirtue.n.01\n")
    report = report_labels(str(file), open_embeddings("taxonomy"))
    warnings = {row.label: " ".join(row.warnings) for row in report.rows}
    assert "ambiguous: the first of 8 senses" in warnings["bass"]
    assert "duplicate: the same synset as hound" in warnings["dog"]
    assert "isolated" in warnings["virtue"]
    expected = (
        "line 2: is blank",
        "line 4: the label 'hot dgo'",
        "line 5: 'dog' is already",
        "line 7: the label 'xyzzy'",
    )
    assert len(report.errors) == len(expected)
    assert all(part in error for part, error in zip(expected, report.errors, strict=True))


def test_the_report_counts_how_vectors_were_found(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("boat 1 2\npot 1 1\nplant 2 2\nmotorcycle 3 3\ncanine 4 4\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("boat\npot plant\nmotorbike\ndog\nvirtue\n")
    report = report_labels(str(labels), open_embeddings(str(vectors)))
    hows = {row.label: row.vector.how if row.vector else None for row in report.rows}
    assert hows == {"boat": "name", "pot plant": "words", "motorbike": "synonym", "dog": "hypernym", "virtue": None}
    assert any("'virtue' is out of vocabulary" in error for error in report.errors)
    assert sum(report.external_vectors.values()) == report.externals


def test_the_table_and_the_exit_code(tmp_path: Path) -> None:
    good = run("voc20")
    assert good.exit_code == 0
    assert "television_receiver.n.01" in good.stdout
    assert "999 external classes in the graph, 1 left out" in good.stdout
    file = tmp_path / "labels.txt"
    file.write_text("dog\nxyzzy\n[bold]dog[/]\tdog.n.01\n")
    bad = run(str(file))
    assert bad.exit_code == 1
    assert "[bold]dog[/]" in bad.stdout
    assert "the label 'xyzzy' is not a noun of WordNet" in bad.stdout
    assert "1 problem(s) make this label set unusable" in bad.stderr


def test_json_has_the_whole_report() -> None:
    report = json.loads(run("nuswide81", "--json").stdout)
    assert len(report["rows"]) == 81
    assert report["rows"][0]["label"] == "airport"
    assert {"synset", "gloss", "vector", "warnings", "target_neighbours"} <= report["rows"][0].keys()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["coc80"], "no label set is called 'coc80'"),
        (["coco80", "--embeddings", "nowhere.txt"], "nowhere.txt: no such file"),
        (["coco80", "--threshold", "7"], "--threshold: 7.0 is not in the range 0<=x<=1."),
    ],
)
def test_a_usage_error_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_importing_the_graph_imports_no_heavy_library() -> None:
    code = (
        "import sys, mlzsl.graph.classgraph; print([m for m in ('torch', 'nltk', 'rich', 'onnx') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

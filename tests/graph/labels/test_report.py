"""mlzsl-labels: the synset, vector and neighbours of every label, with all warnings and errors."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.cli import main
from mlzsl.graph.labels.report import report_labels
from mlzsl.graph.taxonomy import Taxonomy


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
    assert "has 1 problem, listed in the report; correct the file, or leave labels without a synset out" in bad.stderr


def test_names_with_several_readings_are_ambiguous_with_their_alternatives(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("pants\nmen\nglasses\npolish\nturkey\ndog\n")
    report = report_labels(str(file), open_embeddings("taxonomy"))
    warnings = {row.label: " ".join(row.warnings) for row in report.rows}
    assert (
        "ambiguous: chosen by hand among 4 senses, its own and those of 'pant'; others: bloomers.n.01"
        in warnings["pants"]
    )
    assert "its own and those of 'man'; others: work_force.n.01, serviceman.n.01" in warnings["men"]
    assert "ambiguous: the first of 8 senses, its own and those of 'glass'; others: glass.n.01" in warnings["glasses"]
    assert "polish.n.04" in warnings["polish"]
    assert "turkey.n.02" in warnings["turkey"]
    assert "ambiguous" not in warnings["dog"]


def test_labels_without_a_synset_are_left_out_listed_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("dog\nxyzzy\ncat\nhot dgo\n")
    result = run(str(file), "--skip-unlinked")
    assert result.exit_code == 0
    assert f"left out: {file}, line 2: the label 'xyzzy' is not a noun of WordNet" in result.stdout
    assert "2 labels linked, 0 with warnings, 2 left out, which have no synset, 0 problems." in result.stdout
    report = json.loads(run(str(file), "--skip-unlinked", "--json").stdout)
    assert ([row["label"] for row in report["rows"]], len(report["unlinked"]), report["errors"]) == (
        ["dog", "cat"],
        2,
        [],
    )


def test_a_large_list_takes_seconds_and_shows_progress(tmp_path: Path, taxonomy: Taxonomy) -> None:
    chance = random.Random(3)
    nouns = sorted(taxonomy.senses_of_lemmas)
    labels = {noun.replace("_", " ") for noun in chance.sample(nouns, 2000) if noun.isascii()}
    phrases = {f"{label} {chance.choice('aeiou')}{label[::-1]}" for label in sorted(labels)[:800]}  # no nouns
    file = tmp_path / "labels.txt"
    file.write_text("".join(f"{label}\n" for label in sorted(labels | phrases)))
    start = time.process_time()
    result = run(str(file), "--skip-unlinked")
    assert time.process_time() - start < 30  # 0.1 s for a label without a synset, and 5 ms for each other, was too slow
    assert "linking labels: " in result.stderr
    assert f"{len(phrases)} left out, which have no synset" in result.stdout


@pytest.mark.kit
@pytest.mark.parametrize(("name", "labels", "skipped"), [("ram4585.txt", 4585, 800), ("lvis1203.txt", 1203, 1)])
def test_the_kits_large_lists_go_through(kit: Path, name: str, labels: int, skipped: int) -> None:
    report = report_labels(str(kit / "classes" / name), open_embeddings("taxonomy"), skip_unlinked=True)
    assert len(report.rows) + len(report.unlinked) == labels
    assert len(report.unlinked) <= skipped
    assert report.errors == ()


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


def test_phrases_are_reported_with_their_vectors_where_the_embeddings_have_them(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("dog\nflower in a garden\nstop sign\tstop_sign.n.01\nqwrtz\n")
    np.save(tmp_path / "vectors.npy", np.eye(4, dtype=np.float32))
    (tmp_path / "vectors.txt").write_text("dog\nflower in a garden\nstop sign\nentity\n")
    result = run(str(file), "--embeddings", str(tmp_path / "vectors.npy"))
    assert result.exit_code == 1
    assert "1 label linked, 2 without a synset, 2 with warnings, 1 problem." in result.stdout
    assert "line 4: the label 'qwrtz' is not a noun of WordNet" in result.stdout
    report = report_labels(str(file), open_embeddings(str(tmp_path / "vectors.npy")))
    assert [(row.label, row.synset, row.warnings) for row in report.rows] == [
        ("dog", "dog.n.01", ()),
        ("flower in a garden", None, ("no synset: for models without a class graph only",)),
        ("stop sign", None, ("stop_sign.n.01 does not exist: for models without a class graph only",)),
    ]
    assert report_labels(str(file), open_embeddings("taxonomy")).errors != ()


def test_labels_that_are_not_shipped_are_errors_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlzsl.graph.embeddings.minilm.installed_sentence_embeddings", lambda: None)
    file = tmp_path / "labels.txt"
    file.write_text("dog\nflower in a garden\ncrane\tcrane.n.01\nabaya\tcrane.n.02\n")
    report = report_labels(str(file), open_embeddings("minilm"))
    assert "line 2: the label 'flower in a garden' is not a noun of WordNet" in report.errors[0]
    assert [row.vector is None for row in report.rows] == [False, True, True]
    assert "the label 'abaya' is out of vocabulary: minilm has no vector for it" in report.errors[-1]

"""`mlzsl-infer`: what it writes and prints, for valid and invalid input."""

import csv
import json
import os
import resource
import subprocess
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet
from tinymodel import LABELS, broken_network, network, random_images, reference_scores, write_tiny_model

from mlzsl.engines.artifact.manifest import Label
from mlzsl.runtime.tagging.cli import main
from mlzsl.runtime.verify.cli import main as verify


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_model):
    """A folder to work in, with model.onnx and images/ that holds five good photos and a broken one, c.jpg."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(tiny_model.path)
    (tmp_path / "images").mkdir()
    for name, image in zip("abdef", random_images(5), strict=True):
        Image.fromarray(image).save(tmp_path / f"images/{name}.png")
    (tmp_path / "images/c.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path


def infer(*arguments: str, stdin: bytes | None = None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def refused(exit_code: int, *arguments: str) -> str:
    """The error message of a command that fails."""
    result = infer(*arguments)
    assert result.exit_code == exit_code, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("mlzsl-infer: error: ")
    assert "Traceback" not in result.output
    return last


def records(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_without_flags_it_tags_a_folder(here):
    result = infer("images")
    assert result.exit_code == 0, result.output
    tagged = records(here / "tags.jsonl")
    assert [record["path"] for record in tagged] == [
        "images/a.png", "images/b.png", "images/c.jpg", "images/d.png", "images/e.png", "images/f.png",
    ]  # fmt: skip
    assert "error" in tagged[2]
    assert "tags" not in tagged[2]
    scores = reference_scores(random_images(5))
    for record, expected in zip((r for r in tagged if "tags" in r), scores, strict=True):
        best = [LABELS[index].name for index in np.argsort(-expected)[:5] if expected[index] >= 0.25]
        assert [tag["label"] for tag in record["tags"]] == best
    rule = json.loads((here / "tags.jsonl.run.json").read_text())["selection"]
    assert rule == {"top_k": 5, "threshold": 0.25, "rule": "of the best 5 labels, those that reach 0.25"}
    assert "openvino" in result.stderr
    assert "fp32" in result.stderr
    assert "tagged 5 photos" in result.stdout
    assert "1 could not be read:" in result.stdout
    assert "images/c.jpg: " in result.stdout
    assert "wrote tags.jsonl and tags.jsonl.run.json" in result.stdout


def test_every_folder_is_listed_once(here, monkeypatch):
    (here / "images/inner").mkdir()
    Image.new("RGB", (8, 8)).save(here / "images/inner/g.png")
    (here / "images/inner/back").symlink_to("..")
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    assert infer("images", "images/inner", "images/**").exit_code == 0
    assert [path for path in listed if path.startswith("images")] == ["images", "images/inner"]
    assert len(records(here / "tags.jsonl")) == 7


def test_the_record_of_the_run_states_engine_and_selection(here, tiny_model):
    assert infer("images", "--backend", "onnxruntime", "--threshold", "0.5").exit_code == 0
    record = json.loads((here / "tags.jsonl.run.json").read_text())
    assert record["engine"]["file"] == "model.onnx"
    assert record["engine"]["network_sha256"] == tiny_model.manifest.network_sha256
    assert record["engine"]["unseen"] == ["zebra", "snowboard"]
    assert record["execution"]["backend"] == "onnxruntime"
    assert record["execution"]["provider"] == "CPUExecutionProvider"
    assert record["execution"]["precision"] == "fp32"
    assert record["preprocessing"] == tiny_model.manifest.preprocessing
    assert record["selection"]["threshold"] == 0.5
    assert record["photos"] == {"tagged": 5, "unreadable": 1, "skipped": 0}
    assert record["mlzsl"]


def test_the_thresholds_of_the_model_apply_if_it_has_them(here):
    labels = tuple(Label(x.name, x.synset, x.seen, 0.4) for x in LABELS)
    write_tiny_model(here / "own.onnx", labels=labels)
    assert infer("images", "--engine", "own.onnx").exit_code == 0
    scores = reference_scores(random_images(5))
    tagged = [record for record in records(here / "tags.jsonl") if "tags" in record]
    assert [len(record["tags"]) for record in tagged] == (scores >= 0.4).sum(axis=1).tolist()


def test_one_photo_is_not_photos(here):
    assert "tagged 1 photo in " in infer("images/a.png").stdout


def test_csv_and_top_k(here):
    assert infer("images", "-o", "tags.csv", "--top-k", "2").exit_code == 0
    with open(here / "tags.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [len(row["tags"].split(";")) for row in rows if not row["error"]] == [2] * 5
    assert (here / "tags.csv.run.json").exists()


def test_a_list_on_standard_input_and_tags_on_standard_output(here):
    listed = b"images/b.png\0images/missing.png\0images/a.png\0"
    result = infer("-", "-o", "-", stdin=listed)
    assert result.exit_code == 0
    tagged = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["path"] for record in tagged] == ["images/b.png", "images/missing.png", "images/a.png"]
    assert "No such file" in tagged[1]["error"]
    assert not (here / "tags.jsonl").exists()


def test_json_prints_a_summary_and_nothing_else(here):
    result = infer("images", "--json")
    summary = json.loads(result.stdout)
    assert summary["photos"] == {"tagged": 5, "unreadable": 1, "skipped": 0}
    assert summary["errors"][0]["path"] == "images/c.jpg"
    assert summary["output"] == "tags.jsonl"
    assert summary["photos_per_second"] > 0
    assert result.stderr == ""


def test_quiet_is_quiet(here):
    result = infer("images", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_tags_do_not_depend_on_batch_size_threads_or_backend(here):
    found = []
    for flags in (["--batch-size", "1"], ["--batch-size", "4", "--threads", "1"], ["--backend", "onnxruntime"]):
        assert infer("images", "--top-k", "6", *flags).exit_code == 0
        tagged = records(here / "tags.jsonl")
        found.append([{tag["label"]: tag["score"] for tag in record.get("tags", [])} for record in tagged])
    for scores, same, again in zip(*found, strict=True):
        assert same == pytest.approx(scores, abs=3e-6)
        assert again == pytest.approx(scores, abs=3e-6)


def test_a_contact_sheet(here):
    result = infer("images", "--picture", "tagged.png")
    assert result.exit_code == 0, result.output
    assert "and tagged.png" in result.stdout
    with Image.open(here / "tagged.png") as image:
        assert image.width > 1000


def test_a_shard_in_and_parquet_out(here):
    subprocess.run(["tar", "-cf", "photos.tar", "-C", "images", "a.png", "b.png", "c.jpg"], check=True)
    result = infer("photos.tar", "-o", "tags.parquet", "--picture", "tagged.png")
    assert result.exit_code == 0, result.output
    rows = parquet.read_table(here / "tags.parquet").to_pylist()
    assert [row["path"] for row in rows] == ["photos.tar/a.png", "photos.tar/b.png", "photos.tar/c.jpg"]
    assert infer("images/a.png", "images/b.png", "images/c.jpg").exit_code == 0
    for row, record in zip(rows, records(here / "tags.jsonl"), strict=True):
        assert row["error"] == record.get("error")
        assert [tag["label"] for tag in row["tags"] or []] == [tag["label"] for tag in record.get("tags", [])]


def test_a_table_of_paths(here):
    (here / "photos.csv").write_text("id,file\n1,images/b.png\n2,images/missing.png\n")
    assert infer("photos.csv", "--path-column", "file").exit_code == 0
    assert [record["path"] for record in records(here / "tags.jsonl")] == ["images/b.png", "images/missing.png"]
    assert "--path-column path: photos.csv has no such column; its columns are id, file." in refused(2, "photos.csv")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no photos are named; try `mlzsl-infer images/`"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "no image found in empty"),
        (["images", "--engine", "nowhere.onnx"], "nowhere.onnx: no such model file; make one with mlzsl-export"),
        (["images", "--engine", "images"], "images: is a folder"),
        (["images", "--engine", "plain.onnx"], "plain.onnx: the model has no manifest"),
        (["images", "--engine", "other.onnx"], "other.onnx: its manifest belongs to another network"),
        (["images", "--engine", "short.onnx"], "short.onnx: is not an ONNX file, or an incomplete one"),
        (["images", "--engine", "random.onnx"], "random.onnx: is not an ONNX file, or an incomplete one"),
        (["images", "--engine", "images/a.png"], "images/a.png: is not an engine file"),
        (["images", "-o", "tags.txt"], "--output tags.txt: unknown suffix '.txt'"),
        (["images", "-o", "images"], "--output images: is a folder"),
        (["images", "--path-column", "file"], "--path-column: has no effect without a table among PHOTOS"),
        (["nowhere", "--engine", "nowhere.onnx"], "nowhere: no such file or folder"),
        (["images", "--engine", "nowhere.onnx", "-o", "tags.txt"], "--output tags.txt: unknown suffix '.txt'"),
        (["images", "-o", "-", "--json"], "--json: standard output already has the tags"),
        (["images", "--picture", "tagged.gif"], "--picture tagged.gif: unknown suffix '.gif'"),
        (["images", "--precision", "bf16", "--backend", "onnxruntime"], "--precision bf16: --backend onnxruntime runs"),
        (["images", "--device", "cuda", "--backend", "openvino"], "--backend openvino: runs with --device cpu"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_code_2(here, tiny_model, arguments, expected):
    (here / "empty").mkdir()
    (here / "plain.onnx").write_bytes(network())
    whole = tiny_model.path.read_bytes()
    (here / "short.onnx").write_bytes(whole[: len(whole) // 2])
    (here / "random.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    swapped = onnx.load_from_string(network(labels=5))
    swapped.metadata_props.extend(onnx.load(tiny_model.path).metadata_props)
    (here / "other.onnx").write_bytes(swapped.SerializeToString())
    assert expected in refused(2, *arguments)
    assert not (here / "tags.jsonl").exists()


def test_flags_out_of_range_are_refused_by_name(here):
    for flags in (["--top-k", "0"], ["--threshold", "2"], ["--batch-size", "0"], ["--device", "tpu"]):
        result = infer("images", *flags)
        assert result.exit_code == 2
        assert flags[0] in result.stderr


def test_a_backend_that_is_not_installed(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "OpenVINO is not installed; run `pip install 'mlzsl[cpu]'`" in refused(2, "images")


@pytest.mark.parametrize("output", ["tags.jsonl", "-"])
def test_scores_that_are_not_numbers_are_a_failure_and_never_tags(here, output):
    write_tiny_model(here / "nan.onnx", broken_network())
    result = CliRunner().invoke(main, ["images", "--engine", "nan.onnx", "-o", output, "--quiet"])
    assert result.exit_code == 1
    assert result.stderr.startswith("mlzsl-infer: error: a score is NaN or infinite on openvino")
    assert result.stdout == ""
    assert not (here / "tags.jsonl").exists()


def test_no_readable_image_is_a_failure_and_errors_are_recorded(here):
    (here / "broken").mkdir()
    for name in ("x.jpg", "y.png"):
        (here / "broken" / name).write_bytes(b"not an image")
    sentence = refused(1, "broken")
    assert "none of the 2 photos could be read (first: broken/x.jpg: " in sentence
    assert [set(record) for record in records(here / "tags.jsonl")] == [{"path", "error"}] * 2


def test_help_teaches(here):
    result = infer("--help")
    assert result.exit_code == 0
    for words in ("mlzsl-infer images/", "find /photos", "--threshold", "default: model.onnx", "tags.jsonl"):
        assert words in result.output


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))  # no file may grow beyond 300 bytes
from mlzsl.runtime.tagging.cli import main
from mlzsl.runtime.verify.cli import main as verify
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(resource, "RLIMIT_FSIZE"), reason="file size limits")
def test_on_a_full_disk_the_old_tags_survive(here):
    (here / "tags.jsonl").write_text("old\n")
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, "images", "--quiet"], cwd=here, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    (sentence,) = result.stderr.splitlines()
    assert sentence.startswith(
        "mlzsl-infer: error: tags.jsonl.unfinished/job.json: could not be written: File too large."
    )
    assert (here / "tags.jsonl").read_text() == "old\n"
    assert {path.name for path in here.iterdir()} == {"tags.jsonl", "images", "model.onnx"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output_is_one_sentence(here):
    program = "from mlzsl.runtime.tagging.cli import main; main()"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", program, "images", "--quiet", "-o", "-"], stdout=full, stderr=subprocess.PIPE,
            cwd=here, text=True, timeout=120,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == "mlzsl-infer: error: standard output: could not be written: No space left on device.\n"


LIGHT = """
import sys
sys.modules["torch"] = None
import mlzsl.runtime, mlzsl.runtime.tagging.cli, mlzsl.runtime.verify.cli
heavy = {"pyarrow", "openvino", "onnxruntime", "onnx", "torchvision", "mlzsl.export"} & set(sys.modules)
assert not heavy, heavy
"""


def test_commands_import_heavy_libraries_only_to_open_an_engine():
    subprocess.run([sys.executable, "-c", LIGHT], check=True, timeout=120)


def test_it_prints_whether_the_engine_is_certified(here):
    result = infer("images", "--backend", "onnxruntime")
    assert "model.onnx: no certificate for this engine; check it with `mlzsl-verify model.onnx" in result.stderr
    assert json.loads((here / "tags.jsonl.run.json").read_text())["certificate"] is None

    (here / "model.onnx").unlink()
    write_tiny_model(here / "model.onnx")
    certified = CliRunner().invoke(verify, ["model.onnx", "--certify", "--backend", "onnxruntime"])
    assert certified.exit_code == 0, certified.output
    result = infer("images", "--backend", "onnxruntime")
    assert "model.onnx: certified on 3 images, " in result.stderr
    record = json.loads((here / "tags.jsonl.run.json").read_text())
    assert record["certificate"]["network_sha256"] == record["engine"]["network_sha256"]
    assert record["certificate"]["backend"] == "onnxruntime"
    assert "no certificate for this engine" in infer("images", "--backend", "openvino").stderr
    assert infer("images", "--backend", "openvino", "--quiet").stderr == ""


def test_files_of_other_kinds_in_a_folder_are_skipped_and_counted(here):
    for name in ("one.mov", "two.MOV", "notes.txt"):
        (here / "images" / name).write_bytes(b"x")
    result = infer("images")
    assert "skipped 3 files that are not images by their suffix: 2 .mov, 1 .txt" in result.stdout
    assert json.loads((here / "tags.jsonl.run.json").read_text())["photos"]["skipped"] == 3


def test_a_named_video_has_an_error(here):
    (here / "clip.mov").write_bytes(b"\0\0\0\x18ftypqt  " + bytes(64))
    assert "clip.mov: a video, or a HEIF image of a kind that is not supported" in refused(1, "clip.mov")

"""A machine that fails to read photos: they are tried again, never recorded as errors, and the job stays resumable."""

import builtins
import errno
import json
import os
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tinymodel import random_images

from mlzsl.engines.opening import open_engine
from mlzsl.imaging import TransientReadError, transient
from mlzsl.runtime import Tagger
from mlzsl.runtime.io import inputs
from mlzsl.runtime.io.tag_files import read_tags
from mlzsl.runtime.tagging.cli import main
from mlzsl.runtime.tagging.journal import journal_folder
from mlzsl.runtime.tagging.pipeline import MAX_FAILURES_IN_A_ROW, ReadableBatches

COUNT, BATCH = 30, 4
BROKEN = {2, 3, 17}
UNSEEN = ["zebra", "snowboard"]
TRIES = len(transient.RETRY_DELAYS) + 1


class Storage:
    """Fails to open some photos: the first `failing[name]` times."""

    def __init__(self, monkeypatch) -> None:
        self.failing: Counter[str] = Counter()
        self.error: Exception = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        self.opened: Counter[str] = Counter()
        original = Path.open

        def opening(path, *arguments, **options):
            if path.suffix == ".png":
                self.opened[path.name] += 1
                self.failing[path.name] -= 1
                if self.failing[path.name] >= 0:
                    raise self.error
            return original(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", opening)

    def fail(self, *indices: int, times: int = 10**9) -> None:
        """Fail to open these photos, and no others."""
        self.failing = Counter({f"{index:03}.png": times for index in indices})


@pytest.fixture
def storage(monkeypatch):
    return Storage(monkeypatch)


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_model):
    """A folder to work in, with model.onnx and images/, three of whose 30 photos are damaged."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(tiny_model.path)
    (tmp_path / "images").mkdir()
    for index, image in enumerate(random_images(COUNT)):
        if index in BROKEN:
            (tmp_path / f"images/{index:03}.png").write_bytes(b"not an image")
        else:
            Image.fromarray(image).save(tmp_path / f"images/{index:03}.png")
    return tmp_path


def infer(*arguments: str, exit_code: int = 0):
    flags = ["images", "--batch-size", str(BATCH), "--threads", "2", "-q"]
    result = CliRunner().invoke(main, [*flags, *arguments], catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result


def indices(output: str) -> list[int]:
    """The photos in a file of tags, in its order."""
    return [int(Path(photo.path).stem) for photo in read_tags(Path(output), UNSEEN)]


def assert_same_tags(output: str, expected: str) -> None:
    """The same photos with the same errors and, to the engine's tolerance, the same tags."""
    found, wanted = (list(read_tags(Path(name), UNSEEN)) for name in (output, expected))
    assert [(photo.path, photo.error) for photo in found] == [(photo.path, photo.error) for photo in wanted]
    for photo, other in zip(found, wanted, strict=True):
        scores, expected_scores = ({tag.label: tag.score for tag in each.tags} for each in (photo, other))
        assert scores == pytest.approx(expected_scores, abs=5e-6)


def test_a_read_that_succeeds_at_the_last_try_changes_nothing(here, storage):
    infer("-o", "expected.jsonl")
    storage.opened.clear()
    storage.fail(0, 5, 29, times=TRIES - 1)
    infer("-o", "tags.jsonl")
    assert (here / "tags.jsonl").read_bytes() == (here / "expected.jsonl").read_bytes()
    assert {name for name, count in storage.opened.items() if count == TRIES} == {"000.png", "005.png", "029.png"}
    assert set(storage.opened.values()) == {1, TRIES}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_photos_that_the_machine_fails_to_read_are_not_done_and_resume_tries_them_again(here, storage, suffix):
    infer("-o", f"expected{suffix}")
    output = f"tags{suffix}"
    storage.fail(0, 4, 16, 29)
    result = infer("-o", output, exit_code=1)
    assert result.stderr == (
        "mlzsl-infer: error: 4 photos are not done: the machine failed to read them (first: images/000.png: "
        f"{os.strerror(errno.ESTALE)}); --resume tries them again.\n"
    )
    assert indices(output) == [index for index in range(COUNT) if index not in (0, 4, 16, 29)]
    counts = json.loads((here / f"{output}.run.json").read_text())["photos"]
    assert counts == {"tagged": COUNT - len(BROKEN) - 4, "unreadable": len(BROKEN), "skipped": 0, "not_done": 4}
    assert "unfinished job is kept" in infer("-o", output, exit_code=2).stderr

    storage.fail(16)
    result = infer("-o", output, "--resume", exit_code=1)
    assert "error: 1 photo is not done: the machine failed to read it (images/016.png: " in result.stderr
    assert indices(output) == [index for index in range(COUNT) if index != 16]

    storage.fail()
    storage.opened.clear()
    infer("-o", output, "--resume")
    assert storage.opened == {"016.png": 1}
    assert_same_tags(output, f"expected{suffix}")
    assert not journal_folder(output).exists()
    record = json.loads((here / f"{output}.run.json").read_text())
    assert record["photos"] == {"tagged": COUNT - len(BROKEN), "unreadable": len(BROKEN), "skipped": 0}
    assert record["resumed"] == COUNT - 1


@pytest.mark.parametrize(
    "error",
    [MemoryError(), *(OSError(code, os.strerror(code)) for code in (errno.EIO, errno.ETIMEDOUT, errno.EMFILE))],
    ids=["memory", "EIO", "ETIMEDOUT", "EMFILE"],
)
def test_a_single_photo_that_is_not_done_has_no_record(here, storage, error):
    storage.error = error
    storage.fail(5)
    result = CliRunner().invoke(main, ["images/005.png", "-q"])
    assert result.exit_code == 1
    assert "error: 1 photo is not done: the machine failed to read it (images/005.png: " in result.stderr
    assert not (here / "tags.jsonl").exists()
    storage.fail()
    assert CliRunner().invoke(main, ["images/005.png", "-q", "--resume"]).exit_code == 0
    assert indices("tags.jsonl") == [5]


def test_standard_output_leaves_out_photos_that_are_not_done(here, storage):
    storage.fail(7, 8)
    result = infer("-o", "-", exit_code=1)
    assert [json.loads(line)["path"][-7:-4] for line in result.stdout.splitlines()] == [
        f"{index:03}" for index in range(COUNT) if index not in (7, 8)
    ]
    assert result.stderr.endswith("tag them again.\n")


def test_the_summary_counts_photos_that_are_not_done(here, storage):
    storage.fail(7)
    result = CliRunner().invoke(main, ["images", "--threads", "1", "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["photos"]["not_done"] == 1
    assert report["failures"] == [{"path": "images/007.png", "error": os.strerror(errno.ESTALE)}]


def test_storage_that_is_gone_stops_the_job_which_resumes(here, storage):
    infer("-o", "expected.jsonl")
    storage.opened.clear()
    storage.fail(*range(6, COUNT))
    result = infer("-o", "tags.jsonl", exit_code=1)
    last = 6 + MAX_FAILURES_IN_A_ROW - 1
    assert result.stderr == (
        f"mlzsl-infer: error: the machine failed to read {MAX_FAILURES_IN_A_ROW} photos in a row (the last: "
        f"images/{last:03}.png: {os.strerror(errno.ESTALE)}); check its storage and memory. "
        "The photos done so far are kept in tags.jsonl.unfinished: continue with --resume.\n"
    )
    assert not (here / "tags.jsonl").exists()
    infer("-o", "tags.jsonl", "--resume", exit_code=1)  # it is still gone
    storage.fail()
    infer("-o", "tags.jsonl", "--resume")
    assert_same_tags("tags.jsonl", "expected.jsonl")


def test_failures_between_photos_that_are_read_do_not_stop_the_job_however_often_it_resumes(here, storage):
    for index in range(COUNT, 3 * MAX_FAILURES_IN_A_ROW):
        shutil.copy(here / "images/000.png", here / f"images/{index:03}.png")
    failing = range(1, 3 * MAX_FAILURES_IN_A_ROW, 2)
    storage.fail(*failing)
    for flags in ((), ("--resume",)):
        assert f"{len(failing)} photos are not done" in infer("-o", "tags.jsonl", *flags, exit_code=1).stderr


def test_a_failure_of_the_engine_is_no_photos_error(here, monkeypatch):
    monkeypatch.setattr("mlzsl.runtime.tagging.pipeline.select_tags", lambda *_: (_ for _ in ()).throw(MemoryError))
    result = infer("-o", "tags.jsonl", exit_code=1)
    assert result.stderr.startswith("mlzsl-infer: error: not enough memory; free some, or lower --batch-size")
    assert not (here / "tags.jsonl").exists()


# ---- shards and tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar", ".csv"])
@pytest.mark.parametrize("times", [1, 10**9])
def test_a_shard_or_table_that_fails_to_be_read_is_continued_where_it_failed(here, monkeypatch, suffix, times):
    names = [f"{index:03}.png" for index in range(COUNT)]
    if suffix == ".tar":
        with tarfile.open("a.tar", "w") as shard:
            for name in names:
                shard.add(f"images/{name}", name)
    else:
        (here / "a.csv").write_text("path\n" + "".join(f"images/{name}\n" for name in names))
    first, second = f"a{suffix}", f"b{suffix}"
    shutil.copy(first, second)
    if suffix == ".csv":  # it begins with the photo at which the first one fails
        (here / second).write_text("path\nimages/010.png\n" + (here / first).read_text().removeprefix("path\n"))
    flags = [first, second, "--threads", "1", "-q"]
    assert CliRunner().invoke(main, [*flags, "-o", "expected.jsonl"]).exit_code == 0
    function = "photos_in_shard" if suffix == ".tar" else "photos_in_table"
    original, left = getattr(inputs, function), times

    def failing(path, other):
        nonlocal left
        for number, photo in enumerate(original(path, other)):
            if path == first and number == 10 and left > 0:
                left -= 1
                raise TransientReadError("Input/output error")
            yield photo

    monkeypatch.setattr(inputs, function, failing)
    result = CliRunner().invoke(main, [*flags, "-o", "tags.jsonl"])
    if times > 1:
        assert result.exit_code == 1
        assert f"({first}: could not be read beyond its first 10 photos: Input/output error)" in result.stderr
        assert len(list(read_tags(here / "tags.jsonl", []))) == 10 + COUNT + (suffix == ".csv")
        left = 0
        result = CliRunner().invoke(main, [*flags, "-o", "tags.jsonl", "--resume"])
    assert result.exit_code == 0, result.output
    assert_same_tags("tags.jsonl", "expected.jsonl")


def test_a_row_that_got_its_photo_is_tagged_when_errors_are_tried_again(here):
    (here / "a.csv").write_text("path,n\nimages/000.png,1\n,2\nimages/004.png,3\nimages/005.png,4\n")
    assert CliRunner().invoke(main, ["a.csv", "-q"]).exit_code == 0
    assert [photo.error for photo in read_tags(here / "tags.jsonl", [])][1] == "row 2 names no photo"
    (here / "a.csv").write_text("path,n\nimages/000.png,1\nimages/001.png,2\nimages/004.png,3\nimages/005.png,4\n")
    assert CliRunner().invoke(main, ["a.csv", "-q", "--resume", "--retry-errors"]).exit_code == 0
    assert indices("tags.jsonl") == [0, 1, 4, 5]


def test_a_folder_that_fails_to_be_listed_is_a_failure_of_the_job(here, monkeypatch):
    calls = 0

    def scandir(path):
        nonlocal calls
        calls += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "scandir", scandir)
    result = infer("-o", "tags.jsonl", exit_code=1)
    assert f"images: the folder could not be listed: {os.strerror(errno.EIO)}. Try again." in result.stderr
    assert calls == TRIES


@pytest.mark.parametrize(("name", "function"), [("images", "lstat"), ("list.csv", "open")])
def test_an_input_that_fails_to_be_read_is_not_called_missing(here, monkeypatch, name, function):
    (here / "list.csv").write_text("path\nimages/000.png\n")
    owner = os if function == "lstat" else builtins
    original = getattr(owner, function)

    def failing(path, *arguments, **options):
        if path == name:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return original(path, *arguments, **options)

    monkeypatch.setattr(owner, function, failing)
    result = CliRunner().invoke(main, [name, "-q"])
    assert result.exit_code == 1
    assert f"error: {name}: could not be read: {os.strerror(errno.ETIMEDOUT)}. Try again." in result.stderr


# ---- limits of errors, and errors tried again -----------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "exit_code"), [("3", 0), ("2", 1), ("0", 1), ("10%", 0), ("9.9%", 1), ("0%", 1)])
def test_more_unreadable_photos_than_max_errors_fail_the_job(here, limit, exit_code):
    result = infer("-o", "tags.jsonl", "--max-errors", limit, exit_code=exit_code)
    if exit_code:
        assert result.stderr.startswith(f"mlzsl-infer: error: --max-errors {limit}: ")
        assert "could not be read (first: images/002.png: not an image" in result.stderr
        assert "kept in tags.jsonl.unfinished: continue with --resume." in result.stderr
        assert not (here / "tags.jsonl").exists()
        assert f"--max-errors {limit}: " in infer("--max-errors", limit, "--resume", exit_code=1).stderr
        infer("-o", "tags.jsonl", "--resume", "--max-errors", "3")
    assert indices("tags.jsonl") == list(range(COUNT))


def test_a_percentage_applies_from_a_hundred_photos_on(here):
    for index in range(COUNT, 150):
        shutil.copy(here / f"images/{0 if index < 120 else 2:03}.png", here / f"images/{index:03}.png")
    result = infer("-o", "tags.jsonl", "--max-errors", "5%", exit_code=1)
    assert "--max-errors 5%: 7 photos of 124 could not be read" in result.stderr


@pytest.mark.parametrize("limit", ["", "-1", "many", "1.5", "nan%", "100%", "1e3", "5 %", "٣"])
def test_a_limit_of_another_form_is_a_usage_error(here, limit):
    result = infer("--max-errors", limit, exit_code=2)
    assert f"--max-errors {limit}: expected a number of photos such as 100, or a percentage" in result.stderr


def test_recorded_errors_are_tried_again_in_an_unfinished_job(here, storage):
    storage.fail(20)
    infer("-o", "tags.jsonl", exit_code=1)
    for index in (2, 17):
        (here / f"images/{index:03}.png").write_bytes((here / "images/000.png").read_bytes())
    storage.fail()
    storage.opened.clear()
    infer("-o", "tags.jsonl", "--resume", "--retry-errors")
    assert storage.opened == {"002.png": 1, "003.png": 1, "017.png": 1, "020.png": 1}
    infer("-o", "expected.jsonl")
    assert_same_tags("tags.jsonl", "expected.jsonl")
    assert [photo.path for photo in read_tags(here / "tags.jsonl", []) if photo.error] == ["images/003.png"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_recorded_errors_are_tried_again_in_a_finished_output(here, storage, suffix):
    output = f"tags{suffix}"
    infer("-o", output)
    (here / "images/003.png").write_bytes((here / "images/000.png").read_bytes())
    storage.opened.clear()
    infer("-o", output, "--resume", "--retry-errors")
    assert storage.opened == {"002.png": 1, "003.png": 1, "017.png": 1}
    infer("-o", f"expected{suffix}")
    assert_same_tags(output, f"expected{suffix}")
    assert not journal_folder(output).exists()


def test_a_finished_output_of_another_job_is_refused(here):
    infer("-o", "tags.jsonl")
    before = (here / "tags.jsonl").read_bytes()

    def refused(*flags: str) -> str:
        sentence = infer("-o", "tags.jsonl", "--resume", "--retry-errors", *flags, exit_code=2).stderr
        assert (here / "tags.jsonl").read_bytes() == before
        assert not journal_folder("tags.jsonl").exists()
        return sentence

    assert "--resume: the job of tags.jsonl has another rule for tags" in refused("--top-k", "2")
    assert "has another engine" in refused("--backend", "onnxruntime")
    (here / "images/000.png").rename(here / "images/0000.png")
    assert "the photos differ from those of the job" in refused()
    (here / "tags.jsonl.run.json").unlink()
    assert "--retry-errors: tags.jsonl has no record of its run beside it" in refused()


def test_retry_errors_needs_resume(here):
    assert "--retry-errors: takes effect with --resume only; add it." in infer("--retry-errors", exit_code=2).stderr


def test_the_only_photo_that_cannot_be_read_is_named(here):
    result = CliRunner().invoke(main, ["images/002.png", "-q"])
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "mlzsl-infer: error: the only photo could not be read: images/002.png: not an image"
    )


# ---- other commands -------------------------------------------------------------------------------------------------


def test_results_that_need_every_photo_fail_with_the_reason(here, storage, tiny_model):
    storage.fail(5)
    engine = open_engine(tiny_model.path)
    paths = [f"images/{index:03}.png" for index in range(COUNT)]
    with pytest.raises(
        Exception, match=r"^images/005\.png: Stale file handle: the machine failed to read it; try again"
    ):
        list(ReadableBatches(paths, engine.manifest).images())


def test_from_python_such_a_photo_has_an_error_and_says_that_it_is_transient(here, storage, tiny_model):
    storage.fail(5)
    with Tagger.open(tiny_model.path) as tagger:
        tagged = list(tagger.tag("images"))
    assert [index for index, photo in enumerate(tagged) if photo.transient] == [5]
    assert tagged[5].error == os.strerror(errno.ESTALE)
    assert not any(tagged[index].transient for index in BROKEN)

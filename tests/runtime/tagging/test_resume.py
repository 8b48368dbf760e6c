"""However and wherever a job is interrupted: resumed, its output is byte-identical to that of an uninterrupted run."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pyarrow
import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet
from tinymodel import random_images

from mlzsl.cli.errors import FailureError
from mlzsl.runtime.io.tag_files import line_of
from mlzsl.runtime.tagging.cli import main
from mlzsl.runtime.tagging.journal import Journal, journal_folder
from mlzsl.runtime.tags import Tagged

COUNT, BATCH = 45, 4
BROKEN = {0, 3, 4, 13, 14, 15, 16, 17, 30, 44}
# A run that kills itself. Every line is synced to disk at once, so that there is something to resume.
KILLED = """
import os, shutil, signal, sys
from mlzsl.runtime.tagging import job, journal, line_file
where, point = sys.argv[1], int(sys.argv[2])
line_file.SECONDS_BETWEEN_SYNCS = 0.0
write, write_output = journal.Journal.write, job.write_output

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def writing(self, photo):
    global point
    point -= 1
    if point < 0 and where == "torn":
        self._file.write(journal.line_of(photo)[:20])
    if point < 0:
        die()
    write(self, photo)

def before_output(records, output):
    if where == "before the output":
        die()
    write_output(records, output)
    if where == "after the output":
        die()

if where in ("a line", "torn"):
    journal.Journal.write = writing
job.write_output = before_output
if where == "while it deletes the journal":
    shutil.rmtree = lambda *a, **k: die()
from mlzsl.runtime.tagging.cli import main
main(sys.argv[3:])
"""
FLAGS = ("images", "--batch-size", str(BATCH), "--threads", "1", "--quiet")


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_model):
    """A folder to work in, with model.onnx and images/, ten of whose 45 photos cannot be read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(tiny_model.path)
    (tmp_path / "images").mkdir()
    for index, image in enumerate(random_images(COUNT)):
        path = tmp_path / f"images/{index:03}.png"
        if index in BROKEN:
            path.write_bytes(b"not an image")
        else:
            Image.fromarray(image).save(path)
    return tmp_path


def infer(*arguments: str):
    return CliRunner().invoke(main, [*FLAGS, *map(str, arguments)])


def uninterrupted(suffix: str = ".jsonl") -> bytes:
    assert infer("-o", f"uninterrupted{suffix}").exit_code == 0
    with open(f"uninterrupted{suffix}", "rb") as file:
        return file.read()


def killed(where: str, point: int, *arguments: str) -> None:
    """Run in a new process until it kills itself."""
    command = [sys.executable, "-c", KILLED, where, str(point), *FLAGS, *arguments]
    result = subprocess.run(command, capture_output=True, timeout=120)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()


@pytest.mark.parametrize(("suffix", "seed"), [(".jsonl", 1), (".csv", 2), (".parquet", 3)])
def test_killed_at_random_points_and_resumed_the_output_is_that_of_an_uninterrupted_run(here, suffix, seed):
    expected = uninterrupted(suffix)
    chance = random.Random(seed)
    output = f"tags{suffix}"
    for where in ("a line", "torn", "a line", "torn"):
        killed(where, chance.randrange(1, 12), "-o", output, "--resume")
        assert not os.path.exists(output)
    finished = CliRunner().invoke(main, [*FLAGS[:-1], "-o", output, "--resume"])
    assert finished.exit_code == 0
    assert (here / output).read_bytes() == expected
    assert not journal_folder(output).exists()
    record = json.loads((here / f"{output}.run.json").read_text())
    assert record["photos"] == {"tagged": COUNT - len(BROKEN), "unreadable": len(BROKEN), "skipped": 0}
    assert record["resumed"] > 0
    assert (
        f"; {record['resumed']} photos done before the job resumed; {len(BROKEN)} could not be read:" in finished.stdout
    )


@pytest.mark.parametrize("where", ["before the output", "after the output", "while it deletes the journal"])
def test_killed_when_all_photos_are_done(here, where):
    expected = uninterrupted()
    killed(where, 0, "-o", "tags.jsonl")
    assert infer("-o", "tags.jsonl", "--resume").exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == expected
    assert not journal_folder("tags.jsonl").exists()


def test_an_unfinished_job_is_not_deleted_by_accident(here):
    killed("a line", 20, "-o", "tags.jsonl")
    kept = (here / "tags.jsonl.unfinished/records.jsonl").read_bytes()
    result = infer("-o", "tags.jsonl")
    assert result.exit_code == 2
    assert "an unfinished job is kept in tags.jsonl.unfinished; continue it with --resume, or" in result.stderr
    assert "--restart" in result.stderr
    assert (here / "tags.jsonl.unfinished/records.jsonl").read_bytes() == kept
    assert infer("-o", "tags.jsonl", "--restart").exit_code == 0
    assert json.loads((here / "tags.jsonl.run.json").read_text())["resumed"] == 0


def test_another_job_is_not_resumed(here):
    killed("a line", 30, "-o", "tags.jsonl")

    def refused(*arguments: str) -> str:
        result = infer("-o", "tags.jsonl", "--resume", *arguments)
        assert result.exit_code == 2, result.output
        (sentence,) = result.stderr.splitlines()
        assert "start over with --restart" in sentence
        return sentence

    assert "has another rule for tags" in refused("--top-k", "2")
    assert "has another batch size (4, now 5)" in refused("--batch-size", "5")
    assert "has another engine (openvino" in refused("--backend", "onnxruntime")
    assert "has another input" in refused("images/001.png")
    shutil.copytree("images", "elsewhere/images", copy_function=shutil.copy2)
    with contextlib.chdir("elsewhere"):  # the same names are other photos there
        model = ("--engine", here / "model.onnx")
        result = infer("-o", here / "tags.jsonl", "--resume", *model)
        assert "has another working directory" in result.stderr
    (here / "images/044.png").rename(here / "images/0440.png")
    assert "has another list of files" in refused()
    job = here / "tags.jsonl.unfinished/job.json"
    content = job.read_text()
    job.write_text(json.dumps({"x" * 5000: 1} | json.loads(content)))
    assert f"has another {'x' * 149}…{'x' * 150} (1, now null)" in refused()
    job.write_text(content)
    (here / "images/0440.png").unlink()
    assert "has another number of files (45, now 44)" in refused()


def test_a_job_is_not_resumed_with_another_decoder(here, monkeypatch):
    killed("a line", 30, "-o", "tags.jsonl")
    monkeypatch.setattr("PIL.__version__", "99.0")
    result = infer("-o", "tags.jsonl", "--resume")
    assert result.exit_code == 2
    assert "has another decoder (mlzsl" in result.stderr


@pytest.mark.parametrize("name", ["images", "photos.tar", "photos.parquet"])
def test_photos_that_changed_since_the_interruption_are_tagged_again(here, name):
    def pack() -> None:
        files = [f"images/{file}" for file in sorted(os.listdir("images"))]
        if name == "photos.tar":
            subprocess.run(["tar", "-cf", name, *files], check=True)
        elif name == "photos.parquet":
            contents = [{"path": file, "bytes": (here / file).read_bytes()} for file in files]
            parquet.write_table(pyarrow.table({"path": contents}), name)

    pack()
    flags = [name, *FLAGS[1:]]
    command = [sys.executable, "-c", KILLED, "a line", "30", *flags, "-o", "tags.jsonl"]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    old = os.stat("images/020.png")
    Image.new("RGB", (40, 30), "red").save("other.png")
    os.utime("other.png", ns=(old.st_atime_ns, old.st_mtime_ns))  # as cp -p or rsync -a leave it
    os.replace("other.png", "images/020.png")
    pack()
    assert CliRunner().invoke(main, [*flags, "-o", "tags.jsonl", "--resume"]).exit_code == 0
    assert CliRunner().invoke(main, [*flags, "-o", "uninterrupted.jsonl"]).exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == (here / "uninterrupted.jsonl").read_bytes()
    resumed = json.loads((here / "tags.jsonl.run.json").read_text())["resumed"]
    assert 10 < resumed <= 20 if name == "images" else resumed == 0


def test_a_different_list_is_refused(here):
    names = sorted(f"images/{name}" for name in os.listdir("images"))
    flags = ["-", *FLAGS[1:], "-o", "tags.jsonl"]
    program = [sys.executable, "-c", KILLED, "a line", "30", *flags]
    result = subprocess.run(program, input="\n".join(names).encode(), timeout=120)
    assert result.returncode == -signal.SIGKILL

    def resumed(listed: list[str]):
        return CliRunner().invoke(main, [*flags, "--resume"], input="\n".join(listed).encode())

    for other in (names[1:], names[:3]):
        result = resumed(other)
        assert result.exit_code == 2
        assert "the photos differ from those of the job" in result.stderr
    assert resumed(names).exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == uninterrupted()


@pytest.mark.parametrize("name", ["photos.tar", "photos.tar.gz", "photos.csv"])
def test_a_job_on_a_shard_or_a_table_resumes(here, name):
    files = sorted(os.listdir("images"))
    if name == "photos.csv":
        (here / name).write_text("path\n" + "".join(f"images/{file}\n" for file in files))
    else:
        subprocess.run(["tar", "-caf", name, "-C", "images", *files], check=True)
    flags = [name, *FLAGS[1:]]
    assert CliRunner().invoke(main, [*flags, "-o", "uninterrupted.jsonl"]).exit_code == 0
    command = [sys.executable, "-c", KILLED, "a line", "30", *flags, "-o", "tags.jsonl"]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert CliRunner().invoke(main, [*flags, "-o", "tags.jsonl", "--resume"]).exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == (here / "uninterrupted.jsonl").read_bytes()
    assert json.loads((here / "tags.jsonl.run.json").read_text())["resumed"] > 20


def test_resume_starts_a_job_if_there_is_no_unfinished_one(here):
    expected = uninterrupted()
    assert infer("-o", "tags.jsonl", "--resume").exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == expected


def test_resume_and_restart_exclude_each_other(here):
    assert "choose one" in infer("--resume", "--restart").stderr
    assert "--resume: has no effect with --output -" in infer("-o", "-", "--resume").stderr


def test_ctrl_c_keeps_the_photos_done_so_far(here, monkeypatch):
    expected = uninterrupted()
    write = Journal.write

    def interrupted(self, photo):
        if self.done == 25:
            raise KeyboardInterrupt
        write(self, photo)

    monkeypatch.setattr(Journal, "write", interrupted)
    result = CliRunner().invoke(main, [*FLAGS[:-1], "-o", "tags.jsonl"])
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-2:] == [
        "The photos done so far are kept in tags.jsonl.unfinished: continue with --resume.",
        "mlzsl-infer: interrupted.",
    ]
    assert len((here / "tags.jsonl.unfinished/records.jsonl").read_bytes().splitlines()) == 25
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert infer("-o", "tags.jsonl", "--resume").exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == expected


def test_a_last_line_without_its_end_is_cut(here):
    expected = uninterrupted()
    killed("a line", 20, "-o", "tags.jsonl")
    records = here / "tags.jsonl.unfinished/records.jsonl"
    records.write_bytes(records.read_bytes()[:-1])
    assert infer("-o", "tags.jsonl", "--resume").exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == expected


FULL = """
import resource, sys
from mlzsl.runtime.tagging import line_file
line_file.MAX_BUFFERED = 1
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))  # no file may grow beyond
from mlzsl.runtime.tagging.cli import main
main(sys.argv[2:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits")
def test_on_a_full_disk_the_journal_is_valid_and_the_job_resumes_when_there_is_space(here):
    expected = uninterrupted()
    result = subprocess.run(
        [sys.executable, "-c", FULL, "5000", *FLAGS, "-o", "tags.jsonl"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert result.stderr == (
        "mlzsl-infer: error: tags.jsonl: could not be written: File too large. "
        "The photos done so far are kept in tags.jsonl.unfinished: continue with --resume.\n"
    )
    written = (here / "tags.jsonl.unfinished/records.jsonl").read_bytes()
    assert written
    assert expected.startswith(written)
    assert written.endswith(b"\n")
    assert infer("-o", "tags.jsonl", "--resume").exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == expected


def test_a_folder_that_vanishes_is_noticed_at_the_next_sync(here):
    (here / "out").mkdir()
    journal = Journal(here / "out", "out/tags.jsonl")
    journal.write(Tagged("a.jpg"))
    journal.sync()
    (here / "out").rename(here / "elsewhere")
    with pytest.raises(FailureError, match=r"out/tags.jsonl: could not be written: No such file"):
        journal.sync()
    journal.close()
    assert (here / "elsewhere/records.jsonl").read_bytes() == line_of(Tagged("a.jpg"))


def test_two_jobs_do_not_write_one_output(here):
    folder = journal_folder("tags.jsonl")
    folder.mkdir()
    journal = Journal(folder, "tags.jsonl")
    journal.write(Tagged("a.jpg"))
    result = infer("-o", "tags.jsonl")
    assert result.exit_code == 2
    assert "tags.jsonl: another process is writing it" in result.stderr
    journal.close()
    assert (folder / "records.jsonl").read_bytes() == line_of(Tagged("a.jpg"))


def test_lines_that_are_not_records_are_cut(here):
    expected = uninterrupted()
    killed("a line", 20, "-o", "tags.jsonl")
    with (here / "tags.jsonl.unfinished/records.jsonl").open("ab") as file:
        file.write(b"\0" * 4096 + b'\n{"path": 1}\n')
    assert infer("-o", "tags.jsonl", "--resume").exit_code == 0
    assert (here / "tags.jsonl").read_bytes() == expected

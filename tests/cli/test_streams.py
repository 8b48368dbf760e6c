"""Standard output that cannot take what a command prints: one sentence or nothing, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlzsl.cli.main import COMMANDS

NAMES = ["", *COMMANDS]
CODE = "import sys; from mlzsl.cli.main import main; main(sys.argv[1:], prog_name='mlzsl')"
FULL = "standard output: could not be written: No space left on device."
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


def run(*arguments: str, stdout: str = os.devnull, encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """Run a command with its standard output going to a file."""
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    with open(stdout, "w") as output:
        return subprocess.run(
            [sys.executable, "-c", CODE, *arguments], stdout=output, stderr=subprocess.PIPE, text=True, env=environment
        )


@needs_full
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_a_full_standard_output_is_one_sentence(name: str, flag: str) -> None:
    result = run(*filter(None, (name, flag)), stdout="/dev/full")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith("mlzsl")
    assert result.stderr.endswith(f": error: {FULL}\n")


@needs_full
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_standard_output_under_a_table_and_under_json_is_one_sentence(flags: list[str]) -> None:
    result = run("labels", "voc20", *flags, stdout="/dev/full")
    assert (result.returncode, result.stderr) == (1, f"mlzsl-labels: error: {FULL}\n")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_help_is_printed_in_any_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    printed = tmp_path / "help.txt"
    result = run(*filter(None, (name, "--help")), stdout=str(printed), encoding=encoding)
    assert (result.returncode, result.stderr) == (0, "")
    assert printed.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_report_escapes_what_the_encoding_lacks(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "labels.txt").write_text("dog\n写真\n", encoding="utf-8")
    printed = tmp_path / "report.txt"
    result = run("labels", str(tmp_path / "labels.txt"), stdout=str(printed), encoding=encoding)
    assert "Traceback" not in result.stderr
    assert ("写真" if encoding == "utf-8" else r"\u5199\u771f") in printed.read_text(encoding) + result.stderr


@pytest.mark.parametrize("arguments", ["--help", "--version", "labels voc20", "labels voc20 --json"])
def test_a_closed_pipe_ends_quietly(arguments: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-c", CODE, *arguments.split()]
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(write)
    assert (result.returncode, result.stderr) == (1, "")


def test_a_closed_standard_output_is_one_sentence_and_a_closed_standard_error_is_none() -> None:
    def shell(redirect: str) -> subprocess.CompletedProcess[str]:
        line = f'exec "$0" -c "$1" --version {redirect}'
        return subprocess.run(["sh", "-c", line, sys.executable, CODE], capture_output=True, text=True)

    closed = shell(">&-")
    assert (closed.returncode, closed.stderr.count("\n"), "Bad file descriptor" in closed.stderr) == (1, 1, True)
    silent = shell("2>&-")
    assert (silent.returncode, silent.stdout.split(",")[0]) == (0, "mlzsl")


@needs_full
@pytest.mark.parametrize(("arguments", "code"), [("labels voc20", 0), ("labels nothing.txt", 2), ("", 2)])
def test_what_a_full_standard_error_cannot_take_is_dropped(arguments: str, code: int) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-c", CODE, *arguments.split()], stdout=subprocess.PIPE, stderr=full)
    assert result.returncode == code


def test_a_standard_output_that_does_not_block_gets_everything() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with subprocess.Popen([sys.executable, "-c", CODE, "labels", "imagenet1k", "--json"], stdout=write) as process:
        os.close(write)
        with open(read, "rb") as pipe:
            printed = pipe.read()
    assert process.returncode == 0
    assert len(printed) > 1 << 16

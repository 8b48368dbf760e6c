"""Commands and groups: one sentence for every error, the right exit code, no traceback, no usage block."""

import errno
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mlzsl.cli.command import command, group
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.main import COMMANDS
from mlzsl.cli.main import main as mlzsl
from mlzsl.cli.options import FiniteFloat

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

ERRORS: dict[str, BaseException] = {
    "usage": UsageError("x.txt: found nothing, expected labels; write some."),
    "failure": FailureError("the disk is full."),
    "interrupt": KeyboardInterrupt(),
    "prompt": click.Abort(),
}


@command("mlzsl-trial")
@click.argument("error", type=click.Choice(list(ERRORS)))
@click.option("--count", type=click.IntRange(1))
@click.option("--rate", type=FiniteFloat())
@click.option("-p", "--precision", type=click.Choice(["fp32", "int8"]))
@click.option("-q", "--quiet", is_flag=True)
def trial(error: str, **_: object) -> None:
    """Raise an error."""
    raise ERRORS[error]


@group("mlzsl-family", default="run")
def family() -> None:
    """Several commands."""


@family.subcommand("run")
@click.argument("files", nargs=-1)
@click.option("--fast", is_flag=True)
def run(files: tuple[str, ...], fast: bool) -> None:
    """The default one."""
    click.echo(f"run {files} {fast}")


@family.subcommand("compare")
@click.argument("file")
def compare(file: str) -> None:
    """Another one."""
    raise UsageError(f"{file}: cannot be compared.")


def invoke(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("usage", 2, "x.txt: found nothing, expected labels; write some."),
        ("failure", 1, "the disk is full."),
        ("", 2, "ERROR: is missing; expected one of usage, failure, interrupt, prompt"),
        ("usage --count 0", 2, "--count: 0 is not in the range x>=1."),
        ("usage --count x", 2, "--count: 'x' is not a valid integer."),
        ("usage --count", 2, "--count: requires an argument."),
        ("usage --rate nan", 2, "--rate: nan is not a finite number."),
        ("usage --rate inf", 2, "--rate: inf is not a finite number."),
        ("usage -p int4", 2, "--precision: 'int4' is not one of 'fp32', 'int8'."),
        ("usage --quiet=3", 2, "--quiet: does not take a value."),
        ("usage --cuont 3", 2, "--cuont: no such option; did you mean --count?"),
        ("usage --zzz", 2, "--zzz: no such option; see `mlzsl-trial --help`."),
        ("usage x", 2, "got unexpected extra argument (x); see `mlzsl-trial --help`."),
        ("nothing", 2, "ERROR: 'nothing' is not one of 'usage', 'failure', 'interrupt', 'prompt'."),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(arguments: str, code: int, sentence: str) -> None:
    result = invoke(trial, *arguments.split())
    assert result.exit_code == code
    assert result.stderr == f"mlzsl-trial: error: {sentence}\n"
    assert not result.stdout


@pytest.mark.parametrize("error", ["interrupt", "prompt"])
def test_an_interrupt_is_one_line_and_exit_code_130(error: str) -> None:
    result = invoke(trial, error)
    assert (result.exit_code, result.stderr.strip()) == (130, "mlzsl-trial: interrupted.")


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ("", "run () False"),
        ("a b --fast", "run ('a', 'b') True"),
        ("--fast a", "run ('a',) True"),
        ("run a", "run ('a',) False"),
        ("./compare", "run ('./compare',) False"),
    ],
)
def test_a_group_runs_its_default_where_no_other_command_is_named(arguments: str, printed: str) -> None:
    assert invoke(family, *arguments.split()).stdout.strip() == printed


def test_a_group_has_help_version_and_the_errors_of_its_commands() -> None:
    assert "compare  Another one." in invoke(family, "--help").stdout
    assert "run      The default one.  [default]" in invoke(family, "--help").stdout
    assert invoke(family, "--version").stdout.startswith("mlzsl-family, version ")
    result = invoke(family, "compare", "x")
    assert (result.exit_code, result.stderr) == (2, "mlzsl-family compare: error: x: cannot be compared.\n")
    result = invoke(family, "compare", "--fast")
    assert result.stderr == "mlzsl-family compare: error: --fast: no such option; see `mlzsl-family compare --help`.\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    result = invoke(mlzsl, name, "--help")
    assert result.exit_code == 0, result.output
    assert "Examples:" in result.output
    assert f"mlzsl-{name}" in result.output


def test_the_commands_are_those_that_are_installed_each_with_its_own_summary() -> None:
    scripts = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]
    scripts.pop("mlzsl")
    assert {f"mlzsl-{name}": f"mlzsl.{module}:main" for name, (module, _) in COMMANDS.items()} == scripts


def test_the_help_lists_every_command_with_its_whole_summary_in_order_of_use() -> None:
    output = invoke(mlzsl, "--help").output
    positions = [output.index(f"  {name} ") for name in ("labels", "train", "export", "verify", "infer")]
    assert positions == sorted(positions)
    assert "..." not in output[output.index("Commands:") :]
    assert all(f"{name} " in output and summary in output for name, (_, summary) in COMMANDS.items())
    assert max(map(len, output.splitlines())) <= 79


def test_the_help_imports_no_command() -> None:
    import subprocess
    import sys

    code = "import sys, mlzsl.cli.main as m; m.main(['--help'], standalone_mode=False); print(*sys.modules, sep='\\n')"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "mlzsl.cli.main" in modules
    assert not {"torch", "numpy", "onnx", "rich", "mlzsl.train.cli", "mlzsl.runtime"} & set(modules)


def test_an_unknown_command_is_a_usage_error_with_a_suggestion() -> None:
    result = invoke(mlzsl, "infr", "images/")
    assert (result.exit_code, result.stderr) == (2, "mlzsl: error: infr: no such command; did you mean infer?\n")
    assert invoke(mlzsl, "zzz").stderr == "mlzsl: error: zzz: no such command; see `mlzsl --help`.\n"


def test_a_command_answers_alike_under_both_names() -> None:
    from mlzsl.runtime.tagging.cli import main as infer

    assert invoke(mlzsl, "infer", "--bogus").stderr == invoke(infer, "--bogus").stderr
    assert invoke(mlzsl, "--version").stdout.startswith("mlzsl, version ")


@pytest.mark.parametrize(
    "error",
    [
        UsageError(f"{'a' * 10_000}: {'no such file. ' * 1000}"),
        UsageError("\x1b[2Ja\nb.txt: no such file."),
        OSError(errno.ENAMETOOLONG, "File name too long", "b" * 10_000),
    ],
)
def test_an_error_is_one_line_of_a_paragraph_at_most_whatever_it_quotes(error: Exception) -> None:
    @command("mlzsl-odd")
    def odd() -> None:
        raise error

    _check_one_line(CliRunner().invoke(odd))


@pytest.mark.parametrize("arguments", [["x" * 10_000], ["usage", "--rate", "y\n" * 10_000], ["usage", "z" * 10_000]])
def test_so_is_an_error_in_long_arguments(arguments: list[str]) -> None:
    _check_one_line(CliRunner().invoke(trial, arguments))


def _check_one_line(result: Result) -> None:
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.rstrip("\n").isprintable()
    assert len(result.stderr) < 1100

"""The edge of a command: one sentence, the right exit code, no traceback."""

import click
import pytest
from click.testing import CliRunner

from mlzsl.cli.command import command
from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.main import main as umbrella

TROUBLES: dict[str, Exception] = {
    "usage": UsageError("x.txt: found nothing, expected labels; write some."),
    "failure": FailureError("the disk is full."),
    "interrupt": KeyboardInterrupt(),  # type: ignore[dict-item]
}


@command("mlzsl-trial")
@click.argument("trouble")
def trial(trouble: str) -> None:
    """Get into trouble."""
    raise TROUBLES[trouble]


@pytest.mark.parametrize(
    ("trouble", "code", "sentence"),
    [
        ("usage", 2, "mlzsl-trial: error: x.txt: found nothing, expected labels; write some."),
        ("failure", 1, "mlzsl-trial: error: the disk is full."),
        ("interrupt", 130, "mlzsl-trial: interrupted."),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(trouble: str, code: int, sentence: str) -> None:
    result = CliRunner().invoke(trial, [trouble])
    assert result.exit_code == code
    assert result.stderr.strip() == sentence
    assert not result.stdout


@pytest.mark.parametrize("name", ["labels", "train", "export", "infer", "verify"])
def test_every_command_has_help_with_examples(name: str) -> None:
    result = CliRunner().invoke(umbrella, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Examples:" in result.output
    assert f"mlzsl-{name} " in result.output


def test_the_umbrella_lists_its_commands_in_order_of_use() -> None:
    output = CliRunner().invoke(umbrella, ["--help"]).output
    places = [output.index(f"  {name} ") for name in ("labels", "train", "export", "verify", "infer")]
    assert places == sorted(places)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(umbrella, ["fly"]).exit_code == 2

"""Shared options: one meaning everywhere, and none is accepted without an effect."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlzsl.cli.command import command
from mlzsl.cli.options import AliasedOption, json_option, model_file, model_files, quiet_option, refuse_unused


@command("mlzsl-one")
@model_file
@click.option("--kind", cls=AliasedOption, aliases=("--system",), default="RGCN")
@click.option("--hidden-dim", type=int, default=256)
@click.option("-l", "--layers", type=int)
@quiet_option
@json_option
def one(model: Path, **flags: object) -> None:
    """Print the parameters."""
    refuse_unused("with --quiet", *(("hidden_dim", "layers") if flags["quiet"] else ()))
    click.echo(f"{model} {flags}")


@command("mlzsl-several")
@model_files
@click.option("--layers", type=int)
def several(models: tuple[Path, ...], layers: int | None) -> None:
    """Print the model files."""
    click.echo(" ".join(map(str, models)))


def run(command: click.Command, *arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)
    return result.stdout.strip() if result.exit_code == 0 else result.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("", "model.onnx"),
        ("a.onnx b.onnx", "a.onnx b.onnx"),
        ("--engine a.onnx --engine b.onnx", "a.onnx b.onnx"),
        (
            "a.onnx --engine b.onnx",
            "mlzsl-several: error: --engine b.onnx: MODEL a.onnx names the model file already; leave one of them out.",
        ),
    ],
)
def test_model_files_are_arguments_or_engine_options(arguments: str, answer: str) -> None:
    assert run(several, *arguments.split()) == answer


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("", "model.onnx"),
        ("a.onnx", "a.onnx"),
        ("--engine a.onnx", "a.onnx"),
        ("a b", "mlzsl-one: error: MODEL: found 2 files, expected one; leave out b."),
        ("a --engine a", "mlzsl-one: error: --engine a: MODEL a names the model file already; leave one of them out."),
    ],
)
def test_a_model_file_is_an_argument_or_an_engine_option(arguments: str, answer: str) -> None:
    assert run(one, *arguments.split()).startswith(answer)


def test_an_earlier_name_of_an_option_works_and_is_not_in_the_help() -> None:
    assert "'kind': 'SKG'" in run(one, "--system", "SKG")
    assert "--system" not in run(one, "--help")


@pytest.mark.parametrize("arguments", ["--quiet", "--hidden-dim 3", "--layers 2", "-q --json"])
def test_options_that_have_an_effect_are_accepted(arguments: str) -> None:
    assert run(one, *arguments.split()).startswith("model.onnx")


@pytest.mark.parametrize(("option", "flag"), [("--hidden-dim=256", "--hidden-dim"), ("-l 2", "--layers")])
def test_an_option_without_an_effect_is_refused_even_with_its_default(option: str, flag: str) -> None:
    answer = run(one, "--quiet", *option.split())
    assert answer == f"mlzsl-one: error: {flag}: has no effect with --quiet; leave it out."

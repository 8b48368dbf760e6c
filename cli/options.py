"""Options and parameter types that several commands share."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mlzsl.cli.errors import UsageError

_Function = Callable[..., Any]


class FiniteFloat(click.FloatRange):
    """A float within bounds; NaN and infinity are usage errors, whatever the bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class AliasedOption(click.Option):
    """An option whose `aliases` (earlier names) still work and are not in the help."""

    def __init__(self, param_decls: list[str], aliases: tuple[str, ...] = (), **attributes: Any) -> None:
        super().__init__([*param_decls, *aliases], **attributes)
        self.aliases = aliases

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        shown, self.opts = self.opts, [name for name in self.opts if name not in self.aliases]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = shown


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print no progress and no summary.")
skip_unlinked_option = click.option(
    "--skip-unlinked", is_flag=True, help="Leave out the labels of a file that have no WordNet synset, and list them."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def model_option(help: str, default: str | None = None) -> Callable[[_Function], _Function]:
    """`--model NAME`, the model to train; `--system` is its name in mlzsl 0.1."""
    return click.option("--model", cls=AliasedOption, aliases=("--system",), default=default, metavar="NAME", help=help)


def model_file(function: _Function) -> _Function:
    """Pass `model: Path` to a command: its argument MODEL or its option `--engine FILE`; model.onnx by default."""

    def chosen(models: tuple[Path, ...], **flags: Any) -> Any:
        if len(models) > 1:
            raise UsageError(f"MODEL: found {len(models)} files, expected one; leave out {models[1]}.")
        return function(model=models[0], **flags)

    return model_files(functools.wraps(function)(chosen), metavar="[MODEL]")


def model_files(function: _Function, metavar: str = "[MODEL]...") -> _Function:
    """Pass `models: tuple[Path, ...]` to a command: its arguments MODEL or its options `--engine`, as `model_file`."""

    @click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar=metavar)
    @click.option(
        "--engine",
        "engines",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The model file, in place of MODEL.",
    )
    @functools.wraps(function)
    def chosen(models: tuple[Path, ...], engines: tuple[Path, ...], **flags: Any) -> Any:
        if models and engines:
            raise UsageError(
                f"--engine {engines[0]}: MODEL {models[0]} names the model file already; leave one of them out."
            )
        return function(models=models or engines or (Path("model.onnx"),), **flags)

    return chosen


def refuse_unused(reason: str, *names: str) -> None:
    """Refuse options of the running command that were given and have no effect, such as "with --model evidence".

    Args:
        reason: why they have no effect, to complete "--layers: has no effect …".
        names: the names of their parameters ("hidden_dim" for --hidden-dim).

    Raises:
        UsageError: one of them is on the command line.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"{max(parameter.opts, key=len)}: has no effect {reason}; leave it out.")

"""Options and parameter types that several commands share."""

import math
from collections.abc import Callable
from typing import Any

import click


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


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")


def model_option(help: str, default: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--model NAME`, the model to train; `--system` is its name in mlzsl 0.1."""
    return click.option("--model", cls=AliasedOption, aliases=("--system",), default=default, metavar="NAME", help=help)

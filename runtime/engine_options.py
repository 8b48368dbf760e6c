"""Options that commands with an engine share: what `open_engine` takes, and tolerances of scores."""

from collections.abc import Callable
from typing import Any

import click

from mlzsl.cli.options import FiniteFloat
from mlzsl.engines.opening import BACKENDS, DEFAULT_BACKEND, DEVICES, REDUCED_PRECISIONS
from mlzsl.engines.tolerances import TOLERANCES

_Function = Callable[..., Any]
_DEFAULTS = ", ".join(f"{backend} on {device}" for device, backend in DEFAULT_BACKEND.items())
_EXECUTION = (
    click.option("--device", default=DEVICES[0], type=click.Choice(DEVICES), help="What to run on."),
    click.option("--backend", type=click.Choice(BACKENDS), help=f"The inference library.  [default: {_DEFAULTS}]"),
    click.option(
        "--precision",
        type=click.Choice(["fp32", *REDUCED_PRECISIONS]),
        help="bf16 is faster and less exact, on CPUs that support it.  [default: that of the model file]",
    ),
)
_THREADS = click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: every core]")


def execution_options(function: _Function) -> _Function:
    """Add --device, --backend and --precision to a command."""
    for option in reversed(_EXECUTION):
        function = option(function)
    return function


def engine_options(function: _Function) -> _Function:
    """Add --device, --backend, --precision and --threads to a command."""
    return execution_options(_THREADS(function))


def tolerance_option(
    flag: str, name: str, help: str, metavar: str = "PERCENT", most: float = 100
) -> Callable[[_Function], _Function]:
    """An option that replaces the tolerance `name`; its help lists the defaults by precision."""
    defaults = ", ".join(f"{getattr(tolerances, name):g} {precision}" for precision, tolerances in TOLERANCES.items())
    text = f"{help}  [default: {defaults}]"
    return click.option(flag, name, type=FiniteFloat(0, most), metavar=metavar, help=text)


def difference_options(function: _Function) -> _Function:
    """Add --tolerance, --mean-tolerance and --max-flips to a command; they hold wherever scores are compared."""
    largest = tolerance_option("--tolerance", "largest", "Largest difference of a score.", "D", 1)
    mean = tolerance_option("--mean-tolerance", "mean", "Mean difference of a score.", "D", 1)
    flips = tolerance_option("--max-flips", "flipped", "Tags that differ from the reference's, of all decisions.")
    return largest(mean(flips(function)))

"""The options by which every command chooses how an engine runs; `open_engine` takes their values."""

from collections.abc import Callable
from typing import Any

import click

from mlzsl.engines.opening import BACKENDS, DEFAULT_BACKEND, DEVICES, REDUCED_PRECISIONS

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


def execution_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --device, --backend and --precision to a command."""
    for option in reversed(_EXECUTION):
        function = option(function)
    return function


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --device, --backend, --precision and --threads to a command."""
    return execution_options(_THREADS(function))

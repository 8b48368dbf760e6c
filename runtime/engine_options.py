"""The flags by which every command chooses an engine, in the same words; `open_engine` takes what they give."""

from collections.abc import Callable
from typing import Any

import click

from mlzsl.engines.opening import BACKENDS, DEFAULT_BACKEND, DEVICES, REDUCED_PRECISIONS

_DEFAULTS = ", ".join(f"{backend} on {device}" for device, backend in DEFAULT_BACKEND.items())
_OPTIONS = (
    click.option("--device", default=DEVICES[0], type=click.Choice(DEVICES), help="What to run on."),
    click.option("--backend", type=click.Choice(BACKENDS), help=f"What runs the network.  [default: {_DEFAULTS}]"),
    click.option(
        "--precision",
        type=click.Choice(["fp32", *REDUCED_PRECISIONS]),
        help="bf16 is faster and less exact, on CPUs that have it.  [default: what the model file states]",
    ),
    click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads at most.  [default: every core]"),
)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --device, --backend, --precision and --threads to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function

"""The edge of every command: where an error becomes one sentence and an exit code."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from mlzsl.cli.errors import MlzslError

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


def command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function the command `name`; the function parses, calls and prints, nothing else.

    An `MlzslError` ends the command with its sentence on standard error and its exit code (2 for usage, 1 for
    failure), an interrupt with 130. `-h`, `--help` and `--version` are there, and flags show their defaults.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except MlzslError as error:
                print(f"{name}: error: {error}", file=sys.stderr)
                sys.exit(error.exit_code)
            except KeyboardInterrupt:
                print(f"{name}: interrupted.", file=sys.stderr)
                sys.exit(130)
            except BrokenPipeError:  # the reader of our output left, as `head` does
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(1)

        versioned = click.version_option(package_name="mlzsl", prog_name=name)(guarded)
        return click.command(name, context_settings=CONTEXT_SETTINGS)(versioned)

    return decorate

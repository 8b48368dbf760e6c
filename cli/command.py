"""Commands and groups of commands: every error is one sentence on standard error and an exit code."""

import contextlib
import errno
import sys
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, TypeVar

import click
from click.exceptions import NoArgsIsHelpError, NoSuchCommand

from mlzsl.cli.errors import MlzslError, UsageError
from mlzsl.cli.streams import guard_standard_streams
from mlzsl.cli.text import one_line

_Kind = TypeVar("_Kind", bound="Command")

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


class Command(click.Command):
    """A command, or with `Group` a group of commands, that reports its errors as `NAME: error: SENTENCE`.

    A usage error (click's or ours) ends it with exit code 2, a failure with 1, an interrupt with 130. Standard output
    that cannot be written is a failure; characters that its encoding lacks are escaped.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        guard_standard_streams()
        try:
            return super().main(*args, **kwargs)
        finally:
            with _errors_reported(str(self.name)):
                sys.stdout.flush()

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _errors_reported(str(self.name)):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _errors_reported(str(self.name)):
            return super().invoke(ctx)


class Group(Command, click.Group):
    """A group of commands; `default` names the one that runs if the arguments do not start with a command's name."""

    def __init__(self, *args: Any, default: str | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.default = default

    def summaries(self) -> dict[str, str]:
        """The first line of each command's help, by name, in the order of the group's help."""
        return {name: (command.help or "").partition("\n")[0] for name, command in self.commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.summaries())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):  # click shortens long summaries
            summaries = self.summaries().items()
            formatter.write_dl([(name, text + "  [default]" * (name == self.default)) for name, text in summaries])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {*self.summaries(), *ctx.help_option_names, "--version"}
        return super().parse_args(ctx, [self.default, *args] if self.default and own.isdisjoint(args[:1]) else args)

    def subcommand(self, name: str) -> Callable[[Callable[..., None]], click.Command]:
        """Make a function the command `name` of this group."""

        def decorate(function: Callable[..., None]) -> click.Command:
            made = command(f"{self.name} {name}")(function)
            self.add_command(made, name)
            return made

        return decorate


def command(name: str) -> Callable[[Callable[..., None]], Command]:
    """Make a function the command `name`; the function parses, calls and prints, nothing else.

    The command has `-h`, `--help` and `--version`, and its help shows the flags' defaults.
    """
    return _made(name, Command)


def group(name: str, default: str | None = None, cls: type[Group] = Group) -> Callable[[Callable[..., None]], Group]:
    """Make a function the group `name`, to which `@group.subcommand` adds commands; `default` is one of them.

    With the default "run", `NAME FILE` is `NAME run FILE`.
    """
    return _made(name, cls, default=default)


def _made(name: str, cls: type[_Kind], **attributes: Any) -> Callable[[Callable[..., None]], _Kind]:
    def decorate(function: Callable[..., None]) -> _Kind:
        versioned = click.version_option(package_name="mlzsl", prog_name=name)(function)
        return click.command(name, cls=cls, context_settings=CONTEXT_SETTINGS, **attributes)(versioned)

    return decorate


@contextlib.contextmanager
def _errors_reported(name: str) -> Iterator[None]:
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except (click.ClickException, MlzslError) as error:
        sentence = _sentence(error, name) if isinstance(error, click.ClickException) else error
        print(f"{name}: error: {one_line(str(sentence))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print(f"{name}: interrupted.", file=sys.stderr)
        sys.exit(130)
    except MemoryError:
        print(f"{name}: error: not enough memory; free some, and run the command again.", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output closed it, as `head` does
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # whichever look-up of a path meets it
            raise
        path = one_line(str(error.filename))
        print(f"{name}: error: {path}: the file name is too long; name a file that exists.", file=sys.stderr)
        sys.exit(UsageError.exit_code)


def _sentence(error: click.ClickException, name: str) -> str:
    """click's error in our form: the flag or argument, what was found, what was expected or what to do."""
    see = f"see `{name} --help`."
    match error:
        case click.NoSuchOption():
            return f"{error.option_name}: no such option; {_did_you_mean(error.possibilities) or see}"
        case NoSuchCommand() if isinstance(error.cmd, Group):
            names = get_close_matches(error.command_name, error.cmd.summaries())
            return f"{error.command_name}: no such command; {_did_you_mean(names) or see}"
        case click.BadOptionUsage():
            return f"{error.option_name}: {error.message.removeprefix(f'Option {error.option_name!r} ')}"
        case click.MissingParameter():
            choices = ", ".join(getattr(error.param and error.param.type, "choices", ()))
            return f"{_flag(error.param)}: is missing; {f'expected one of {choices}' if choices else see}"
        case click.BadParameter() if error.param:
            return f"{_flag(error.param)}: {error.message.replace(' range.', '.')}"
    message = error.format_message()
    return f"{message[:1].lower()}{message[1:].rstrip('.')}; {see}"


def _did_you_mean(names: list[str] | None) -> str | None:
    return f"did you mean {' or '.join(names)}?" if names else None


def _flag(param: click.Parameter | None) -> str:
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.human_readable_name.strip("[].") if param else "an argument"

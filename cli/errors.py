"""Errors that a user sees: one sentence and an exit code each.

The sentence names the file or flag, what was found, what was expected, and what to do. It is raised where the fact is
known, and caught in `cli.command` only.
"""

from mlzsl.cli.text import escape_control_chars, one_line

MAX_REASON = 300  # characters


class MlzslError(Exception):
    """A failure that the program expects and can explain to the user, in a paragraph at most."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(MlzslError):
    """The command cannot run as typed: a flag is wrong, or a file that it names cannot be used."""

    exit_code = 2


class FailureError(MlzslError):
    """The command is right, but the job failed: no space left, a check over its tolerance."""

    exit_code = 1


def reason_of(error: BaseException) -> str:
    """Another library's exception as part of a sentence: one printable line of at most MAX_REASON characters.

    For an `OSError`, the operating system's message without the path, which the sentence names already.
    """
    text = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".") or type(error).__name__
    text = escape_control_chars(text)
    return text if len(text) <= MAX_REASON else text[: MAX_REASON - 1] + "…"

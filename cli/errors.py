"""The family of errors that a user may see: one clear sentence each, and an exit code.

A message names the file or the flag, what was found, what was expected, and what to do. Raise where the
fact is known; `cli.command` is the only place that catches.
"""


class MlzslError(Exception):
    """A failure that the program foresaw and can word for whoever typed the command."""

    exit_code = 1


LONGEST_REASON = 300  # characters


def reason_of(error: BaseException) -> str:
    """Another library's exception as part of a sentence: one line of at most LONGEST_REASON characters.

    Of an `OSError` it is the operating system's message, without the path that the sentence names already.
    """
    text = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


class UsageError(MlzslError):
    """The command cannot be carried out as it was typed: a wrong flag, or a file that a flag names is unfit."""

    exit_code = 2


class FailureError(MlzslError):
    """The command was right, but the job failed: no space left, a check beyond its tolerance."""

    exit_code = 1

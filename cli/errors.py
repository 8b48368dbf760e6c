"""The family of errors that a user may see: one clear sentence each, and an exit code.

A message names the file or the flag, what was found, what was expected, and what to do. Raise where the
fact is known; `cli.command` is the only place that catches.
"""


class MlzslError(Exception):
    """A failure that the program foresaw and can word for whoever typed the command."""

    exit_code = 1


def reason_of(error: Exception) -> str:
    """What another library's exception says, as part of a sentence: one line, the system's words where it has some."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


class UsageError(MlzslError):
    """The command cannot be carried out as it was typed: a wrong flag, or a file that a flag names is unfit."""

    exit_code = 2


class FailureError(MlzslError):
    """The command was right, but the job failed: no space left, a check beyond its tolerance."""

    exit_code = 1

"""What a tagging job did: counts, the first photos of each kind, and a limit of unreadable ones."""

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.text import none_readable, plural
from mlzsl.runtime.io.run_record import RunRecord
from mlzsl.runtime.io.tag_files import STANDARD_OUTPUT
from mlzsl.runtime.tags import Tagged

MAX_ERRORS = 5
MAX_SAMPLE = 12
MIN_PHOTOS_OF_SHARE = 100  # a limit in percent applies to no fewer, except at the end


@dataclass(frozen=True)
class ErrorLimit:
    """How many photos of a job may be unreadable: a number of them, or a percentage of those that were tried."""

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d{1,18}|\d{1,2}(\.\d{1,9})?%", self.text, re.ASCII):
            raise UsageError(
                f"--max-errors {self.text}: expected a number of photos such as 100, or a percentage such as 5%."
            )

    def is_exceeded(self, errors: int, photos: int, at_end: bool) -> bool:
        """Whether so many errors among so many photos are too many."""
        if not self.text.endswith("%"):
            return errors > int(self.text)
        return (photos >= MIN_PHOTOS_OF_SHARE or at_end) and errors * 100 > Decimal(self.text[:-1]) * photos


@dataclass
class TaggingResult:
    """What a job did.

    Attributes:
        tagged: number of photos that were tagged.
        unreadable: number of photos that were not; each is recorded with its error.
        not_done: number of photos that the machine failed to read; they have no record.
        with_note: number of tagged photos with a note.
        resumed: how many tagged and unreadable ones the interrupted run had done.
        seconds: from the first photo to the last, without those.
        errors: the first few unreadable photos.
        failures: the first few photos that are not done.
        notes: the first few photos with a note.
        sample: the first few tagged photos.
        skipped: files in folders and shards that are not images by their names, by suffix.
        record: of the run, as stored beside the tags.
    """

    tagged: int = 0
    unreadable: int = 0
    not_done: int = 0
    with_note: int = 0
    resumed: int = 0
    seconds: float = 0.0
    errors: list[Tagged] = field(default_factory=list)
    failures: list[Tagged] = field(default_factory=list)
    notes: list[Tagged] = field(default_factory=list)
    sample: list[Tagged] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    record: RunRecord = field(init=False)

    @property
    def photos_per_second(self) -> float:
        """Of the photos of this run, unreadable ones included."""
        return (self.tagged + self.unreadable - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    def add(self, photo: Tagged) -> str:
        """Count a photo; returns a note for the progress."""
        self.tagged += photo.error is None
        self.not_done += photo.transient
        self.unreadable += photo.error is not None and not photo.transient
        self.with_note += photo.note is not None
        errors = self.failures if photo.transient else self.errors
        _keep(photo, *((self.sample, MAX_SAMPLE) if photo.error is None else (errors, MAX_ERRORS)))
        if photo.note is not None:
            _keep(photo, self.notes, MAX_ERRORS)
        counts = {"unreadable": self.unreadable, "not done": self.not_done}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def check_errors(self, limit: ErrorLimit | None, at_end: bool = False) -> None:
        """Compare the number of unreadable photos with a limit; call it after each photo, and at the end.

        Raises:
            FailureError: there are more.
        """
        photos = self.tagged + self.unreadable
        if limit and limit.is_exceeded(self.unreadable, photos, at_end):
            raise FailureError(
                f"--max-errors {limit.text}: {plural(self.unreadable, 'photo')} of {photos:,} could not be read "
                f"(first: {_described(self.errors[0])}); raise it, or resume with --retry-errors when they can be read."
            )

    def nothing_tagged_error(self, output: str) -> FailureError:
        """Why no photo was tagged, as one sentence."""
        if self.not_done:
            return self.not_done_error(output)
        if not self.errors:
            return FailureError("the input names no photo; nothing was tagged.")
        return FailureError(f"{none_readable(self.unreadable, _described(self.errors[0]))}; nothing was tagged.")

    def not_done_error(self, output: str) -> FailureError:
        """The photos that the machine failed to read, as one sentence."""
        are, them, first = ("is", "it", "") if self.not_done == 1 else ("are", "them", "first: ")
        remedy = f"tag {them} again" if output == STANDARD_OUTPUT else f"--resume tries {them} again"
        return FailureError(
            f"{plural(self.not_done, 'photo')} {are} not done: the machine failed to read {them} "
            f"({first}{_described(self.failures[0])}); {remedy}."
        )


def _keep(photo: Tagged, kept: list[Tagged], most: int) -> None:
    if len(kept) < most:
        kept.append(photo)


def _described(photo: Tagged) -> str:
    return f"{photo.name}: {photo.error}"

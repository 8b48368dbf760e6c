"""The photos that a resumed job has still to tag: those to try again, then those that it never reached."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.text import escape_control_chars
from mlzsl.runtime.io.inputs import holds_photos
from mlzsl.runtime.tagging.journal import INSERTED, REMOVED, REPLACED, Journal, whole_lines
from mlzsl.runtime.tags import Photo, Tagged


class RemainingPhotos:
    """Compares the photos of the input with those in the journal, gives those to tag, and takes them back in order.

    A journal has one photo after the other, as the input has them. One that is to be tried again may stand for the rest
    of a shard or table that could not be read.
    """

    def __init__(self, journal: Journal, photos: Iterator[Photo], done: Callable[[Tagged], object]) -> None:
        self._journal = journal
        self._photos = photos
        self._done = done
        self._tried: deque[tuple[int, str]] = deque()  # line and sign of each photo that is tried again, in order

    def photos(self) -> Iterator[Photo]:
        """The photos to tag; `done` is called with each of the others.

        Raises:
            UsageError: the input has other photos than the journal.
            FailureError: the machine failed to read a shard or table up to where the job was interrupted.
        """
        photo = next(self._photos, None)
        follows = True  # the photo that was given before
        lines = (done for _, done in whole_lines(self._journal.records))
        following = next(lines, None)
        for number in count():
            if (done := following) is None:
                break
            following = next(lines, None)
            again, rest = self._journal.tries_again(done), False
            while again and photo and _is_of_the_rest(photo, done, following):
                rest = True
                self._tried.append((number, INSERTED))
                yield replace(photo, after_others=not follows)
                photo, follows = next(self._photos, None), True
            if photo is None or photo.path != done.path:
                if not again or not (rest or holds_photos(done.path)):
                    raise self._other_photos(done, photo)
                self._remove(number)
                continue
            if again:
                self._tried.append((number, REPLACED))
                yield replace(photo, after_others=not follows)
            else:
                self._done(done)
            photo, follows = next(self._photos, None), again
        if photo:
            yield replace(photo, after_others=not follows)
        yield from self._photos

    def write(self, photo: Tagged) -> None:
        """Put the next photo that was tagged into the journal."""
        if not self._tried:
            self._journal.write(photo)
            return
        number, sign = self._tried.popleft()
        self._journal.write_retried(number, sign, photo)
        while self._tried and self._tried[0][1] == REMOVED:
            self._journal.write_retried(*self._tried.popleft())

    def _remove(self, number: int) -> None:
        """Remove a line, once the photos before it are written."""
        if self._tried:
            self._tried.append((number, REMOVED))
        else:
            self._journal.write_retried(number, REMOVED)

    def _other_photos(self, expected: Tagged, found: Photo | None) -> UsageError | FailureError:
        if found and found.transient:
            return FailureError(f"{escape_control_chars(found.path)}: {found.problem}.")
        name = "nothing" if found is None else escape_control_chars(found.path)
        return UsageError(
            f"--resume: the photos differ from those of the job in {self._journal.folder} (expected {expected.name}, "
            f"found {name}); start over with --restart."
        )


def _is_of_the_rest(photo: Photo, done: Tagged, following: Tagged | None) -> bool:
    """Whether a photo comes from the shard or table that `done` stands for, and is not in the journal itself.

    After a failure of the machine the journal has no further photo of it; after a row without a photo it has.
    """
    in_journal = not done.transient and following is not None and photo.path == following.path
    return photo.container == done.path != photo.path and not in_journal

"""The gallery: one self-contained HTML page of tagged photos, opened from disk without a network.

The page is a template with its style and script (`template/`) and, between them, blocks of data as JSON, written photo
by photo. All untrusted text (names, labels, errors) is in these blocks only, escaped so that it cannot end one, and
the script inserts it as text; a content security policy lets nothing else run or load.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import msgspec

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.cli.outputs import check_target, written_atomically
from mlzsl.cli.progress import progress
from mlzsl.cli.text import escape_control_chars, plural
from mlzsl.engines.engine import available_cpus
from mlzsl.imaging import TransientReadError, UnreadableImage
from mlzsl.runtime.gallery.thumbnails import thumbnail_jpeg
from mlzsl.runtime.io.inputs import PATH_COLUMN, holds_photos
from mlzsl.runtime.io.members import MemberReader
from mlzsl.runtime.io.run_record import RunRecord, read_run_record
from mlzsl.runtime.io.tag_files import check_tags, read_tags
from mlzsl.runtime.tagging.pipeline import map_ahead
from mlzsl.runtime.tags import Tagged

SUFFIXES = (".html", ".htm")
THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 176, 132
THUMBNAIL_BYTES = 6144  # at most; 3.3 KB on average, so that 10,000 photos make a page of 46 MB
MAX_PHOTOS = 20_000  # with a thumbnail; a browser opens a page of 100 MB without trouble
MAX_UNREADABLE = 20_000
BLOCK = 256  # photos of one block of data
TEMPLATE = Path(__file__).parent / "template"


@dataclass
class GalleryCounts:
    """How many photos and unreadable files the tags have, and how many of them the page shows, the first ones."""

    photos: int = 0
    unreadable: int = 0
    photos_shown: int = 0
    unreadable_shown: int = 0


def write_gallery(
    tags: str | os.PathLike[str], target: str | os.PathLike[str], threads: int | None = None, quiet: bool = False
) -> GalleryCounts:
    """Write the page of a file of tags; memory does not grow with the number of photos.

    The photos are decoded again for their thumbnails; a missing photo is shown without one, with the error. So is one
    that the machine fails to read, but then the page is no success.

    Args:
        tags: a `.jsonl`, `.csv` or `.parquet` file of `mlzsl-infer`, with the record of its run beside it.
        target: the `.html` file, written whole or not at all.
        threads: that decode; None for one per core.
        quiet: show no progress.

    Raises:
        UsageError: a file has the wrong suffix or is invalid, or CSV has no record beside it.
        FailureError: the page cannot be written, or the machine failed to read photos; the page then lacks thumbnails.
    """
    tags, target = Path(tags), Path(target)
    check_gallery(tags, target)
    record = read_run_record(tags)
    if record is None and tags.suffix.lower() == ".csv":
        raise UsageError(
            f"{tags}: has no record of its run beside it, and CSV does not mark unseen labels; copy {tags}.run.json "
            "along with it."
        )
    unseen = frozenset(record.engine.unseen if record else ())
    path_column = record.path_column if record else PATH_COLUMN
    total = record.photos.tagged + record.photos.unreadable if record else None
    head, tail = _page()
    with written_atomically(target) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        data = _DataBlocks(file, target)
        with progress("drawing thumbnails", total, "photos", quiet) as bar:
            for photo, thumbnail in _with_thumbnails(read_tags(tags, unseen), threads, path_column):
                data.add(photo, thumbnail)
                bar.advance()
        data.finish(record)
        file.write(tail)
    if data.failures:
        raise FailureError(
            f"{target}: the machine failed to read {plural(data.failures, 'photo')} again for thumbnails "
            f"(first: {data.first_failure}); run mlzsl-gallery {tags}."
        )
    return data.counts


def check_gallery(tags: str | os.PathLike[str], target: Path, flag: str = "--output") -> None:
    """Refuse, before photos are tagged or decoded, a page that could not be written; `flag` names it.

    Raises:
        UsageError: the suffix of either file is unknown, or the page is a folder.
    """
    check_tags(Path(tags))
    check_target(flag, target, SUFFIXES, "gallery.html")


def _page() -> tuple[str, str]:
    """The page before and after its data."""
    style, grid, page = ((TEMPLATE / name).read_text(encoding="utf-8") for name in ("page.css", "grid.js", "page.js"))
    script = grid + page
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head, tail = (TEMPLATE / "page.html").read_text(encoding="utf-8").split("{{data}}")
    return head.replace("{{policy}}", policy).replace("{{style}}", style), tail.replace("{{script}}", script)


def _source(text: str) -> str:
    """The hash of an inline style or script, for the policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


Thumbnail = bytes | UnreadableImage | TransientReadError | None  # JPEG; why there is none; or beyond MAX_PHOTOS


def _with_thumbnails(
    photos: Iterable[Tagged], threads: int | None, path_column: str
) -> Iterator[tuple[Tagged, Thumbnail]]:
    """Each photo with its thumbnail, in order, a few decoded ahead; only the first MAX_PHOTOS have one."""
    shown = itertools.count()
    with contextlib.closing(MemberReader(path_column)) as members:

        def source(photo: Tagged) -> str | bytes | TransientReadError | None:
            if photo.error is not None or next(shown) >= MAX_PHOTOS:
                return None
            try:
                return members.read(photo.path) or photo.path
            except TransientReadError as error:
                return error

        sources = ((photo, source(photo)) for photo in photos)
        ahead = 4 * (threads or available_cpus())
        with contextlib.closing(map_ahead(_thumbnail, sources, threads, ahead)) as found:
            for (photo, _), thumbnail in found:
                yield photo, thumbnail


def _thumbnail(photo: tuple[Tagged, str | bytes | TransientReadError | None]) -> Thumbnail:
    source = photo[1]
    if isinstance(source, TransientReadError):
        return source
    try:
        return None if source is None else thumbnail_jpeg(source, THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT, THUMBNAIL_BYTES)
    except (UnreadableImage, TransientReadError) as error:
        return error


class _DataBlocks:
    """Writes the blocks of data that the script reads, by class:

    photos      [[name, link or "", thumbnail as base64 or "", why there is none or "", [label, score, …]], …]
    unreadable  [[name, error], …]
    about       {labels: [[name, seen], …], counts: {…}, run: {…} or null}
    """

    def __init__(self, file: IO[str], target: Path) -> None:
        self.counts = GalleryCounts()
        self.failures, self.first_failure = 0, ""  # photos that the machine failed to read
        self._file = file
        self._folder = os.path.abspath(target.parent)
        self._labels: dict[tuple[str, bool], int] = {}  # index of (name, seen), in order of appearance
        self._entries: dict[str, list[Any]] = {"photos": [], "unreadable": []}

    def add(self, photo: Tagged, thumbnail: Thumbnail) -> None:
        """Add one photo in the order of the tags."""
        if photo.error is not None:
            self.counts.unreadable += 1
            if self.counts.unreadable_shown < MAX_UNREADABLE:
                self.counts.unreadable_shown += 1
                self._append("unreadable", [photo.path, photo.error])
            return
        self.counts.photos += 1
        if thumbnail is None:
            return
        self.counts.photos_shown += 1
        encoded = base64.b64encode(thumbnail).decode() if isinstance(thumbnail, bytes) else ""
        error = str(thumbnail) if isinstance(thumbnail, Exception) else ""
        if isinstance(thumbnail, TransientReadError):
            self.failures += 1
            self.first_failure = self.first_failure or f"{photo.name}: {error}"
        tags: list[float] = []
        for tag in photo.tags:
            index = self._labels.setdefault((tag.label, tag.seen), len(self._labels))
            tags += index, round(tag.score, 4)
        self._append("photos", [photo.path, self._link(photo.path), encoded, error, tags])

    def finish(self, record: RunRecord | None) -> None:
        """Write the remaining entries, and what made the tags."""
        for kind, entries in self._entries.items():
            self._write(kind, entries)
        run = None if record is None else _run(record)
        self._write("about", {"labels": list(self._labels), "counts": asdict(self.counts), "run": run})

    def _link(self, path: str) -> str:
        """A link to a photo, relative to the page: it names neither a scheme nor a host. "" for one in an archive."""
        folders = path.split("/")[:-1]
        if any(map(holds_photos, folders)) and not os.path.isfile(path):
            return ""
        return quote(os.fsencode("./" + os.path.relpath(path, self._folder)))

    def _append(self, kind: str, entry: list[Any]) -> None:
        entries = self._entries[kind]
        entries.append(entry)
        if len(entries) == BLOCK:
            self._write(kind, entries)
            entries.clear()

    def _write(self, kind: str, content: Any) -> None:
        text = json.dumps(_escaped(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        for sign in "<>&":  # nothing may end the block or start a comment
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        self._file.write(f'<script type="application/json" class="{kind}">{text}</script>\n')


def _escaped(content: Any) -> Any:
    """Data with the control characters in all its text escaped."""
    if isinstance(content, str):
        return escape_control_chars(content)
    if isinstance(content, list | tuple):
        return [_escaped(value) for value in content]
    if isinstance(content, dict):
        return {key: _escaped(value) for key, value in content.items()}
    return content


def _run(record: RunRecord) -> dict[str, Any]:
    certificate = record.certificate
    return {
        "file": record.engine.file,
        "model": f"{record.engine.model} on {record.engine.backbone}",
        "labels": record.engine.labels,
        "unseen": len(record.engine.unseen),
        "rule": record.selection.rule,
        "execution": asdict(record.execution),
        "certificate": certificate and msgspec.to_builtins(certificate) | {"photos": certificate.photos},
    }

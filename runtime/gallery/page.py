"""The gallery: one page to look at what was tagged, whole in itself, opened from disk without a network.

The page is a template with its style and script (`gallery_page/`) and, between them, blocks of data as JSON, written
photo by photo. Everything foreign (names, labels, reasons) travels in these blocks only, escaped so that it cannot end
one, and the script puts it on the page as text; a content security policy lets nothing else run or load.
"""

import base64
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from mlzsl.cli.errors import UsageError
from mlzsl.cli.outputs import written_atomically
from mlzsl.cli.progress import progress
from mlzsl.cli.text import escape_control_chars
from mlzsl.engines.engine import available_cpus
from mlzsl.imaging import UnreadableImage
from mlzsl.runtime.gallery.thumbnails import thumbnail_jpeg
from mlzsl.runtime.io.readers import check_tags, read_tags
from mlzsl.runtime.io.run_record import RunRecord, read_run_record
from mlzsl.runtime.io.shards import MembersInOrder
from mlzsl.runtime.tags import Tagged

SUFFIXES = (".html", ".htm")
THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT = 176, 132
THUMBNAIL_BYTES = 6144  # at most; 3.3 KB on average, so that 10,000 photos make a page of 46 MB
MOST_PHOTOS = 20_000  # with a thumbnail; a browser holds a page of some 100 MB easily
MOST_UNREADABLE = 20_000
BLOCK = 256  # photos of one block of data
PAGE = Path(__file__).parent / "template"


@dataclass(frozen=True)
class GalleryCounts:
    """What a page shows, and what there was.

    Attributes:
        photos, unreadable: of the tags.
        photos_shown, unreadable_shown: of these, the first so many.
    """

    photos: int
    unreadable: int
    photos_shown: int
    unreadable_shown: int


def write_gallery(
    tags: str | os.PathLike[str], target: str | os.PathLike[str], threads: int | None = None, quiet: bool = False
) -> GalleryCounts:
    """Write the page of a file of tags; memory does not grow with the number of photos.

    The photos are decoded again, at reduced scale, so they must still be there; one that is not is shown without its
    thumbnail and with the reason.

    Args:
        tags: a `.jsonl`, `.csv` or `.parquet` file that `mlzsl-infer` wrote. What made it, the record beside it tells.
        target: the `.html` file to write, whole or not at all.
        threads: how many photos are decoded at once; None takes every core.
        quiet: show no progress.

    Raises:
        UsageError: a file is of the wrong kind or unfit, or CSV has no record beside it.
        FailureError: the file system refuses.
    """
    tags, target = Path(tags), Path(target)
    check_gallery(tags, target)
    record = read_run_record(tags)
    if record is None and tags.suffix.lower() == ".csv":
        raise UsageError(
            f"{tags}: no record of the run lies beside it, and CSV does not say which labels are unseen; copy "
            f"{tags}.run.json along with it."
        )
    unseen = frozenset() if record is None else frozenset(record.unseen)
    head, tail = _page()
    with written_atomically(target) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        data = _Data(file, target)
        with progress("drawing thumbnails", None if record is None else record.photos, "photos", quiet) as bar:
            for photo, picture in _with_thumbnails(read_tags(tags, unseen), threads or available_cpus()):
                data.add(photo, picture)
                bar.advance()
        counts = data.finish(record)
        file.write(tail)
    return counts


def check_gallery(tags: str | os.PathLike[str], target: Path) -> None:
    """Refuse, before the work begins, a page that could not be written.

    Raises:
        UsageError: the suffix of either file is of no kind known here, or a folder is in the way.
    """
    check_tags(Path(tags))
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: unknown suffix {target.suffix!r} for a gallery; use {' or '.join(SUFFIXES)}.")
    if target.is_dir():
        raise UsageError(f"{target}: is a folder; name a file in it, such as {target / 'gallery.html'}.")


def _page() -> tuple[str, str]:
    """The page before and after its data."""
    style, grid, page = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "grid.js", "page.js"))
    script = grid + page
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head, tail = (PAGE / "page.html").read_text(encoding="utf-8").split("{{data}}")
    return head.replace("{{policy}}", policy).replace("{{style}}", style), tail.replace("{{script}}", script)


def _source(text: str) -> str:
    """The hash by which the policy knows an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


Thumbnail = bytes | UnreadableImage | None  # JPEG, why there is none, or not asked for


def _with_thumbnails(photos: Iterable[Tagged], threads: int) -> Iterator[tuple[Tagged, Thumbnail]]:
    """Each photo with its thumbnail, in order, a few decoded ahead; of the first MOST_PHOTOS only."""
    shown = 0
    started: deque[tuple[Tagged, Future[Thumbnail] | None]] = deque()

    def finished() -> tuple[Tagged, Thumbnail]:
        photo, picture = started.popleft()
        return photo, None if picture is None else picture.result()

    members = MembersInOrder()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="thumbnail")
    try:
        for photo in photos:
            asked = photo.error is None and shown < MOST_PHOTOS
            shown += asked
            source = (members.read(photo.path) or photo.path) if asked else ""
            started.append((photo, pool.submit(_thumbnail, source) if asked else None))
            if len(started) > 4 * threads:
                yield finished()
        while started:
            yield finished()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        members.close()


def _thumbnail(source: str | bytes) -> Thumbnail:
    try:
        return thumbnail_jpeg(source, THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT, THUMBNAIL_BYTES)
    except UnreadableImage as error:
        return error


class _Data:
    """Writes the blocks of data. What a block of each class holds, the script reads:

    photos      [[name, link, thumbnail as base64 or "", reason why there is none or "", [label, score, …]], …]
    unreadable  [[name, reason], …]
    about       {labels: [[name, seen], …], counts: {…}, run: {…} or null}
    """

    def __init__(self, file: IO[str], target: Path) -> None:
        self._file = file
        self._folder = os.path.abspath(target.parent)
        self._places: dict[tuple[str, bool], int] = {}  # of label and seen, in the order of their appearance
        self._photos: list[Any] = []
        self._unreadable: list[Any] = []
        self._counts = dict.fromkeys(("photos", "unreadable", "photos_shown", "unreadable_shown"), 0)

    def add(self, photo: Tagged, picture: Thumbnail) -> None:
        """Take one photo in the order of the tags."""
        if photo.error is not None:
            self._counts["unreadable"] += 1
            if self._counts["unreadable_shown"] < MOST_UNREADABLE:
                self._counts["unreadable_shown"] += 1
                self._unreadable.append([photo.path, photo.error])
                self._write_full("unreadable", self._unreadable)
            return
        self._counts["photos"] += 1
        if picture is None:
            return
        self._counts["photos_shown"] += 1
        thumbnail = base64.b64encode(picture).decode() if isinstance(picture, bytes) else ""
        reason = str(picture) if isinstance(picture, UnreadableImage) else ""
        tags = [value for tag in photo.tags for value in (self._place(tag.label, tag.seen), round(tag.score, 4))]
        self._photos.append([photo.path, self._link(photo.path), thumbnail, reason, tags])
        self._write_full("photos", self._photos)

    def finish(self, record: RunRecord | None) -> GalleryCounts:
        """Write what is left, and what the page tells of the run."""
        self._write("photos", self._photos)
        self._write("unreadable", self._unreadable)
        labels = list(self._places)
        self._write(
            "about", {"labels": labels, "counts": self._counts, "run": None if record is None else _run(record)}
        )
        return GalleryCounts(**self._counts)

    def _place(self, label: str, seen: bool) -> int:
        return self._places.setdefault((label, seen), len(self._places))

    def _link(self, path: str) -> str:
        """The photo as seen from the page; relative, so that it cannot name a scheme or a host."""
        return quote(os.fsencode("./" + os.path.relpath(path, self._folder)))

    def _write_full(self, kind: str, entries: list[Any]) -> None:
        if len(entries) == BLOCK:
            self._write(kind, entries)
            entries.clear()

    def _write(self, kind: str, content: Any) -> None:
        text = json.dumps(_printable(content), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        for sign in "<>&":  # nothing in it may end the block or begin a comment
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        self._file.write(f'<script type="application/json" class="{kind}">{text}</script>\n')


def _printable(content: Any) -> Any:
    """Data with every text in it fit to be shown."""
    if isinstance(content, str):
        return escape_control_chars(content)
    if isinstance(content, list | tuple):
        return [_printable(value) for value in content]
    if isinstance(content, dict):
        return {key: _printable(value) for key, value in content.items()}
    return content


def _run(record: RunRecord) -> dict[str, Any]:
    certificate = record.certificate
    return {
        "model": record.model,
        "system": f"{record.system} on {record.backbone}",
        "labels": record.labels,
        "unseen": len(record.unseen),
        "rule": record.rule,
        "running": asdict(record.execution),
        "certificate": None if certificate is None else certificate.to_json() | {"photos": certificate.photos},
    }

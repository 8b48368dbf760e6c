"""An entry of the catalogue onto the disk: every file fetched, checked and unpacked, and a record of what was done.

The record, fetched.json beside the data, makes a second run skip what is there. It also holds the SHA-256 of files
whose makers publish none: the first copy is trusted, and every later one has to be the same.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.outputs import sha256_of_file, written_atomically
from mlzsl.cli.progress import log
from mlzsl.train.datasets.download.catalog import Entry, RemoteFile
from mlzsl.train.datasets.download.http import bytes_of_part, download
from mlzsl.train.datasets.download.unpack import unpack

RECORD = "fetched.json"


@dataclass(frozen=True)
class Fetched:
    """What the record says of one file.

    Attributes:
        url: where it came from.
        sha256: of the file as it arrived.
        made: the names at the top of the folder that it became: itself, or what it unpacked to.
    """

    url: str
    sha256: str
    made: tuple[str, ...]


def fetch_entry(
    entry: Entry, into: Path, mirror: str | None = None, keep_archives: bool = False, quiet: bool = False
) -> None:
    """Download the files of an entry that are not there yet, check and unpack them into the folder `into`.

    Args:
        entry: from the catalogue.
        into: made when missing.
        mirror: an address of a folder that holds the files by their names, instead of their makers' addresses.
        keep_archives: do not remove an archive that is unpacked.
        quiet: no news and no progress.

    Raises:
        UsageError: the mirror is no http or https address, or `into` is no folder.
        FailureError: a file cannot be fetched, is not what it should be, cannot be unpacked, or the disk is full. What
            arrived is kept, and the same call goes on from there.
    """
    if mirror is not None and (urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc):
        raise UsageError(f"--from {mirror}: is not an address; expected http://HOST/FOLDER or https://HOST/FOLDER.")
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--into {into}: is no folder and cannot be made one ({reason_of(error)}).") from error
    record = _read_record(into)
    missing = [file for file in entry.files if not _is_there(file, record.get(file.name), into)]
    _need_room(missing, into)
    for file in entry.files:
        if file in missing:
            record[file.name] = _fetch_file(file, record.get(file.name), into, mirror, keep_archives, quiet)
            _write_record(into, record)
        else:
            log(f"{file.name}: already there", quiet)


def _fetch_file(
    file: RemoteFile, before: Fetched | None, into: Path, mirror: str | None, keep_archive: bool, quiet: bool
) -> Fetched:
    url = f"{mirror.rstrip('/')}/{file.name}" if mirror is not None else file.url
    expected = file.sha256 or (before.sha256 if before else None)
    target = into / file.name
    if expected is not None and _is_file_with(target, file.size, expected):
        found = expected
        log(f"{file.name}: its bytes are already there", quiet)
    else:
        found = download(url, target, file.size, expected, quiet)
    if expected is None:
        log(
            f"note: {file.name}: no checksum is published for it, so this copy was taken on trust; {RECORD} keeps its "
            f"SHA-256 {found[:12]}…, and later copies are checked against it",
            quiet,
        )
    if not file.unpack:
        return Fetched(url, found, (file.name,))
    made = tuple(unpack(target, into, file.only, quiet))
    if not keep_archive:
        target.unlink()
    return Fetched(url, found, made)


def _is_there(file: RemoteFile, done: Fetched | None, into: Path) -> bool:
    if done is None or file.sha256 not in (None, done.sha256):
        return False
    if not file.unpack and file.size is not None and not _has_size(into / file.name, file.size):
        return False
    return bool(done.made) and all((into / name).exists() for name in done.made)


def _is_file_with(path: Path, size: int | None, sha256: str) -> bool:
    return path.is_file() and (size is None or _has_size(path, size)) and sha256_of_file(path) == sha256


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _need_room(missing: list[RemoteFile], into: Path) -> None:
    """Refuse to start what cannot end: archives of photos unpack to their own size at least, one after the other."""
    sizes = [(file.size or 0, file.unpack) for file in missing]
    there = sum(bytes_of_part(into / file.name) for file in missing)
    needed = sum(size for size, _ in sizes) - there + max((size for size, archive in sizes if archive), default=0)
    room = shutil.disk_usage(into).free
    if needed > room:
        raise FailureError(
            f"{into}: has room for {room:,} bytes, but {needed:,} are needed to download and unpack; free space or "
            "choose another folder with --into."
        )


def _read_record(into: Path) -> dict[str, Fetched]:
    path = into / RECORD
    if not path.exists():
        return {}
    try:
        content: dict[str, dict[str, Any]] = json.loads(path.read_bytes())
        return {
            name: Fetched(str(row["url"]), str(row["sha256"]), tuple(map(str, row["made"])))
            for name, row in content.items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: is not readable as the record of what was fetched ({reason_of(error)}); "
            "remove it to fetch all again."
        ) from error


def _write_record(into: Path, record: dict[str, Fetched]) -> None:
    rows = {name: asdict(fetched) for name, fetched in record.items()}
    with written_atomically(into / RECORD) as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")

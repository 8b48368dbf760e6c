"""Fetch an entry of the catalogue: download, check and unpack every file, and record what was done.

The record, fetched.json in the data folder, lets a second run skip finished files: those that still have their SHA-256,
and archives of which every unpacked file still has its size. It also holds the SHA-256 of files without a published
one: the first copy is trusted, and later copies must be equal.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mlzsl.cli.errors import FailureError, UsageError, reason_of
from mlzsl.cli.json_decoding import read_json
from mlzsl.cli.outputs import sha256_of_file, written_atomically
from mlzsl.cli.progress import log
from mlzsl.train.datasets.download.catalog import Entry, RemoteFile
from mlzsl.train.datasets.download.http import bytes_of_part, download
from mlzsl.train.datasets.download.unpack import unpack

RECORD = "fetched.json"
MAX_RECORD_BYTES = 2**28  # it names every file of every archive


@dataclass(frozen=True)
class Fetched:
    """The record of a fetched file.

    Attributes:
        url: where it came from.
        sha256: of the file as downloaded.
        unpacked: the size in bytes of each file that it unpacked to; empty for a file that is not an archive.
        made: mlzsl 0.1 wrote the top-level names of these files instead.
    """

    url: str
    sha256: str
    unpacked: dict[str, int] = field(default_factory=dict)
    made: tuple[str, ...] = ()


def fetch_entry(
    entry: Entry, into: Path, mirror: str | None = None, keep_archives: bool = False, quiet: bool = False
) -> None:
    """Download, check and unpack the files of an entry that the folder `into` lacks.

    Args:
        entry: from the catalogue.
        into: created if missing.
        mirror: the URL of a folder with the files, instead of the publisher's URLs.
        keep_archives: keep archives after unpacking.
        quiet: log nothing and show no progress.

    Raises:
        UsageError: `mirror` is not an http or https URL, or `into` is not a folder.
        FailureError: a file cannot be downloaded, checked or unpacked, or the disk is full. Bytes that have arrived are
            kept, and the same call resumes.
    """
    if mirror is not None and (urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc):
        raise UsageError(
            f"--from {mirror}: is not a URL of a folder; expected http://HOST/FOLDER or https://HOST/FOLDER."
        )
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--into {into}: is not a folder and cannot be created ({reason_of(error)}).") from error
    path = into / RECORD
    remedy = "remove it to fetch all files again"
    record = read_json(path, dict[str, Fetched], remedy, MAX_RECORD_BYTES) if path.exists() else {}
    missing = [file for file in entry.files if not _is_finished(file, record.get(file.name), into)]
    _check_free_space(missing, into)
    for file in entry.files:
        if file not in missing:
            log(f"{file.name}: already fetched", quiet)
            continue
        record[file.name] = _fetch_file(file, record.get(file.name), into, mirror, keep_archives, quiet)
        with written_atomically(path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _fetch_file(
    file: RemoteFile, before: Fetched | None, into: Path, mirror: str | None, keep_archive: bool, quiet: bool
) -> Fetched:
    url = f"{mirror.rstrip('/')}/{file.name}" if mirror is not None else file.url
    expected = file.sha256 or (before.sha256 if before else None)
    target = into / file.name
    if expected is not None and _has_size(target, file.size) and sha256_of_file(target) == expected:
        found = expected
        log(f"{file.name}: already downloaded", quiet)
    else:
        found = download(url, target, file.size, expected, quiet)
    if expected is None:
        log(
            f"note: {file.name}: no checksum is published, so this first copy is trusted; {RECORD} keeps its SHA-256 "
            f"{found[:12]}… to check later copies",
            quiet,
        )
    unpacked = unpack(target, into, file.only, quiet) if file.unpack else {}
    if file.unpack and not keep_archive:
        target.unlink()
    return Fetched(url, found, unpacked)


def _is_finished(file: RemoteFile, done: Fetched | None, into: Path) -> bool:
    if done is None or file.sha256 not in (None, done.sha256):
        return False
    if not file.unpack:
        target = into / file.name
        return _has_size(target, file.size) and sha256_of_file(target) == done.sha256
    if not done.unpacked:
        return bool(done.made) and all((into / name).exists() for name in done.made)
    return all(_has_size(into / name, size) for name, size in done.unpacked.items())


def _has_size(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


def _check_free_space(missing: list[RemoteFile], into: Path) -> None:
    """Refuse a download that cannot fit: archives of photos unpack to at least their own size, one after the other."""
    to_download = sum((file.size or 0) - bytes_of_part(into / file.name) for file in missing)
    needed = to_download + max((file.size or 0 for file in missing if file.unpack), default=0)
    free = shutil.disk_usage(into).free
    if needed > free:
        raise FailureError(
            f"{into}: has {free:,} bytes free, but {needed:,} are needed to download and unpack; free space or choose "
            "another folder with --into."
        )

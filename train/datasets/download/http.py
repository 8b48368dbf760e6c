"""One file over HTTP: resumed where it stopped, retried when the line drops, checked, and there whole or not at all.

While it arrives it is called NAME.part; NAME.part.json beside it says which version of which address it is the
beginning of. pooch, which would be the library to take, checks but does not resume (1.9).
"""

import contextlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.outputs import sha256_of_file, written_atomically
from mlzsl.cli.progress import Progress, log, progress

ATTEMPTS = 6  # in a row that bring nothing
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before the next attempt, doubled each time
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 2**18
MB = 10**6
LATER = {408, 425, 429, 500, 502, 503, 504}  # statuses that may pass


class _DroppedError(Exception):
    """The transfer ended before the file did; what arrived is kept."""


class _BeyondError(_DroppedError):
    """The server's file is shorter than what was there, which therefore is no beginning of it."""


@dataclass(frozen=True)
class _Beginning:
    """What is known of a .part file.

    Attributes:
        url: where it comes from.
        validator: a strong ETag, a Last-Modified date, or "" where the server gave neither.
    """

    url: str
    validator: str


def download(url: str, target: Path, size: int | None, sha256: str | None, quiet: bool = False) -> str:
    """Fetch `url` into `target`, going on from `target`.part if that is there.

    Args:
        url: http or https.
        target: appears when all its bytes are there and right; its folder exists.
        size: bytes it must have, or None.
        sha256: its 64 hexadecimal digits, or None where nobody knows them.
        quiet: no progress.

    Returns:
        The SHA-256 of what arrived.

    Raises:
        FailureError: the server does not have it or has something else, it cannot be reached after several attempts,
            the bytes are wrong, or the disk refuses. A file at `target` from before is unchanged.
    """
    part, known = _part(target), _part_record(target)
    resumed = part.exists() and part.stat().st_size > 0
    _fetch(url, target, size, sha256 is not None, quiet)
    log(f"checking {target.name}", quiet)
    found = sha256_of_file(part)
    if sha256 is not None and found != sha256 and resumed:
        log(f"{target.name}: what was there before does not fit the rest; fetching all of it again", quiet)
        _forget(target)
        _fetch(url, target, size, True, quiet)
        found = sha256_of_file(part)
    if sha256 is not None and found != sha256:
        _forget(target)
        raise FailureError(
            f"{url}: arrived with SHA-256 {found[:12]}…, expected {sha256[:12]}…; it was thrown away. The file was "
            "changed or the server holds another: take it from elsewhere with --from."
        )
    with _disk(target):
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        known.unlink(missing_ok=True)
    return found


def bytes_of_part(target: Path) -> int:
    """How many bytes of a broken-off download are there already."""
    part = _part(target)
    return part.stat().st_size if part.is_file() else 0


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _part_record(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _forget(target: Path) -> None:
    _part(target).unlink(missing_ok=True)
    _part_record(target).unlink(missing_ok=True)


def _fetch(url: str, target: Path, size: int | None, checked: bool, quiet: bool) -> None:
    """Bring the .part file to its full length, in as many attempts as bring something.

    Args:
        checked: whether a checksum will tell if beginning and rest belong together.
    """
    failed, wait = 0, FIRST_WAIT
    beginning = furthest = bytes_of_part(target)
    title = f"fetching {target.name}" + (f" from {beginning // MB:,} MB on" if beginning >= MB else "")
    total = None if size is None else max(size // MB - beginning // MB, 0)
    with progress(title, total, "MB", quiet) as bar:
        while True:
            try:
                return _attempt(url, target, size, checked, bar)
            except _DroppedError as error:
                if isinstance(error, _BeyondError):
                    _forget(target)
                reached = bytes_of_part(target)
                failed, wait = (0, FIRST_WAIT) if reached > furthest else (failed + 1, wait)
                furthest = max(furthest, reached)
                if failed >= ATTEMPTS:
                    raise FailureError(
                        f"{url}: could not be fetched ({error}); {reached:,} bytes are kept: the same "
                        "command goes on from there."
                    ) from error
                log(f"{target.name}: {error}; trying again in {wait:.0f} s", quiet)
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)


def _attempt(url: str, target: Path, size: int | None, checked: bool, bar: Progress) -> None:
    """One request for what is missing.

    Raises:
        _DroppedError: it ended early, or the server is busy.
        FailureError: trying again would not help.
    """
    part = _part(target)
    start = bytes_of_part(target)
    if size is not None and start == size:
        return
    record = _read_record(target)
    if record is None or record.url != url or not record.validator:
        if not checked:  # nothing would tell whether the rest belongs to this beginning
            start = 0
        record = _Beginning(url, "")
    if size is not None and start > size:
        start = 0
    with _response(url, start, record.validator) as response:
        offset, whole = _extent(response, url)
        if response.status == 200:
            start = 0
        elif offset != start:
            raise FailureError(
                f"{url}: the server sent bytes from {offset:,} on, asked for {start:,}; use another one."
            )
        if size is not None and whole is not None and whole != size:
            raise FailureError(
                f"{url}: has {whole:,} bytes, expected {size:,}; the file was changed or the server holds another: "
                "take it from elsewhere with --from."
            )
        expected = size if size is not None else whole
        if expected is None:
            raise FailureError(f"{url}: the server does not say how long the file is; take it from elsewhere.")
        with _disk(target):
            if start == 0:
                _forget(target)
            _write_record(target, _Beginning(url, _validator(response) or (record.validator if start else "")))
            with part.open("ab" if start else "wb") as file:
                _copy(response, file, start, expected, bar)


def _copy(response: http.client.HTTPResponse, file: BinaryIO, start: int, expected: int, bar: Progress) -> None:
    done = start
    while done < expected:
        try:
            block = response.read(min(BLOCK, expected - done))
        except (OSError, http.client.HTTPException) as error:
            raise _DroppedError(f"the connection broke ({reason_of(error)})") from error
        if not block:
            raise _DroppedError(f"the connection ended after {done:,} of {expected:,} bytes")
        file.write(block)
        bar.advance((done + len(block)) // MB - done // MB)
        done += len(block)


@contextlib.contextmanager
def _response(url: str, start: int, validator: str) -> Iterator[http.client.HTTPResponse]:
    headers = {"User-Agent": "mlzsl-fetch", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            raise _BeyondError("the server's file is shorter than what was there") from error
        if error.code in LATER:
            raise _DroppedError(f"the server answers {error.code} {error.reason}") from error
        raise FailureError(
            f"{url}: the server answers {error.code} {error.reason}; it may have moved: look for it elsewhere and "
            "name the folder that has it with --from."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(f"no connection ({reason_of(error)})") from error
    except ValueError as error:
        raise FailureError(f"{url}: is no address that can be fetched ({reason_of(error)}).") from error
    with response:
        yield response


def _extent(response: http.client.HTTPResponse, url: str) -> tuple[int, int | None]:
    """Where the answer begins, and how long the whole file is if the server says so."""
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status != 206 or found is None:
        raise FailureError(f"{url}: the server answers {response.status} without saying which part it sends.")
    return int(found[1]), int(found[2]) if found[2] != "*" else None


def _validator(response: http.client.HTTPResponse) -> str:
    """What If-Range may be asked with: a strong ETag or a date (RFC 9110, section 13.1.5)."""
    etag: str = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _read_record(target: Path) -> _Beginning | None:
    try:
        content = json.loads(_part_record(target).read_bytes())
        return _Beginning(str(content["url"]), str(content["validator"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # an unreadable record is none: without one, only a known checksum lets a beginning be used


def _write_record(target: Path, record: _Beginning) -> None:
    with written_atomically(_part_record(target)) as temporary:
        temporary.write_text(json.dumps({"url": record.url, "validator": record.validator}), encoding="utf-8")


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FailureError(
            f"{_part(target)}: could not be written ({reason_of(error)}); free space or choose another folder with "
            "--into. The same command goes on from what is there."
        ) from error

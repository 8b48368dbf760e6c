"""A file over HTTP: resumed after an interruption, retried when the connection fails, checked, written whole.

During the download it is NAME.part; NAME.part.json holds the URL and the version that the bytes are of.

This is our own code on urllib because no library at hand resumes: pooch (1.9) only checks, and the retries of urllib3
repeat a request but do not continue a body that broke off.
"""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

import msgspec

from mlzsl.cli.errors import FailureError, reason_of
from mlzsl.cli.outputs import sha256_of_file, written_atomically
from mlzsl.cli.progress import Progress, log, progress

ATTEMPTS = 6  # in a row without a new byte
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before the next attempt, doubled each time
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 2**18
MB = 10**6
TRANSIENT_STATUSES = {408, 425, 429, 500, 502, 503, 504}


class _TransientError(Exception):
    """The transfer ended early; another attempt may get the rest."""


class _Version(msgspec.Struct):
    """The version of a file that the bytes of a .part file are of.

    Attributes:
        url: where they come from.
        validator: a strong ETag, a Last-Modified date, or "" if the server sent neither.
    """

    url: str
    validator: str


def download(url: str, target: Path, size: int | None, sha256: str | None, quiet: bool = False) -> str:
    """Download `url` to `target`; a `target`.part of an earlier attempt is continued.

    Args:
        url: http or https.
        target: written when all bytes have arrived and are checked; its folder exists.
        size: expected number of bytes, or None.
        sha256: expected SHA-256 in hexadecimal digits, or None.
        quiet: show no progress.

    Returns:
        The SHA-256 of the file.

    Raises:
        FailureError: the server lacks the file or has another one, cannot be reached after several attempts, or the
            disk is full. An existing file at `target` is unchanged.
    """
    part, resumed = _part(target), bytes_of_part(target) > 0
    try:
        _fetch(url, target, size, sha256 is not None, quiet)
        log(f"checking {target.name}", quiet)
        found = sha256_of_file(part)
        if sha256 is not None and found != sha256:
            _discard(target)
            if resumed:
                log(f"{target.name}: the part from an earlier attempt does not fit; downloading it again", quiet)
                return download(url, target, size, sha256, quiet)
            raise FailureError(
                f"{url}: arrived with SHA-256 {found[:12]}…, expected {sha256[:12]}…; it was discarded. The file has "
                "changed or the server holds another: download from elsewhere with --from."
            )
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        _version_file(target).unlink(missing_ok=True)
    except OSError as error:  # those of the connection are _TransientError
        raise FailureError(
            f"{part}: could not be written ({reason_of(error)}); free space or choose another folder with --into. The "
            "same command continues from there."
        ) from error
    return found


def bytes_of_part(target: Path) -> int:
    """The number of bytes of an interrupted download."""
    return _part(target).stat().st_size if _part(target).is_file() else 0


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _version_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")


def _discard(target: Path) -> None:
    _part(target).unlink(missing_ok=True)
    _version_file(target).unlink(missing_ok=True)


def _fetch(url: str, target: Path, size: int | None, checked: bool, quiet: bool) -> None:
    """Complete the .part file; `checked` says whether a checksum will detect parts of different versions."""
    failures, start = 0, bytes_of_part(target)
    furthest, total = start, None if size is None else max(size // MB - start // MB, 0)
    title = f"downloading {target.name}" + (f" from {start // MB:,} MB on" if start >= MB else "")
    with progress(title, total, "MB", quiet) as bar:
        while True:
            try:
                return _fetch_rest(url, target, size, checked, bar)
            except _TransientError as error:
                reached = bytes_of_part(target)
                failures = 0 if reached > furthest else failures + 1
                furthest, wait = max(furthest, reached), min(FIRST_WAIT * 2**failures, LONGEST_WAIT)
                if failures >= ATTEMPTS:
                    raise FailureError(
                        f"{url}: could not be downloaded ({error}); {reached:,} bytes are kept: the same command "
                        "continues from there."
                    ) from error
                log(f"{target.name}: {error}; trying again in {wait:.0f} s", quiet)
                time.sleep(wait)


def _fetch_rest(url: str, target: Path, size: int | None, checked: bool, bar: Progress) -> None:
    """Request the missing bytes once.

    Raises:
        _TransientError: the transfer ended early, or the server is busy.
        FailureError: another attempt would not help.
    """
    start, validator = bytes_of_part(target), _read_validator(target, url)
    if start == size:
        return
    if (not validator and not checked) or (size is not None and start > size):
        start = 0  # nothing would detect that the rest is of another version
    headers = {"User-Agent": "mlzsl-fetch", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": validator} if validator else {})
    with _open(url, headers, target) as response:
        if response.status == 200:
            start, length = 0, response.headers.get("Content-Length", "")
        else:
            given = response.headers.get("Content-Range", "")
            if response.status != 206 or not (found := re.fullmatch(rf"bytes {start}-\d+/(\d+|\*)", given)):
                raise FailureError(
                    f"{url}: the server answers {response.status} with the range {given!r} to a request for the bytes "
                    f"from {start:,} on; download from elsewhere with --from."
                )
            length = found[1]
        total = int(length) if length.isdecimal() else size
        if total is None:
            raise FailureError(f"{url}: the server sends no length; download from elsewhere with --from.")
        if size not in (None, total):
            raise FailureError(
                f"{url}: has {total:,} bytes, expected {size:,}; the file has changed or the server holds another: "
                "download from elsewhere with --from."
            )
        if start == 0:
            _discard(target)
        etag = response.headers.get("ETag", "")  # If-Range takes a strong one or a date (RFC 9110, section 13.1.5)
        sent = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        with written_atomically(_version_file(target)) as temporary:
            temporary.write_bytes(msgspec.json.encode(_Version(url, sent or (validator if start else ""))))
        with _part(target).open("ab" if start else "wb") as file:
            _copy(response, file, start, total, bar)


def _copy(response: http.client.HTTPResponse, file: BinaryIO, done: int, total: int, bar: Progress) -> None:
    while done < total:
        try:
            block = response.read(min(BLOCK, total - done))
        except (OSError, http.client.HTTPException) as error:
            raise _TransientError(f"the connection failed ({reason_of(error)})") from error
        if not block:
            raise _TransientError(f"the connection ended after {done:,} of {total:,} bytes")
        file.write(block)
        bar.advance((done + len(block)) // MB - done // MB)
        done += len(block)


def _open(url: str, headers: dict[str, str], target: Path) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code == 416 and "Range" in headers:
            _discard(target)
            raise _TransientError("the server's file is shorter than the part of it from before") from error
        if error.code in TRANSIENT_STATUSES:
            raise _TransientError(f"the server answers {error.code} {error.reason}") from error
        raise FailureError(
            f"{url}: the server answers {error.code} {error.reason}; the file may have moved: download it from "
            "elsewhere with --from."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"no connection ({reason_of(error)})") from error
    except ValueError as error:
        raise FailureError(f"{url}: is not a URL that can be downloaded ({reason_of(error)}).") from error
    return response


def _read_validator(target: Path, url: str) -> str:
    """The validator of the .part file if it is of `url`; "" without a readable version file."""
    try:
        version = msgspec.json.decode(_version_file(target).read_bytes(), type=_Version)
    except (OSError, ValueError):
        return ""
    return version.validator if version.url == url else ""

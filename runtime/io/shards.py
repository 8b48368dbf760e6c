"""Photos in tar shards (WebDataset's layout, or any other), read as a stream without unpacking to disk.

Shards are untrusted input, so reads are bounded: headers by `MAX_READ`, members by `imaging.decoding.MAX_BYTES`, and
no list of members is kept.
"""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

from mlzsl.cli.errors import reason_of
from mlzsl.imaging import is_image_name
from mlzsl.imaging.decoding import MAX_BYTES
from mlzsl.imaging.finding import shown_suffix
from mlzsl.imaging.transient import transient_error
from mlzsl.runtime.tags import Photo

OPENERS: dict[str, Callable[[str], Any]] = {
    ".tar": io.FileIO,
    **dict.fromkeys((".tar.gz", ".tgz"), gzip.GzipFile),
    **dict.fromkeys((".tar.bz2", ".tbz2"), bz2.BZ2File),
    **dict.fromkeys((".tar.xz", ".txz"), lzma.LZMAFile),
}
SHARDS = tuple(OPENERS)
MAX_READ = 1 << 16  # bytes; tarfile reads a header of extended names whole, whatever size it states
MAX_GLOBAL_HEADERS = 1000


def photos_in_shard(path: str, skipped: Counter[str]) -> Iterator[Photo]:
    """The images of a shard in its order, each recorded as `shard.tar/member`; other members are counted by suffix.

    A damaged or truncated shard gives the images before the damage, then the shard itself with the problem.

    Raises:
        TransientReadError: the machine failed.
    """
    images = 0
    try:
        raw = next(opener for suffix, opener in OPENERS.items() if path.lower().endswith(suffix))(path)
        with _Bounded(raw) as file, tarfile.open(fileobj=cast(IO[bytes], file), mode="r:") as shard:
            while (member := shard.next()) is not None:
                cast(Any, shard).members = []  # tarfile would keep every member
                if len(shard.pax_headers) > MAX_GLOBAL_HEADERS:
                    raise tarfile.ReadError("too many global headers")
                if member.isdir():
                    continue
                if not is_image_name(os.path.basename(member.name)):
                    skipped[shown_suffix(member.name)] += 1
                    continue
                images += 1
                yield _photo(path, shard, member)
            _check_end(file, shard.offset)
    except Exception as error:  # tarfile raises exceptions of any type for damaged bytes
        if transient := transient_error(error):
            raise transient from error
        yield Photo(path, problem=f"the archive cannot be read beyond its first {images:,} images: {reason_of(error)}")


def _photo(path: str, shard: tarfile.TarFile, member: tarfile.TarInfo) -> Photo:
    name = f"{path}/{member.name}"
    if not member.isreg():
        return Photo(name, problem="not a regular file: links inside an archive are not followed")
    if member.size > MAX_BYTES:
        return Photo(name, problem=f"the file is larger than {MAX_BYTES // 2**20} MiB")
    content = io.BytesIO()
    with cast(IO[bytes], shard.extractfile(member)) as file:
        while block := file.read(MAX_READ):
            content.write(block)
    if content.tell() != member.size:
        raise tarfile.ReadError("it is cut short within one")
    return Photo(name, content.getvalue())


def _check_end(file: io.BufferedReader, offset: int) -> None:
    """Distinguish the end of a shard from what ends tarfile's iteration too: damage, or another archive behind it."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:
        raise tarfile.ReadError("it ends without an end mark, as if cut short")
    if block.strip(b"\0"):
        raise tarfile.ReadError("a damaged header")
    while block := file.read(MAX_READ):
        if block.strip(b"\0"):
            raise tarfile.ReadError("another archive follows its end mark; split them")


class _Bounded(io.BufferedReader):
    """A file that refuses reads of more than `MAX_READ` bytes at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_READ:
            raise tarfile.ReadError("a header larger than any that makes sense")
        return super().read(size)

"""Tar shards: headers with right checksums and odd fields, members moved, archives compressed and joined."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from fuzz.harness import FaultError, Parser, check_sentence, expect
from fuzz.mutations import SIZES, TEXTS, mutate_bytes

from mlzsl.imaging import is_image_name
from mlzsl.runtime.io.shards import photos_in_shard
from mlzsl.runtime.tags import Photo

BLOCK = tarfile.BLOCKSIZE
COMPRESSIONS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".tar": (bytes, bytes),
    ".tar.gz": (lambda content: gzip.compress(content, 1, mtime=0), gzip.decompress),
    ".tar.bz2": (bz2.compress, bz2.decompress),
    ".tar.xz": (lambda content: lzma.compress(content, preset=0), lzma.decompress),
}
FIELDS = ((0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
KINDS = b"0\x0017123456LKxgSDVA\xff"


def archive(form: int, count: int = 5) -> bytes:
    """Photos with their texts, as WebDataset stores them, a folder, a long name and a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as shard:
        for number in range(count):
            for name, content in ((f"{number:04}.jpg", b"x" * (300 * number)), (f"{number:04}.txt", b"a dog")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
        folder, link, long = (
            tarfile.TarInfo("more"),
            tarfile.TarInfo("l.jpg"),
            tarfile.TarInfo(f"{45 * 'é'}/{45 * 'é'}.png"),
        )
        folder.type, link.type, link.linkname, long.size = tarfile.DIRTYPE, tarfile.SYMTYPE, "0001.jpg", 3
        shard.addfile(folder)
        shard.addfile(link)
        shard.addfile(long, io.BytesIO(b"abc"))
    return stream.getvalue()


def archives() -> list[bytes]:
    return [archive(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


def mutate_archive(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    if random.random() < 0.3:
        return mutate_bytes(random, content, others, start=random.choice((0, BLOCK)))
    blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    headers = [number for number, block in enumerate(blocks) if block[257:262] == b"ustar"]
    for _ in range(random.choice((1, 1, 2, 3))):
        number = random.choice(headers)
        at, length = random.choice(FIELDS)
        block = bytearray(blocks[number].ljust(BLOCK, b"\0"))
        match random.randrange(7):
            case 0:
                block[156] = random.choice(KINDS)
            case 1:
                block[124:136] = b"%011o\0" % random.choice((*SIZES, 511, 512, 513, 2**33 - 1))
            case 2:
                block[124:136] = random.choice((b"\x80", b"\xff")) + random.randbytes(11)  # a number in base 256
            case 3:
                text = random.choice((*TEXTS, "a.jpg", "b/c.png")).encode("utf-8", "surrogatepass")
                block[at : at + length] = text[:length].ljust(length, b"\0")
            case 4:
                block[at : at + length] = mutate_bytes(random, bytes(block[at : at + length]))[:length].ljust(
                    length, b"\0"
                )
            case 5:
                blocks.insert(random.choice(headers), bytes(block))
            case _:
                del blocks[random.randrange(len(blocks))]
                headers = [number for number, each in enumerate(blocks) if each[257:262] == b"ustar"]
                if not headers:
                    break
                continue
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        blocks[min(number, len(blocks) - 1)] = bytes(block)
    content = b"".join(blocks)
    return content + random.choice(others) if random.random() < 0.05 else content


def parse(path: Path) -> tuple[list[Photo], Counter[str]]:
    skipped: Counter[str] = Counter()
    return list(photos_in_shard(str(path), skipped)), skipped


def past_header(content: bytes, result: tuple[list[Photo], Counter[str]], error: Exception | None) -> bool:
    photos, skipped = result
    return len(photos) > 1 or bool(skipped) or photos[0].content is not None


def check(content: bytes, result: tuple[list[Photo], Counter[str]], suffix: str) -> None:
    """Photos, refused and skipped members are those that tarfile lists, all of them or up to the problem."""
    photos, skipped = result
    shard = f"input{suffix}"
    for photo in photos:
        if photo.problem is not None:
            check_sentence(photo.problem)
        elif photo.content is None:
            raise FaultError(f"{photo.path!r} has neither content nor problem")
    broken = photos and photos[-1].path.endswith(shard)
    found = [photo for photo in photos if not photo.path.endswith(shard)]
    expect(len(photos) - len(found), int(bool(broken)), "problems of the shard")
    try:
        with tarfile.open(fileobj=io.BytesIO(COMPRESSIONS[suffix][1](content)), mode="r:") as reference:
            members = [member for member in reference.getmembers() if not member.isdir()]
            expected = [member for member in members if is_image_name(member.name)]
            if not broken:
                expect(
                    (len(found), skipped.total()), (len(expected), len(members) - len(expected)), "photos and others"
                )
            for photo, member in zip(found, expected, strict=False):
                expect(photo.path.endswith(f"{shard}/{member.name}"), True, f"{photo.path!r} is {member.name!r}")
                if photo.content is not None:
                    file = reference.extractfile(member)
                    expect(photo.content, file and file.read(), photo.path)
    except FaultError:
        raise
    except Exception as error:  # the reference reads no archive that is damaged
        if not broken:
            raise FaultError(f"read without a problem, but tarfile says {error!r}") from error


def shards(suffix: str) -> Parser:
    compress, decompress = COMPRESSIONS[suffix]

    def mutate(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
        if suffix != ".tar" and random.random() < 0.3:
            return mutate_bytes(random, content, others, start=random.choice((0, 16, 300)))
        return compress(mutate_archive(random, decompress(content), [decompress(other) for other in others]))

    return Parser(
        "shards" + suffix.removeprefix(".tar").replace(".", "-"),
        suffix,
        "its first member is listed",
        lambda: [compress(content) for content in archives()],
        mutate,
        parse,
        past_header,
        lambda content, result: check(content, result, suffix),
    )


SHARDS = [shards(suffix) for suffix in COMPRESSIONS]

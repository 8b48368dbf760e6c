"""A folder of odd and broken photos: each is tagged or has an error, and none is lost."""

import io
import json
import os
import re
import socket
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from oddimages import REFUSED_OF_KIT
from PIL import Image

from mlzsl.imaging.decoding import MAX_PIXELS, ORIENTATION
from mlzsl.runtime import Tagger
from mlzsl.runtime.io.tag_files import read_tags
from mlzsl.runtime.tagging.cli import main

# pytest shows warnings whatever filters a module sets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


def encoded(image: Image.Image = IMAGE, image_format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(exif=exif)


def frames(image_format: str) -> bytes:
    return encoded(IMAGE, image_format, save_all=True, append_images=[IMAGE.rotate(90), IMAGE.rotate(180)])


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header states this size, with almost no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def jpeg_that_claims(width: int, height: int, progressive: bool = False) -> bytes:
    content = bytearray(encoded(progressive=progressive))
    index = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[index + 5 : index + 9] = struct.pack(">HH", height, width)
    return bytes(content)


JPEG, PNG = encoded(), encoded(image_format="PNG")
TAGGED = {
    **{f"turned {orientation}.jpg": turned(orientation) for orientation in (0, 1, 3, 6, 8, 9, 65535)},
    **{f"{mode}.png": encoded(IMAGE.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGBA")},
    **{f"{mode}.tif": encoded(IMAGE.convert(mode), "TIFF") for mode in ("CMYK", "YCbCr", "F", "I")},
    "cmyk.jpg": encoded(IMAGE.convert("CMYK")),
    "gray.jpg": encoded(IMAGE.convert("L")),
    "16 bit.png": encoded(Image.fromarray(np.arange(4800, dtype=np.uint16).reshape(60, 80) * 13), "PNG"),
    "progressive.jpg": encoded(progressive=True),
    "restart marks.jpg": encoded(restart_marker_blocks=1),
    **{f"animated.{kind}": frames(kind) for kind in ("gif", "webp", "png", "tiff")},
    "one pixel.png": encoded(Image.new("RGB", (1, 1)), "PNG"),
    "wide.png": encoded(Image.new("L", (20_000, 1)), "PNG"),
    "tall.jpg": encoded(Image.new("L", (1, 20_000))),
    "a png.jpg": PNG,
    "a jpeg.png": JPEG,
    "a webp.GIF": encoded(image_format="WEBP"),
    "more after its end.jpg": JPEG + b"more" * 1000,
    "damaged exif.jpg": encoded(exif=b"Exif\0\0MM\0*\0\0\xff\xff"),
    "with an icc profile of nonsense.jpg": encoded(icc_profile=b"nonsense" * 9),
    "line\nend.jpg": JPEG,
    "tab\t\"quotes\" 'both', comma; \\.jpg": JPEG,
    " leading and trailing .jpg": JPEG,
    "-o.jpg": JPEG,
    "*?[a].jpg": JPEG,
    "\x1b[31mred\x1b[0m.jpg": JPEG,
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj.jpg": JPEG,
    "naïve 写真 🐕.jpg": JPEG,
    os.fsdecode(b"caf\xe9 \xff.jpg"): JPEG,
    "n" * 251 + ".jpg": JPEG,
}
REFUSED = {
    "empty.jpg": (b"", "the file is empty"),
    "one byte.jpg": (b"\xff", "not an image"),
    "marker.jpg": (b"\xff\xd8\xff", "not an image"),
    "text.jpg": (b"not an image", "not an image"),
    "zeros.png": (bytes(5000), "not an image"),
    "svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>", "not an image"),
    "pdf.jpg": (b"%PDF-1.7\n", "not an image"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "video.jpg": (b"\0\0\0\x18ftypmp42" + bytes(64), "a video"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "damaged: .*truncated"),
    "half progressive.jpg": (encoded(progressive=True)[:2500], "damaged: .*truncated"),
    "half.png": (PNG[: len(PNG) // 2], "damaged"),
    "half.webp": (encoded(image_format="WEBP")[:400], "damaged|not an image"),
    "half.gif": (encoded(image_format="GIF")[:2000], "damaged"),
    "claims too much.png": (png_that_claims(100_000, 100_000), "pixels"),
    "claims too much.jpg": (jpeg_that_claims(16_000, 12_000, progressive=True) + bytes(400_000), "pixels; the limit"),
    "claims more than it has.jpg": (jpeg_that_claims(65_500, 65_500), "damaged: its header states more"),
    "bomb.png": (encoded(Image.new("1", (MAX_PIXELS // 10_000 + 1, 10_000)), "PNG"), "pixels"),
    "claims more than it has.png": (png_that_claims(4000, 4000), "damaged"),
}


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_model):
    """A folder with model.onnx and odd/, which has all of the above and files of other kinds named like photos."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(tiny_model.path)
    odd = tmp_path / "odd"
    odd.mkdir()
    for name, content in (TAGGED | {name: content for name, (content, _) in REFUSED.items()}).items():
        (odd / name).write_bytes(content)
    return tmp_path


def outcomes(*arguments: str) -> dict[str, str | None]:
    """The error of each photo, None for tagged ones; each must appear once."""
    result = CliRunner().invoke(main, [*arguments, "--quiet"])
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    records = [json.loads(line) for line in Path("tags.jsonl").read_bytes().splitlines()]
    assert all(("tags" in record) != ("error" in record) for record in records)
    found = {record["path"]: record.get("error") for record in records}
    assert len(found) == len(records)
    return found


def test_each_photo_is_tagged_or_has_an_error(here, capfd):
    found = outcomes("odd", "--batch-size", "3")
    assert set(found) == {f"odd/{name}" for name in (*TAGGED, *REFUSED)}
    for name in TAGGED:
        assert found[f"odd/{name}"] is None, name
    for name, (_, reason) in REFUSED.items():
        assert re.search(reason, found[f"odd/{name}"] or ""), (name, found[f"odd/{name}"])
    assert capfd.readouterr() == ("", "")


def test_every_photo_gets_the_tags_that_it_gets_alone(here):
    """No photo gets the tags of another, whatever its neighbours."""
    names = [f"odd/{name}" for name in TAGGED]
    with Tagger.open("model.onnx", threads=2, batch_size=4) as tagger:
        together = {photo.path: photo for photo in tagger.tag(sorted(str(path) for path in Path("odd").iterdir()))}
        for name in names:
            (alone,) = tagger.tag([name])
            assert [tag.label for tag in alone.tags] == [tag.label for tag in together[name].tags], name
            scores = [tag.score for tag in together[name].tags]
            assert [tag.score for tag in alone.tags] == pytest.approx(scores, abs=3e-6), name


@pytest.mark.skipif(os.name != "posix", reason="kinds of files that POSIX has")
def test_things_named_like_photos_that_are_not_files(here):
    odd = here / "kinds"
    odd.mkdir()
    (odd / "good.jpg").write_bytes(JPEG)
    (odd / "folder.jpg").mkdir()
    (odd / "folder.jpg/inside.jpg").write_bytes(JPEG)
    (odd / "same.jpg").symlink_to("good.jpg")  # found as good.jpg
    (here / "elsewhere.jpg").write_bytes(JPEG)
    (odd / "link.jpg").symlink_to("../elsewhere.jpg")
    (odd / "dangling.jpg").symlink_to("nowhere.jpg")
    (odd / "loop.jpg").symlink_to("loop.jpg")
    (odd / "endless.jpg").symlink_to("/dev/zero")
    os.mkfifo(odd / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("kinds/socket.jpg")
        found = outcomes("kinds")
    expected = {
        "good.jpg": None,
        "folder.jpg/inside.jpg": None,
        "link.jpg": None,
        "dangling.jpg": "No such file or directory",
        "loop.jpg": "Too many levels of symbolic links",
        "endless.jpg": "not a regular file",
        "pipe.jpg": "not a regular file",
        "socket.jpg": "not a regular file",
    }
    assert found == {f"kinds/{name}": reason for name, reason in expected.items()}


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions")
def test_a_photo_without_read_permission_has_an_error(tiny_model):
    with tempfile.TemporaryDirectory() as folder, Tagger.open(tiny_model.path, threads=1) as tagger:
        os.chmod(folder, 0o755)
        for name in ("a.jpg", "b.jpg"):
            Path(folder, name).write_bytes(JPEG)
        os.chmod(Path(folder, "a.jpg"), 0)
        root = os.geteuid() == 0
        if root:  # who may read everything
            os.seteuid(65534)
        try:
            found = [photo.error for photo in tagger.tag(folder)]
        finally:
            if root:
                os.seteuid(0)
    assert found == ["Permission denied", None]


@pytest.mark.kit
def test_the_odd_photos_of_the_kit(kit, here):
    files = sorted(str(path) for path in (kit / "odd_images").iterdir() if path.suffix != ".md")
    found = outcomes(*files)
    assert list(found) == files
    assert {os.path.basename(path) for path, reason in found.items() if reason is not None} == REFUSED_OF_KIT
    assert len(files) - len(REFUSED_OF_KIT) == 68


@pytest.mark.parametrize("output", ["tags.jsonl", "tags.csv", "tags.parquet"])
def test_a_photo_that_is_cut_is_tagged_with_a_note_that_the_summary_counts(tmp_path, monkeypatch, tiny_model, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(encoded()[:-2])
    (tmp_path / "whole.jpg").write_bytes(encoded())
    result = CliRunner().invoke(main, ["cut.jpg", "whole.jpg", "--engine", str(tiny_model.path), "-o", output])
    assert result.exit_code == 0
    note = "the file is cut: a JPEG without its end marker"
    assert f"1 photo tagged with a note (first: cut.jpg: {note})" in result.stdout
    cut, whole = read_tags(tmp_path / output, [])
    assert (cut.note, whole.note) == (note, None)
    assert [tag.label for tag in cut.tags] == [tag.label for tag in whole.tags]
    assert json.loads((tmp_path / f"{output}.run.json").read_text())["photos"]["with_note"] == 1

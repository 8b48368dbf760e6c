"""The gallery as a file: its content, whatever the photos, names and sizes. The page itself is tested in a browser, in
test_in_a_browser.py."""

import base64
import hashlib
import io
import json
import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet
from tinymodel import random_images, write_tiny_model

from mlzsl.cli.errors import UsageError
from mlzsl.imaging import TransientReadError, UnreadableImage
from mlzsl.runtime.gallery import page as gallery
from mlzsl.runtime.gallery import thumbnails
from mlzsl.runtime.gallery.cli import main as gallery_command
from mlzsl.runtime.gallery.page import THUMBNAIL_BYTES, THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH, write_gallery
from mlzsl.runtime.gallery.thumbnails import thumbnail_jpeg
from mlzsl.runtime.io import members
from mlzsl.runtime.tagging.cli import main as infer


def run(command, *arguments: str):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def blocks(page: Path, kind: str) -> list:
    """The data blocks of one class in a page."""
    found = re.findall(f'<script type="application/json" class="{kind}">(.*?)</script>', page.read_text())
    return [json.loads(block) for block in found]


def entries(page: Path, kind: str) -> list:
    return [entry for block in blocks(page, kind) for entry in block]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with model.onnx and images/ that holds five good photos and a broken one, c.jpg."""
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "model.onnx")
    (tmp_path / "images").mkdir()
    for name, image in zip("abdef", random_images(5), strict=True):
        Image.fromarray(image).save(tmp_path / f"images/{name}.png")
    (tmp_path / "images/c.jpg").write_bytes(b"\xff\xd8\xff")
    return tmp_path


def tags_file(path: Path, photos: list[dict]) -> Path:
    path.write_text("".join(json.dumps(photo) + "\n" for photo in photos))
    return path


@pytest.mark.parametrize("output", ["tags.jsonl", "tags.csv", "tags.parquet"])
def test_every_photo_is_on_the_page_with_its_tags(here, output):
    result = run(infer, "images", "--output", output, "--report", "gallery.html", "--top-k", "5")
    assert result.exit_code == 0, result.output
    assert "and gallery.html" in result.stdout
    (about,) = blocks(here / "gallery.html", "about")
    assert about["counts"] == {"photos": 5, "unreadable": 1, "photos_shown": 5, "unreadable_shown": 1}
    assert [photo[0] for photo in entries(here / "gallery.html", "photos")] == [f"images/{x}.png" for x in "abdef"]
    ((name, reason),) = entries(here / "gallery.html", "unreadable")
    assert name == "images/c.jpg"
    assert reason
    assert dict(about["labels"])["zebra"] is False
    assert dict(about["labels"])["dog"] is True
    run(infer, "images", "--output", "again.jsonl", "--top-k", "5")
    for line, (_, _, thumbnail, missing, pairs) in zip(
        [line for line in map(json.loads, Path("again.jsonl").read_text().splitlines()) if "tags" in line],
        entries(here / "gallery.html", "photos"),
        strict=True,
    ):
        assert thumbnail
        assert not missing
        shown = [(about["labels"][index][0], score) for index, score in zip(pairs[::2], pairs[1::2], strict=True)]
        assert shown == [(tag["label"], pytest.approx(tag["score"], abs=1e-4)) for tag in line["tags"]]


def test_photos_of_shards_have_their_thumbnails(here):
    for name in ("one.tar", "two.tar"):
        with tarfile.open(name, "w") as shard:
            for member in "fab":  # not in their alphabetical order
                shard.add(f"images/{member}.png", f"{member}.png")
    assert run(infer, "one.tar", "two.tar", "images/d.png", "--report", "shards.html").exit_code == 0
    assert run(infer, "images", "--report", "files.html").exit_code == 0
    of_files = {Path(name).name: thumbnail for name, _, thumbnail, *_ in entries(here / "files.html", "photos")}
    shown = {name: thumbnail for name, _, thumbnail, *_ in entries(here / "shards.html", "photos")}
    assert list(shown) == [f"{shard}.tar/{x}.png" for shard in ("one", "two") for x in "fab"] + ["images/d.png"]
    for name, thumbnail in shown.items():
        assert thumbnail == of_files[Path(name).name]
    links = {name: link for name, link, *_ in entries(here / "shards.html", "photos")}
    assert {name for name, link in links.items() if not link} == set(shown) - {"images/d.png"}


@pytest.mark.parametrize("struct", [True, False])
def test_photos_in_parquet_have_their_thumbnails(here, struct):
    contents = [(here / f"images/{letter}.png").read_bytes() for letter in "abdef"]
    images = [{"bytes": content, "path": f"{n}.png"} for n, content in enumerate(contents)] if struct else contents
    table = pyarrow.table({"mask": [contents[0]] * 5, "image": images})
    parquet.write_table(table, "photos.parquet")
    result = run(infer, "photos.parquet", "--path-column", "image", "--report", "gallery.html", "--picture", "a.png")
    assert result.exit_code == 0, result.output
    assert run(infer, "images", "--report", "files.html", "-o", "files.jsonl").exit_code == 0
    expected = [thumbnail for _, _, thumbnail, *_ in entries(here / "files.html", "photos")]
    shown = entries(here / "gallery.html", "photos")
    assert [thumbnail for _, _, thumbnail, *_ in shown] == expected
    assert [link for _, link, *_ in shown] == [""] * 5


def test_a_folder_named_like_a_shard_has_links(here):
    (here / "images").rename("images.tar")
    assert run(infer, "images.tar", "--report", "gallery.html").exit_code == 0
    assert entries(here / "gallery.html", "photos")[0][1] == "./images.tar/a.png"


def test_the_page_shows_the_record_of_the_run(here):
    assert run(infer, "images", "--report", "gallery.html", "--top-k", "2").exit_code == 0
    run_of = blocks(here / "gallery.html", "about")[0]["run"]
    assert run_of["certificate"] is None
    assert run_of["execution"]["backend"] == "openvino"
    assert run_of["rule"] == "the best 2 labels"
    assert (run_of["labels"], run_of["unseen"]) == (6, 2)


def test_a_page_written_later_is_the_same(here):
    assert run(infer, "images", "--report", "gallery.html").exit_code == 0
    result = run(gallery_command, "--output", "later.html", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["photos_shown"] == 5
    assert (here / "later.html").read_bytes() == (here / "gallery.html").read_bytes()


def test_a_missing_photo_stays_on_the_page_with_its_error(here):
    assert run(infer, "images").exit_code == 0
    (here / "images/b.png").unlink()
    write_gallery("tags.jsonl", "gallery.html", quiet=True)
    photos = entries(here / "gallery.html", "photos")
    assert [bool(photo[2]) for photo in photos] == [True, False, True, True, True]
    assert photos[1][3] == "No such file or directory"


def test_links_are_relative_to_the_page(here):
    assert run(infer, "images").exit_code == 0
    write_gallery("tags.jsonl", "pages/deep/gallery.html", quiet=True)
    assert entries(here / "pages/deep/gallery.html", "photos")[0][1] == "./../../images/a.png"


@pytest.mark.parametrize("name", ["javascript:alert(1)", "//host/a.png", "a b#c?d%41.png", "\udcff.png"])
def test_no_name_makes_a_link_that_leaves_the_disk(tmp_path, name):
    tags = tags_file(tmp_path / "tags.jsonl", [{"path": name, "tags": []}])
    write_gallery(tags, tmp_path / "gallery.html", quiet=True)
    link = entries(tmp_path / "gallery.html", "photos")[0][1]
    assert re.fullmatch(r"\./[A-Za-z0-9%./_~-]+", link)


def test_no_name_can_end_a_block_or_reorder_the_text(tmp_path):
    hostile = "</script><script>alert(1)</script><!-- \u2028\u2029 \u202egnp.\u2066 ' \" & \x00\x1b[2J \udcff é 猫"
    photos = [
        {"path": hostile, "tags": [{"label": hostile, "score": 0.5, "seen": False}]},
        {"path": hostile, "error": hostile},
    ]
    write_gallery(tags_file(tmp_path / "tags.jsonl", photos), tmp_path / "gallery.html", quiet=True)
    text = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    start = text.index('<script type="application/json"')
    assert text[start:].count("<script") == 4  # three blocks and the page's own
    assert "alert" not in re.sub(r'<script type="application/json".*?</script>', "", text)
    name, _, _, _, _ = entries(tmp_path / "gallery.html", "photos")[0]
    assert name.startswith(
        "</script><script>alert(1)</script><!-- \\u2028\\u2029 \\u202egnp.\\u2066 ' \" & \\x00\\x1b[2J"
    )
    assert name.endswith("\\udcff é 猫")
    assert blocks(tmp_path / "gallery.html", "about")[0]["labels"][0][0] == name
    assert entries(tmp_path / "gallery.html", "unreadable") == [[name, name]]


def test_thumbnails_stay_small_whatever_the_photo(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.new("RGB", (3000, 2)).save(tmp_path / "thread.png")
    for name, size in (("noise", (THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT)), ("thread", (THUMBNAIL_WIDTH, 1))):
        encoded = thumbnail_jpeg(str(tmp_path / f"{name}.png"), THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT, THUMBNAIL_BYTES)
        assert len(encoded) <= THUMBNAIL_BYTES
        with Image.open(io.BytesIO(encoded)) as image:
            assert image.size == size
    tiny = thumbnail_jpeg(str(tmp_path / "noise.png"), THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT, 1000)
    assert len(tiny) <= 1000


def test_thumbnails_read_the_formats_that_tagging_reads(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.pcx")
    with pytest.raises(UnreadableImage, match="not an image of a known format"):
        thumbnail_jpeg(str(tmp_path / "a.pcx"), 20, 20, 4096)


def test_thumbnails_carry_no_metadata(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a camera of mine"
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg", exif=exif, comment=b"at home")
    assert b"a camera of mine" in (tmp_path / "a.jpg").read_bytes()
    encoded = thumbnail_jpeg(str(tmp_path / "a.jpg"), THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT, THUMBNAIL_BYTES)
    assert b"camera" not in encoded
    assert b"at home" not in encoded


def test_more_photos_than_a_page_holds_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_PHOTOS", 600)
    monkeypatch.setattr(gallery, "MAX_UNREADABLE", 300)
    photos = [{"path": f"{index}.jpg", "tags": []} for index in range(700)]
    photos += [{"path": f"{index}.jpg", "error": "gone"} for index in range(400)]
    counts = write_gallery(tags_file(tmp_path / "tags.jsonl", photos), tmp_path / "gallery.html", quiet=True)
    assert counts == gallery.GalleryCounts(700, 400, 600, 300)
    assert [photo[0] for photo in entries(tmp_path / "gallery.html", "photos")] == [f"{n}.jpg" for n in range(600)]
    assert len(entries(tmp_path / "gallery.html", "unreadable")) == 300


def test_the_policy_has_the_hashes_of_style_and_script(tmp_path):
    write_gallery(tags_file(tmp_path / "tags.jsonl", []), tmp_path / "gallery.html", quiet=True)
    text = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        (inline,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "is not JSON"),
        ("[1]", "it is [1], not an object"),
        ('{"path": 1, "tags": []}', "path is 1, not text"),
        ('{"path": "a"}', "tags is null, not a list"),
        (
            '{"path": "a", "tags": [{"label": "dog", "score": 2, "seen": true}]}',
            "tags[0].score is 2, not a number from 0 to 1",
        ),
        ('{"path": "a", "tags": [{"label": "dog", "score": NaN, "seen": true}]}', "NaN is not a number in JSON"),
        ('{"path": "a", "tags": [{"label": "dog", "score": 1}]}', "tags[0] lacks seen"),
    ],
)
def test_an_invalid_line_of_tags_is_named_and_nothing_is_written(tmp_path, line, what):
    (tmp_path / "tags.jsonl").write_text('{"path": "a.jpg", "tags": []}\n' + line + "\n")
    (tmp_path / "gallery.html").write_text("the old page")
    with pytest.raises(UsageError, match=re.escape(what)) as refused:
        write_gallery(tmp_path / "tags.jsonl", tmp_path / "gallery.html", quiet=True)
    assert "tags.jsonl: line 2: " in str(refused.value)
    assert (tmp_path / "gallery.html").read_text() == "the old page"
    assert sorted(os.listdir(tmp_path)) == ["gallery.html", "tags.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("images", "--report", "gallery.pdf"), "--report gallery.pdf: unknown suffix '.pdf'; use .html or .htm"),
        (("images", "--report", "images"), "--report images: is a folder"),
        (("images", "--report", "gallery.html", "--output", "-"), "needs a file of tags, found --output -"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_before_tagging(here, arguments, what):
    result = run(infer, *arguments)
    assert result.exit_code == 2
    assert what in result.stderr
    assert not (here / "tags.jsonl").exists()


def test_csv_without_its_record_is_refused(here):
    assert run(infer, "images", "--output", "tags.csv").exit_code == 0
    (here / "tags.csv.run.json").unlink()
    result = run(gallery_command, "tags.csv")
    assert result.exit_code == 2
    assert "CSV does not mark unseen labels" in result.stderr


@pytest.mark.parametrize("record", ["{", "[]", '{"engine": 1}', '{"engine": {"file": "m.onnx"}, "running": {}}'])
def test_an_invalid_record_is_refused(here, record):
    assert run(infer, "images").exit_code == 0
    (here / "tags.jsonl.run.json").write_text(record)
    result = run(gallery_command)
    assert result.exit_code == 2
    assert "mlzsl-gallery: error: tags.jsonl.run.json: " in result.stderr
    assert result.stderr.endswith("; move it away, or tag the photos again.\n")


@pytest.mark.parametrize("name", ["images", "photos.tar"])
def test_photos_that_the_machine_fails_to_read_fail_the_command_and_the_page_says_why(here, monkeypatch, name):
    if name == "photos.tar":
        with tarfile.open(name, "w") as shard:
            shard.add("images")
    assert run(infer, name, "--quiet").exit_code == 0
    gone = TransientReadError("Stale file handle")
    if name == "images":
        original = thumbnails.decode_photo
        monkeypatch.setattr(
            thumbnails,
            "decode_photo",
            lambda source, to: original(source, to) if source != "images/b.png" else raised(gone),
        )
    else:
        monkeypatch.setattr(members, "photos_in_shard", lambda *_: raised(gone))
    result = run(gallery_command, "--quiet")
    assert result.exit_code == 1
    failed = ["images/b.png"] if name == "images" else [f"photos.tar/images/{letter}.png" for letter in "abdef"]
    photos = "1 photo" if name == "images" else "5 photos"
    assert (
        f"gallery.html: the machine failed to read {photos} again for thumbnails (first: {failed[0]}: " in result.stderr
    )
    assert [entry[0] for entry in entries(here / "gallery.html", "photos") if entry[3] == "Stale file handle"] == failed


def raised(error: Exception):
    raise error

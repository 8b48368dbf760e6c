"""Photos as phones make them: HEIC, AVIF, Motion Photos, MPO, JPEGs that are cut at their end, and very large JPEGs."""

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlzsl.imaging import Preprocessing, UnreadableImage, decode_photo, decoding, load_image

Pixels = npt.NDArray[np.uint8]
SMALL = Preprocessing(size=32)
END = b"\xff\xd9"
VIDEO = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(range(256)) * 40


def smooth_image(height: int = 96, width: int = 128) -> Image.Image:
    """Red grows to the right, green grows downwards, blue is a wave: no two turns of it look alike."""
    y, x = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    colours = np.stack([255 * x, 255 * y, 128 + 100 * np.sin(7 * x + 3 * y)], axis=-1)
    return Image.fromarray(colours.round().astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, **options)
    return stream.getvalue()


def difference(found: Pixels, expected: Pixels) -> float:
    return float(np.abs(found.astype(int) - expected).mean())


def test_heic() -> None:
    content = heic(smooth_image(), quality=95)
    photo = decode_photo(content, SMALL)
    assert difference(photo.image, load_image(encoded(smooth_image(), "PNG"), SMALL)) < 2
    assert photo.size == (128, 96)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_heic_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    image = smooth_image()
    jpeg = encoded(image, quality=95, exif=exif)
    content = heic(image, quality=95, exif=exif.tobytes())
    found, expected = decode_photo(content, SMALL), decode_photo(jpeg, SMALL)
    assert difference(found.image, expected.image) < 3
    assert found.size == expected.size == ((96, 128) if orientation > 4 else (128, 96))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_heic_is_refused(share: float) -> None:
    content = heic(smooth_image())
    with pytest.raises(UnreadableImage):
        load_image(content[: int(len(content) * share)], SMALL)


def test_without_pillow_heif_a_heic_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = heic(smooth_image())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnreadableImage, match=r"^a HEIC photo, which needs pillow-heif: pip install 'mlzsl\[heif\]'$"):
        load_image(content, SMALL)


def test_the_first_photo_of_an_mpo_is_read() -> None:
    others = [Image.new("RGB", (128, 96)), Image.new("RGB", (64, 48), (250, 0, 0))]
    content = encoded(smooth_image(), "MPO", save_all=True, append_images=others, quality=90)
    expected = load_image(encoded(smooth_image(), quality=90), SMALL)
    assert np.array_equal(load_image(content, SMALL), expected)
    assert np.array_equal(load_image(content[:-300], SMALL), expected)  # its last photo is cut


@pytest.mark.parametrize("progressive", [False, True])
def test_the_video_of_a_motion_photo_is_ignored(progressive: bool) -> None:
    photo = encoded(smooth_image(), progressive=progressive)
    assert np.array_equal(load_image(photo + VIDEO, SMALL), load_image(photo, SMALL))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
@pytest.mark.parametrize("end", [b"", b"\xff", bytes(300)])
def test_a_jpeg_without_its_end_marker_is_read(mode: str, options: dict[str, object], end: bytes) -> None:
    content = encoded(smooth_image().convert(mode), **options)
    assert content.endswith(END)
    whole, cut = decode_photo(content, SMALL), decode_photo(content.removesuffix(END) + end, SMALL)
    assert np.array_equal(cut.image, whole.image)
    assert whole.note is None
    assert cut.note == "the file is cut: a JPEG without its end marker"


@given(cut=st.integers(3, 100_000), progressive=st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_cut_jpeg_gives_the_whole_image_or_none(cut: int, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), progressive=progressive)
    try:
        found = load_image(content[: -(cut % len(content) or 3)], SMALL)
    except UnreadableImage:
        return
    assert difference(found, load_image(content, SMALL)) < 1


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_jpeg_whose_rest_is_zeros_is_refused(progressive: bool, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), progressive=progressive)
    arrived = int(len(content) * share)
    with pytest.raises(UnreadableImage, match="damaged: "):
        load_image(content[:arrived] + bytes(len(content) - arrived), SMALL)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("quality", [5, 75])
def test_a_large_jpeg_that_is_cut_is_refused(share: float, quality: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 2000), dtype=np.uint8)
    content = encoded(Image.fromarray(noise).resize((6000, 4000)), quality=quality)
    with pytest.raises(UnreadableImage, match="truncated"):
        load_image(content[: int(len(content) * share)], SMALL)


def test_large_jpegs_are_read_at_reduced_scale_in_little_memory(tmp_path: Path) -> None:
    ramp = Image.linear_gradient("L").resize((20_000, 10_000))
    ramp.save(tmp_path / "large.jpg", quality=50)
    program = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from mlzsl.imaging import Preprocessing, load_image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
load_image(sys.argv[2], Preprocessing(224))
before = peak()
with ThreadPoolExecutor(4) as pool:
    images = list(pool.map(lambda _: load_image(sys.argv[1], Preprocessing(224)), range(8)))
print(peak() - before, *images[-1][[0, 111, 223], 100, 0])
"""
    Image.new("RGB", (300, 300)).save(tmp_path / "small.jpg")
    names = [str(tmp_path / "large.jpg"), str(tmp_path / "small.jpg")]
    run = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True)
    assert run.stderr == ""
    mebibytes, top, middle, bottom = map(int, run.stdout.split())
    assert mebibytes < 150
    assert top < 5
    assert 120 < middle < 135
    assert bottom > 250


def test_a_progressive_jpeg_holds_all_its_pixels_and_has_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10_000)
    image = smooth_image(400, 300)
    assert load_image(encoded(image), SMALL).shape == (32, 32, 3)
    with pytest.raises(UnreadableImage, match=r"^300 x 400 pixels; the limit is 10,000"):
        load_image(encoded(image, progressive=True), SMALL)
    with pytest.raises(UnreadableImage, match=r"^300 x 400 pixels; the limit is 10,000"):
        load_image(encoded(image), Preprocessing(200))


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LARGE_PIXELS", 1000)
    running, most, to_rgb = threading.Semaphore(1), [], decoding.to_rgb

    def counted(image: Image.Image, resize: Callable[[Image.Image], Image.Image]) -> Image.Image:
        most.append(running.acquire(blocking=False))
        found = to_rgb(image, resize)
        running.release()
        return found

    monkeypatch.setattr(decoding, "to_rgb", counted)
    content = encoded(smooth_image(600, 600), "PNG")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: load_image(content, SMALL), range(16)))
    assert most == [True] * 16

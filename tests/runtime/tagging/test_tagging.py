"""The tagging pipeline: every photo gets its own tags or error, in order, for any batch size."""

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from PIL import Image
from tinymodel import SIZE, TinyModel, random_images, reference_scores

from mlzsl.cli.errors import UsageError
from mlzsl.engines.engine import ExecutionInfo
from mlzsl.engines.opening import BACKENDS
from mlzsl.runtime import Photo, Tagger
from mlzsl.runtime.tagging import pipeline
from mlzsl.runtime.tagging.pipeline import MAX_WAITING_ERRORS, BatchEnds, tag_photos
from mlzsl.runtime.tags import choose_selection


def write_photos(folder, count: int, broken: Iterable[int] = (), seed: int = 0) -> np.ndarray:
    """Write `count` PNGs 000.png, 001.png, …; those in `broken` are not images. Returns all images."""
    images = random_images(count, seed=seed)
    folder.mkdir(exist_ok=True)
    for index, image in enumerate(images):
        path = folder / f"{index:03}.png"
        if index in broken:
            path.write_bytes(b"not an image")
        else:
            Image.fromarray(image).save(path)
    return images


class CountingEngine:
    """Scores an image by its first pixel, without a library, to test the pipeline itself."""

    execution = ExecutionInfo("counting", "1", "none", "none", "fp32")
    in_flight = 2

    def __init__(self, model: TinyModel) -> None:
        self.manifest = model.manifest
        self.batches: list[int] = []
        self.closed = False

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        try:
            for batch in batches:
                self.batches.append(len(batch))
                scores = np.zeros((len(batch), 6), np.float32)
                scores[:, 0] = batch[:, 0, 0, 0] / 255
                yield scores
        finally:
            self.closed = True

    def scores(self, images: np.ndarray) -> np.ndarray:
        return next(iter(self.run([images])))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_photo_gets_its_own_tags_or_error_in_order(tmp_path, tiny_model, backend, batch_size):
    broken = {0, 4, 5, 6, 16}
    images = write_photos(tmp_path / "photos", 17, broken)
    scores = reference_scores(images)
    with Tagger.open(tiny_model.path, backend=backend, batch_size=batch_size, threads=2, top_k=6) as tagger:
        tagged = list(tagger.tag(tmp_path / "photos"))
    assert [photo.path for photo in tagged] == [str(tmp_path / f"photos/{index:03}.png") for index in range(17)]
    for index, photo in enumerate(tagged):
        if index in broken:
            assert photo.tags == ()
            assert "not an image" in photo.error
        else:
            assert photo.error is None
            expected = dict(zip((x.name for x in tiny_model.manifest.labels), scores[index], strict=True))
            assert {tag.label: tag.score for tag in photo.tags} == pytest.approx(expected, abs=3e-6)
            assert [tag.score for tag in photo.tags] == sorted((tag.score for tag in photo.tags), reverse=True)


def test_unreadable_photos_are_in_no_batch(tmp_path, tiny_model):
    write_photos(tmp_path / "photos", 20, broken=range(0, 20, 2))
    engine = CountingEngine(tiny_model)
    selection = choose_selection(engine.manifest)
    paths = sorted(str(path) for path in (tmp_path / "photos").iterdir())
    assert len(list(tag_photos(engine, paths, selection, batch_size=4))) == 20
    assert engine.batches == [4, 4, 2]


def test_batches_are_filled_across_folders(tmp_path, tiny_model):
    for name in "abcd":
        write_photos(tmp_path / name, 3)
    engine = CountingEngine(tiny_model)
    tagger = Tagger(engine, choose_selection(engine.manifest), batch_size=8)
    assert len(list(tagger.tag(tmp_path))) == 12
    assert engine.batches == [8, 4]


def test_more_unreadable_photos_than_may_wait(tmp_path, tiny_model):
    """The first photo waits for its batch to fill, while thousands of errors behind it must not accumulate."""
    images = write_photos(tmp_path / "photos", 2)
    good, last = (str(tmp_path / f"photos/{index:03}.png") for index in range(2))
    missing = [str(tmp_path / f"missing{i}.jpg") for i in range(2 * MAX_WAITING_ERRORS + 7)]
    paths = [*missing[:10], good, *missing[10:], last]
    engine = CountingEngine(tiny_model)
    taken = 0

    def source():
        nonlocal taken
        for path in paths:
            taken += 1
            yield path

    furthest = 0
    result = []
    for photo in tag_photos(engine, source(), choose_selection(engine.manifest), batch_size=16):
        result.append(photo)
        furthest = max(furthest, taken - len(result))
    assert [photo.path for photo in result] == paths
    assert furthest <= MAX_WAITING_ERRORS + 64
    by_path = {photo.path: photo for photo in result}
    for index, path in enumerate((good, last)):
        scores = {tag.label: tag.score for tag in by_path[path].tags}
        assert scores["dog"] == pytest.approx(images[index, 0, 0, 0] / 255, abs=1e-6)


def test_where_batches_end_depends_on_the_photos_alone(tmp_path, tiny_model):
    """Resuming relies on it: restarted at any batch, the later batches are the same."""
    write_photos(tmp_path / "photos", 2)
    good, missing = str(tmp_path / "photos/000.png"), str(tmp_path / "missing.jpg")
    runs = [(missing, 10), (good, 1), (missing, 1500), (good, 9), (missing, 700), (good, 1), (missing, 700), (good, 3)]
    paths = [path for path, count in runs for _ in range(count)]

    def batches(of: list[str]) -> list[int]:
        engine = CountingEngine(tiny_model)
        assert len(list(tag_photos(engine, of, choose_selection(engine.manifest), batch_size=4))) == len(of)
        return engine.batches

    whole = batches(paths)
    assert whole == [1, 4, 4, 2, 3]  # too many errors have ended two of them early
    ends, starts = BatchEnds(4), []
    for index, path in enumerate(paths):
        if ends.add(path == good):
            starts.append(index + 1)
    assert len(starts) in (len(whole), len(whole) - 1)
    for number, start in enumerate(starts, 1):
        assert batches(paths[start:]) == whole[number:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slow_photo_reorders_nothing(tmp_path, tiny_model, monkeypatch, backend):
    images = write_photos(tmp_path / "photos", 40, broken={7})
    scores = reference_scores(images)
    decode = pipeline.decode_photo

    def slow(source, preprocessing):
        index = int(source.stem)
        time.sleep({0: 0.3, 9: 0.5, 10: 0.2}.get(index, 0.002 * (index % 3)))
        return decode(source, preprocessing)

    monkeypatch.setattr(pipeline, "decode_photo", slow)
    with Tagger.open(tiny_model.path, backend=backend, batch_size=3, threads=4, top_k=1) as tagger:
        tagged = list(tagger.tag(tmp_path / "photos"))
    assert [int(os.path.basename(photo.path)[:3]) for photo in tagged] == list(range(40))
    best = [tiny_model.manifest.labels[index].name for index in scores.argmax(axis=1)]
    assert [photo.tags[0].label for photo in tagged if photo.tags] == [name for i, name in enumerate(best) if i != 7]


def test_bytes_ahead_are_bounded(tmp_path, tiny_model, monkeypatch):
    write_photos(tmp_path, 1)
    content = (tmp_path / "000.png").read_bytes()
    engine = CountingEngine(tiny_model)

    def furthest_ahead() -> int:
        given = furthest = 0

        def photos():
            nonlocal given
            for index in range(50):
                given += 1
                yield Photo(str(index), content)

        for index, photo in enumerate(tag_photos(engine, photos(), choose_selection(engine.manifest), batch_size=4)):
            assert photo.path == str(index)
            furthest = max(furthest, given - index - 1)
        return furthest

    assert furthest_ahead() > 7
    monkeypatch.setattr(pipeline, "MAX_BYTES_AHEAD", len(content) - 1)
    assert furthest_ahead() <= 5


def test_paths_are_taken_only_as_they_are_needed(tmp_path, tiny_model):
    write_photos(tmp_path / "photos", 1)
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield tmp_path / "photos/000.png"

    engine = CountingEngine(tiny_model)
    result = Tagger(engine, choose_selection(engine.manifest), batch_size=4).tag(endless())
    for _ in range(40):
        next(result)
    assert taken <= 40 + 4 * 4
    result.close()
    assert engine.closed


def test_stopping_early_ends_the_threads(tmp_path, tiny_model):
    write_photos(tmp_path / "photos", 30)
    before = threading.active_count()
    with Tagger.open(tiny_model.path, backend="onnxruntime", batch_size=2, threads=2) as tagger:
        result = tagger.tag(tmp_path / "photos")
        next(result)
        result.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path, tiny_model):
    write_photos(tmp_path / "photos", 3)
    paths = [str(tmp_path / f"photos/{index:03}.png") for index in range(3)]
    engine = CountingEngine(tiny_model)
    selection = choose_selection(engine.manifest)

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        for _ in tag_photos(engine, (paths[i % 3] for i in range(count)), selection, batch_size=8, threads=2):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(200)
    images = (1500 - 400) * engine.manifest.image_size**2 * 3  # bytes, were they kept
    assert peak(1500) - peak(400) < images / 10  # what Python keeps of freed objects also grows at first


def test_one_file_one_folder_or_an_iterable(tmp_path, tiny_model):
    write_photos(tmp_path / "photos", 3)
    engine = CountingEngine(tiny_model)
    tagger = Tagger(engine, choose_selection(engine.manifest))
    assert len(list(tagger.tag(str(tmp_path / "photos")))) == 3
    assert len(list(tagger.tag(tmp_path / "photos/001.png"))) == 1
    assert len(list(tagger.tag(path for path in sorted((tmp_path / "photos").iterdir())))) == 3
    assert list(tagger.tag([])) == []
    with pytest.raises(UsageError, match="no such file or folder"):
        tagger.tag(tmp_path / "nowhere")


def test_a_batch_of_no_photos_is_refused(tiny_model):
    with pytest.raises(UsageError, match="--batch-size 0"):
        Tagger.open(tiny_model.path, batch_size=0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_named_pipe_in_a_folder_does_not_hang_the_job(tmp_path, tiny_model):
    write_photos(tmp_path / "photos", 1)
    os.mkfifo(tmp_path / "photos/pipe.jpg")
    engine = CountingEngine(tiny_model)
    tagged = list(Tagger(engine, choose_selection(engine.manifest)).tag(tmp_path / "photos"))
    assert [photo.error is None for photo in tagged] == [True, False]


def test_images_reach_the_engine_at_its_size(tmp_path, tiny_model):
    Image.new("RGB", (3 * SIZE, 2 * SIZE), (10, 200, 30)).save(tmp_path / "large.png")
    flat = np.full((1, SIZE, SIZE, 3), (10, 200, 30), np.uint8)
    with Tagger.open(tiny_model.path, top_k=6, threads=1) as tagger:
        (photo,) = tagger.tag(tmp_path / "large.png")
    expected = reference_scores(flat)[0]
    assert photo.tags[0].score == pytest.approx(expected.max(), abs=2e-5)

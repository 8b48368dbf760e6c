"""Whatever fails, whenever the job is killed: resumed to the end, every photo has exactly one record, in order."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinymodel import SIZE, TinyModel

from mlzsl.cli.errors import FailureError
from mlzsl.engines.engine import ExecutionInfo
from mlzsl.imaging import DecodedPhoto, TransientReadError, UnreadableImage
from mlzsl.runtime import Photo, Tagger
from mlzsl.runtime.io import inputs
from mlzsl.runtime.io.tag_files import read_tags
from mlzsl.runtime.tagging import journal, line_file, pipeline
from mlzsl.runtime.tagging.job import tag_to_file
from mlzsl.runtime.tags import choose_selection

FILES, MEMBERS = 9, 5
NAMES = [
    *(f"p{index}.jpg" for index in range(FILES)),
    *(f"{shard}.tar/m{index}.jpg" for shard in "ab" for index in range(MEMBERS)),
    *(f"q{index}.jpg" for index in range(FILES)),
]
INPUTS = ["first", "a.tar", "b.tar", "second"]


class Engine:
    """Scores an image by its first pixel, which is the photo's index."""

    execution = ExecutionInfo("none", "1", "none", "none", "fp32")
    in_flight = 2

    def __init__(self, model: TinyModel) -> None:
        self.manifest = model.manifest

    def run(self, batches):
        for batch in batches:
            yield np.repeat(batch[:, :1, 0, 0] / np.float32(255), len(self.manifest.labels), axis=1)

    def close(self) -> None:
        pass


class Killed(BaseException):
    """Ends a run where it stands; nothing is written any more."""


@dataclass(frozen=True)
class Run:
    """What fails in a run: photos and shards that the machine cannot read, damaged photos, and when it is killed."""

    failing: frozenset[int] = frozenset()
    damaged: frozenset[int] = frozenset()
    shard: tuple[str, int] | None = None
    operation: int | None = None
    retry_errors: bool = True
    buffered: int = 1


INDICES = st.frozensets(st.integers(0, len(NAMES) - 1), max_size=12)
RUNS = st.builds(
    Run,
    INDICES,
    INDICES,
    st.none() | st.tuples(st.sampled_from(["a.tar", "b.tar"]), st.integers(0, MEMBERS)),
    st.none() | st.integers(0, 60),
    st.booleans(),
    st.sampled_from([1, 1 << 16]),
)


@contextlib.contextmanager
def machine(run: Run) -> Iterator[None]:
    """Make photos, shards and, from an operation on, everything fail as the run states."""
    left = run.operation

    def counted(function):
        def operation(*arguments, **options):
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    raise Killed
            return function(*arguments, **options)

        return operation

    def decode(source, preprocessing):
        index = int(source) if isinstance(source, bytes) else NAMES.index(source.name)
        if index in run.failing:
            raise TransientReadError("Stale file handle")
        if index in run.damaged:
            raise UnreadableImage("damaged")
        return DecodedPhoto(np.full((SIZE, SIZE, 3), index, np.uint8), (SIZE, SIZE))

    def photos_in_shard(path, skipped):
        for number in range(MEMBERS + 1):
            if run.shard == (path, number):
                raise TransientReadError("Input/output error")
            if number < MEMBERS:
                name = f"{path}/m{number}.jpg"
                yield Photo(name, str(NAMES.index(name)).encode())

    with (
        mock.patch.object(pipeline, "decode_photo", decode),
        mock.patch.object(inputs, "photos_in_shard", photos_in_shard),
        mock.patch.object(line_file.LineFile, "_flush", counted(line_file.LineFile._flush)),
        mock.patch.object(os, "fsync", counted(os.fsync)),
        mock.patch.object(os, "replace", counted(os.replace)),
        mock.patch.object(os, "link", counted(os.link)),
        mock.patch.object(os, "truncate", counted(os.truncate)),
        mock.patch.object(Path, "unlink", counted(Path.unlink)),
        mock.patch.object(shutil, "rmtree", counted(shutil.rmtree)),
        mock.patch.object(line_file, "MAX_BUFFERED", run.buffered),
        mock.patch.object(pipeline, "MAX_FAILURES_IN_A_ROW", 4),
    ):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two folders of photos, and two shards between them; what is in the files does not matter."""
    made = tmp_path_factory.mktemp("photos")
    for name, letter in (("first", "p"), ("second", "q")):
        (made / name).mkdir()
        for index in range(FILES):
            (made / name / f"{letter}{index}.jpg").touch()
    for shard in "ab":
        (made / f"{shard}.tar").touch()
    return made


@given(runs=st.lists(RUNS, max_size=5), suffix=st.sampled_from([".jsonl", ".csv"]), batch_size=st.integers(1, 5))
@settings(max_examples=150)
def test_every_photo_has_one_record(runs, suffix, batch_size, folder, tiny_model):
    with tempfile.TemporaryDirectory() as target, contextlib.chdir(folder):
        output = f"{target}/tags{suffix}"
        for run in [*runs, Run()]:
            tag(run, output, batch_size, tiny_model)
            if os.path.exists(output):
                assert_in_order([photo.path for photo in read_tags(Path(output), [])])
        assert_complete(output)


@pytest.mark.parametrize("buffered", [1, 1 << 16])
def test_a_run_that_tries_photos_again_may_be_killed_at_any_operation(folder, tiny_model, buffered):
    """Every operation on files once: in each run of a job one more than in the one before succeeds."""
    failing = Run(failing=frozenset({0, 5, 20}), damaged=frozenset({7}), shard=("a.tar", 2))
    with contextlib.chdir(folder):
        for operation in range(1000):
            with tempfile.TemporaryDirectory() as target:
                output = f"{target}/tags.jsonl"
                tag(failing, output, 4, tiny_model)
                killed = tag(Run(operation=operation, buffered=buffered), output, 4, tiny_model)
                tag(Run(), output, 4, tiny_model)
                assert_complete(output)
            if not killed:
                break
    assert 10 < operation < 1000


def tag(run: Run, output: str, batch_size: int, model: TinyModel) -> bool:
    """Start or resume the job; returns whether it was killed."""
    engine = Engine(model)
    tagger = Tagger(engine, choose_selection(engine.manifest, top_k=1), batch_size, threads=2)
    try:
        with machine(run), contextlib.suppress(FailureError):
            tag_to_file(tagger, INPUTS, output, Path("m"), True, resume=True, retry_errors=run.retry_errors)
    except Killed:
        return True
    return False


def assert_complete(output: str) -> None:
    """Each photo has one record, in the order of the input, with its own score; the journal is gone."""
    photos = list(read_tags(Path(output), []))
    assert not journal.journal_folder(output).exists()
    assert [Path(photo.path).name for photo in photos] == [Path(name).name for name in NAMES]
    assert [photo.error for photo in photos] == [None] * len(NAMES)
    assert [round(photo.tags[0].score * 255) for photo in photos] == list(range(len(NAMES)))


def assert_in_order(paths: list[str]) -> None:
    """Each photo at most once, in the order of the input; a damaged shard is no photo."""
    order = [f"first/{name}" for name in NAMES[:FILES]] + NAMES[FILES:-FILES]
    order += [f"second/{name}" for name in NAMES[-FILES:]]
    numbers = [order.index(path) for path in paths]
    assert numbers == sorted(set(numbers))

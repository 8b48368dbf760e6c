"""Tagging from Python: `Tagger.open("model.onnx").tag("photos/")`."""

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.engine import Engine, ExecutionInfo
from mlzsl.engines.opening import open_engine
from mlzsl.runtime.io.inputs import find_photos
from mlzsl.runtime.photos import Photo
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE, tag_photos
from mlzsl.runtime.tags import Selection, Tagged, choose_selection


class Tagger:
    """An opened model and the rule that makes tags of its scores; closes as a context manager.

    with Tagger.open("model.onnx") as tagger:
        for photo in tagger.tag("photos/"):
            print(photo.path, [tag.label for tag in photo.tags], photo.error)
    """

    def __init__(
        self, engine: Engine, selection: Selection, batch_size: int = DEFAULT_BATCH_SIZE, threads: int | None = None
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"--batch-size {batch_size}: at least one photo is needed.")
        self.engine = engine
        self.selection = selection
        self.batch_size = batch_size
        self.threads = threads

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        device: str = "cpu",
        backend: str | None = None,
        precision: str | None = None,
        top_k: int | None = None,
        threshold: float | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        threads: int | None = None,
    ) -> Self:
        """Open a model file.

        Args:
            path: what `mlzsl-export` wrote.
            device, backend, precision, threads: see `engines.engine.open_engine`; as many threads decode.
            top_k, threshold: see `runtime.tags.choose_selection`.
            batch_size: photos a batch; scores do not depend on it.

        Raises:
            UsageError: the file is unfit, or what was asked for is not there.
        """
        engine = open_engine(path, device, backend, precision, threads)
        try:
            return cls(engine, choose_selection(engine.manifest, top_k, threshold), batch_size, threads)
        except UsageError:
            engine.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """What the model file says of itself: labels, preprocessing, sources."""
        return self.engine.manifest

    @property
    def execution(self) -> ExecutionInfo:
        """Backend, provider and precision really used."""
        return self.engine.execution

    @property
    def certificate(self) -> Certificate | None:
        """What `mlzsl-verify --certify` found out about this engine on this network; None where it did not."""
        return self.manifest.certificate_for(self.execution.backend, self.execution.provider, self.execution.precision)

    def tag(self, photos: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Photo]) -> Iterator[Tagged]:
        """Tag photos in their order, a few batches ahead; memory does not grow with their number.

        Args:
            photos: one file, folder, quoted pattern, tar shard or table of paths, or any iterable of image files (a
                generator is not read further ahead than needed). For several see `runtime.io.inputs.find_photos`.

        Yields:
            A `Tagged` for each photo; those that cannot be read carry their reason and no tags.

        Raises:
            UsageError: the one file or folder does not exist, or holds no image.
        """
        if isinstance(photos, str | os.PathLike):
            found = find_photos([photos])
        else:
            found = (photo if isinstance(photo, Photo) else Photo(os.fspath(photo)) for photo in photos)
        return tag_photos(self.engine, found, self.selection, self.batch_size, self.threads)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""Tagging from Python: `Tagger.open("model.onnx").tag("photos/")`."""

import os
from collections.abc import Iterable, Iterator
from typing import Self, cast

import numpy as np
from PIL import Image

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.certificate import Certificate
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.engine import Engine, ExecutionInfo
from mlzsl.engines.opening import open_engine
from mlzsl.imaging import PhotoSource, Preprocessing, TransientReadError, UnreadableImage, decode_photo
from mlzsl.runtime.io.inputs import find_photos
from mlzsl.runtime.tagging.pipeline import DEFAULT_BATCH_SIZE, tag_photos
from mlzsl.runtime.tags import Photo, Selection, Tagged, choose_selection

IN_MEMORY = (bytes, bytearray, memoryview, Image.Image, np.ndarray)


class Tagger:
    """An open model and the rule that selects tags by score; a context manager that closes the engine.

    with Tagger.open("model.onnx") as tagger:
        for photo in tagger.tag("photos/"):
            print(photo.path, [tag.label for tag in photo.tags], photo.error)
    """

    def __init__(
        self, engine: Engine, selection: Selection, batch_size: int = DEFAULT_BATCH_SIZE, threads: int | None = None
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"--batch-size {batch_size}: expected 1 or more.")
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
            path: a model file of `mlzsl-export`.
            device, backend, precision, threads: see `engines.opening.open_engine`; as many threads decode.
            top_k, threshold: see `runtime.tags.choose_selection`.
            batch_size: photos per batch; scores do not depend on it.

        Raises:
            UsageError: the file cannot be opened as requested.
        """
        engine = open_engine(path, device, backend, precision, threads)
        try:
            return cls(engine, choose_selection(engine.manifest, top_k, threshold), batch_size, threads)
        except UsageError:
            engine.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """The manifest of the model file: labels, preprocessing, sources."""
        return self.engine.manifest

    @property
    def execution(self) -> ExecutionInfo:
        """The backend, provider and precision in use."""
        return self.engine.execution

    @property
    def certificate(self) -> Certificate | None:
        """The certificate of this engine on this network, written by `mlzsl-verify --certify`; None without."""
        return self.manifest.certificate_for(self.execution.backend, self.execution.provider, self.execution.precision)

    def tag(self, photos: PhotoSource | Iterable[PhotoSource | Photo]) -> Iterator[Tagged]:
        """Tag photos in order, a few batches ahead; memory does not grow with their number.

        Args:
            photos: one file, folder, quoted pattern, tar shard or table of paths; or any iterable of photos, read only
                as far ahead as needed. A photo is the path of an image file, its content, or an image in memory (see
                `imaging.decoding.decode_photo`); one alone need not be in a list. For several folders see
                `runtime.io.inputs.find_photos`.

        Yields:
            A `Tagged` for each photo; unreadable ones have an error and no tags. A `transient` error is the machine's.
            The path of a photo that has none is "image 0" if it is the first, "image 1" if it is the second.

        Raises:
            UsageError: the one file or folder does not exist, or holds no image; or a photo is something else.
            FailureError: as `runtime.tagging.pipeline.tag_photos`.
        """
        if isinstance(photos, str | os.PathLike):
            found = find_photos([photos])
        else:
            stack = isinstance(photos, np.ndarray) and photos.ndim > 3
            single = not stack and (isinstance(photos, IN_MEMORY) or not isinstance(photos, Iterable))
            items = cast("Iterable[PhotoSource | Photo]", [photos] if single else photos)
            found = (self._photo(f"image {index}", photo) for index, photo in enumerate(items))
        return tag_photos(self.engine, found, self.selection, self.batch_size, self.threads)

    def _photo(self, name: str, photo: PhotoSource | Photo) -> Photo:
        """A photo for the pipeline; an image in memory is decoded at once, as the caller may change it later."""
        if isinstance(photo, str | os.PathLike):
            return Photo(os.fspath(photo))
        if isinstance(photo, IN_MEMORY):
            photo = Photo(name, bytes(photo) if isinstance(photo, bytearray | memoryview) else photo)
        elif not isinstance(photo, Photo):
            raise UsageError(
                f"{name}: found {type(photo).__name__}; expected a path, the bytes of an image file, a Pillow image or "
                "a NumPy array."
            )
        if photo.content is None or isinstance(photo.content, bytes):
            return photo
        try:
            decoded = decode_photo(photo.content, Preprocessing.from_json(self.manifest.preprocessing))
        except UsageError as error:
            raise UsageError(f"{photo.path}: {error}") from error
        except (UnreadableImage, TransientReadError) as error:
            return Photo(photo.path, problem=str(error), transient=isinstance(error, TransientReadError))
        return Photo(photo.path, decoded=decoded)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Does memory stay constant, however many photos there are?

A folder of links to photos is tagged by a whole job, journal and output included, while the process's resident memory
is sampled; the figure is that at the last photo divided by that at one tenth of the photos.

    python benchmarks/memory.py PHOTOS --engine model.onnx [--count 20000] [--threads 2]
"""

import itertools
import tempfile
import threading
from pathlib import Path

import click
import psutil
from rich.console import Console
from rich.table import Table

from mlzsl.runtime import Tagger
from mlzsl.runtime.tagging.job import tag_to_file
from mlzsl.runtime.tagging.journal import journal_folder

ROWS = 10
LIMIT = 1.05


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--engine", default=Path("model.onnx"), type=click.Path(path_type=Path))
@click.option("--precision")
@click.option("--count", default=20_000, help="Photos tagged.")
@click.option("--batch", default=16, help="Photos a batch.")
@click.option("--threads", type=int, help="Threads of decoding and engine.")
def main(photos: Path, engine: Path, precision: str | None, count: int, batch: int, threads: int | None) -> None:
    """Measure the memory of a job on links to the JPEG files of a folder."""
    files = sorted(path.resolve() for path in photos.glob("*.jp*g"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        for place, file in zip(range(count), itertools.cycle(files), strict=False):
            (folder / f"{place:07}.jpg").symlink_to(file)
        output = str(Path(temporary) / "tags.jsonl")
        with Tagger.open(engine, precision=precision, batch_size=batch, threads=threads) as tagger:
            watch = Watch(journal_folder(output) / "records.jsonl")
            result = tag_to_file(tagger, [folder], output, engine, quiet=True)
            watch.end(result.tagged + result.unreadable)
    table = Table(
        title=f"{count:,} photos from {len(files)} files, {engine.name}, {tagger.execution}, batches of {batch}, "
        f"{result.photos_per_second:.0f} photos/s",
        title_justify="left",
    )
    table.add_column("photos done", justify="right")
    table.add_column("resident memory, MiB", justify="right")
    for row in range(1, ROWS + 1):
        table.add_row(f"{count * row // ROWS:,}", f"{watch.memory_at(count * row // ROWS) / 2**20:.1f}")
    Console(width=140).print(table)
    ratio = watch.memory_at(count) / watch.memory_at(count // ROWS)
    print(f"at photo {count:,}: {ratio:.3f} of that at photo {count // ROWS:,}; target ≤ {LIMIT}")


class Watch:
    """Reads the process's resident memory ten times a second, with the number of lines in the journal."""

    def __init__(self, journal: Path) -> None:
        self.samples: list[tuple[int, int]] = []  # photos done, bytes
        self._journal, self._lines, self._place = journal, 0, 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def end(self, photos: int) -> None:
        """Add a last sample and stop."""
        self.samples.append((photos, resident()))
        self._ended.set()
        self._thread.join()

    def memory_at(self, photos: int) -> int:
        """The resident bytes of the first sample with at least so many photos done."""
        return next(memory for done, memory in sorted(self.samples) if done >= photos)

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            try:
                with self._journal.open("rb") as file:
                    file.seek(self._place)
                    new = file.read()
            except FileNotFoundError:
                continue
            self._place += len(new)
            self._lines += new.count(b"\n")
            self.samples.append((self._lines, resident()))


def resident() -> int:
    """The process's resident memory in bytes."""
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    main()

"""Killed at random points and resumed each time, is the output of a job byte-identical to that of an uninterrupted run?

`mlzsl-infer` tags a folder of links to photos once without interruption, and once killed (SIGKILL) at each of so many
random photos and resumed; the last run finishes the job.

    python benchmarks/resume.py PHOTOS --engine model.onnx [--count 5000] [--kills 20] [--seed 0] [--output tags.jsonl]
"""

import itertools
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from mlzsl.runtime.tagging.journal import journal_folder

PROGRAM = "from mlzsl.runtime.tagging.cli import main; main()"


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--engine", default=Path("model.onnx"), type=click.Path(path_type=Path))
@click.option("--count", default=5000, help="Photos of the job.")
@click.option("--kills", default=20, help="How often it is killed.")
@click.option("--seed", default=0, help="Of the random photos.")
@click.option("--output", default="tags.jsonl", help="Its suffix chooses the format.")
@click.option("--threads", default=2, help="Threads of decoding and engine.")
def main(photos: Path, engine: Path, count: int, kills: int, seed: int, output: str, threads: int) -> None:
    """Kill and resume a job on links to the JPEG files of a folder."""
    files = sorted(path.resolve() for path in photos.glob("*.jp*g"))
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        for place, file in zip(range(count), itertools.cycle(files), strict=False):
            (folder / f"{place:07}.jpg").symlink_to(file)
        whole, broken = Path(temporary) / f"whole-{output}", Path(temporary) / f"broken-{output}"

        def start(target: Path) -> subprocess.Popen[bytes]:
            flags = [
                str(folder),
                "--engine",
                str(engine),
                "--output",
                str(target),
                "--threads",
                str(threads),
                "--quiet",
            ]
            return subprocess.Popen([sys.executable, "-c", PROGRAM, *flags, "--resume"])

        started = time.monotonic()
        if start(whole).wait() != 0:
            raise SystemExit("the unbroken run failed")
        seconds = time.monotonic() - started
        print(f"unbroken: {seconds:.1f} s for {count:,} photos")
        killed = 0
        for point in sorted(chance.sample(range(count - count // 20), kills)):  # the last lines come with the end
            process = start(broken)
            while process.poll() is None and kept(broken) < point:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))  # lines lag behind the work; this hits it anywhere
            if process.poll() is not None:
                print("it ended by itself")
                break
            process.kill()
            process.wait()
            killed += 1
            print(f"kill {killed}, meant for photo {point:,}: {kept(broken):,} are kept")
        if not broken.exists() and start(broken).wait() != 0:
            raise SystemExit("the resumed run failed")
        same = whole.read_bytes() == broken.read_bytes()
        print(f"after {killed} kills the output {'equals' if same else 'DIFFERS FROM'} the unbroken run's")
        raise SystemExit(0 if same else 1)


def kept(output: Path) -> int:
    """How many photos the journal of an unfinished job holds."""
    path = journal_folder(str(output)) / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main()

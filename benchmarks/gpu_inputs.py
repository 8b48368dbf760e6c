"""The inputs of gpu.sh: the machine, photos to calibrate and to verify on, and networks.

Each command prints what it found or wrote.

    python benchmarks/gpu_inputs.py machine [--ran COMMAND]
    python benchmarks/gpu_inputs.py photos FOLDER [--photos PHOTOS]
    python benchmarks/gpu_inputs.py network FOLDER resnet50 [--weights WEIGHTS] [--checkpoint checkpoint.safetensors]
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import random
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import click
import torch
from gpu_runners import Files
from precision import random_photos
from tagging import networks

from mlzsl.engines.engine import available_cpus
from mlzsl.export.exporter import export_model
from mlzsl.imaging.finding import find_images

PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "cuda-core", "numpy")
RANDOM_IMAGES = 128  # random ones, where no photos are named; half of them calibrate
MOST_PHOTOS = 256  # of each half
ASKED_OF_GPU = "name,driver_version,compute_cap,memory.total,power.limit,clocks.max.sm"


@click.group()
def main() -> None:
    """The inputs of gpu.sh."""


@main.command()
@click.option("--ran", default="", help="The command that is recorded.")
def machine(ran: str) -> None:
    """Where the figures are taken, when, and with what."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    asked = asked_of_nvidia(f"--query-gpu={ASKED_OF_GPU}", "--format=csv,noheader", "-i", gpu_index())
    found = dict(zip(ASKED_OF_GPU.split(","), map(str.strip, asked.split(",")), strict=True)) if asked else None
    here = Path(__file__).parent
    shown = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True, check=False
    )
    as_json(
        {
            "date": date.today().isoformat(),
            "command": ran,
            "commit": shown.stdout.strip(),
            "gpu": found,
            "cpu": processor(),
            "cores": available_cpus(),
            "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "cuda_of_torch": torch.version.cuda,
            "versions": versions,
        }
    )


@main.command("photos")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--photos", type=click.Path(path_type=Path, exists=True, file_okay=False))
def split_photos(folder: Path, photos: Path | None) -> None:
    """Divide photos into FOLDER/calibrate and FOLDER/verify: links to some, or random images where none are named."""
    if photos is None:
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / "random"
        photos = source if source.is_dir() else random_photos(source, RANDOM_IMAGES)
    found = [Path(path).resolve() for path in find_images([photos])]
    random.Random(0).shuffle(found)
    half = min(len(found) // 2, MOST_PHOTOS)
    for name, chosen in (("calibrate", found[:half]), ("verify", found[half : 2 * half])):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).iterdir():
            old.unlink()
        for number, path in enumerate(chosen):
            (folder / name / f"{number:04}{path.suffix}").symlink_to(path)
    as_json({"photos": len(found), "each_half": half})


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("backbone")
@click.option("--weights", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Holds BACKBONE.pth.")
@click.option("--checkpoint", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A trained model.")
def network(folder: Path, backbone: str, weights: Path | None, checkpoint: Path | None) -> None:
    """Make a whole network, or take a trained one, and its fp32 model file; prints what its files' names begin with."""
    if checkpoint is not None:
        files = Files(folder / backbone)
        folder.mkdir(parents=True, exist_ok=True)
        files.checkpoint.unlink(missing_ok=True)
        files.checkpoint.symlink_to(checkpoint.resolve())
        export_model(files.checkpoint, None, files.model("fp32"))
        click.echo(files.stem)
        return
    checkpoint, _ = networks(folder, backbone, None if weights is None else weights / f"{backbone}.pth", "coco80")
    click.echo(checkpoint.with_suffix(""))


def gpu_index() -> str:
    """The index of the GPU in use, as nvidia-smi counts."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def asked_of_nvidia(*words: str) -> str:
    """What nvidia-smi prints; "" without it."""
    try:
        return subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""


def processor() -> str:
    """The CPU's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def as_json(found: Any) -> None:
    """Print it."""
    click.echo(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()

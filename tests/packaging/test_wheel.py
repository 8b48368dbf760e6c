"""What pip installs: the wheel holds every file of product code, and exports and tags outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from smallcheckpoint import write_small_checkpoint

from mlzsl.train.datasets.synthetic.scenes import generate_scenes

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(link.name for link in (ROOT / "src" / "mlzsl").iterdir())
FILES = ("pyproject.toml", "README.md", "LICENSE")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__")


def run(*command: object, cwd: Path, **settings: str) -> str:
    """Run a command without the checkout on Python's path; returns its standard output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean | settings, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a "wheel" or an "sdist" of a source tree as pip does; returns its path."""
    script = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    return target / run(sys.executable, "-c", script, target, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source tree's wheel and sdist, and in `again` the wheel that the sdist builds."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    for package in PACKAGES:  # a copy: building writes beside pyproject.toml, and takes what older builds left there
        shutil.copytree(ROOT / package, source / package, ignore=NOT_SHIPPED)
    shutil.copytree(ROOT / "src", source / "src", symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    build("wheel", source, folder)
    with tarfile.open(build("sdist", source, folder)) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (folder / "again").mkdir()
    (unpacked,) = (folder / "unpacked").iterdir()
    build("wheel", unpacked, folder / "again")
    return folder


def wheel_contents(folder: Path) -> dict[str, bytes]:
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_every_file_of_every_package(built: Path) -> None:
    contents = wheel_contents(built)
    expected = {
        f"mlzsl/{path.relative_to(ROOT).as_posix()}": path.read_bytes()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name: content for name, content in contents.items() if name.startswith("mlzsl/")} == expected
    for name in ("graph/data/hierarchy.npz", "runtime/gallery/template/page.html", "runtime/py.typed"):
        assert f"mlzsl/{name}" in contents


def test_the_sdist_holds_files_in_place_of_links(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert {member.type for member in archive} <= {tarfile.REGTYPE, tarfile.DIRTYPE}


def test_the_sdist_builds_the_same_wheel(built: Path) -> None:
    first, again = wheel_contents(built), wheel_contents(built / "again")
    assert {name: content for name, content in again.items() if not name.endswith(".dist-info/RECORD")} == {
        name: content for name, content in first.items() if not name.endswith(".dist-info/RECORD")
    }


@pytest.fixture(scope="module")
def scripts(built: Path) -> Path:
    """The folder of console scripts of an environment with the wheel, which borrows its dependencies from this one."""
    environment = built / "environment"
    venv.create(environment, symlinks=True)
    (wheel,) = built.glob("*.whl")
    python = environment / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=built)
    (packages,) = environment.glob("lib/python*/site-packages")
    # The lines of a .pth file in a folder that another one names are not read: the editable install stays outside.
    (packages / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return environment / "bin"


def test_the_installed_commands_export_and_tag(scripts: Path, tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path / "checkpoint.safetensors")
    generate_scenes(tmp_path / "scenes", 3, seed=3, size=96, quiet=True)
    where = "import mlzsl.runtime.tagging.cli as module; print(module.__file__)"
    imported = Path(run(scripts / "python", "-c", where, cwd=tmp_path).strip())
    assert imported.is_relative_to(scripts.parent)

    run(scripts / "mlzsl-export", "--labels", "voc20", cwd=tmp_path, OMP_NUM_THREADS="1")
    run(scripts / "mlzsl", "infer", "scenes/images", "--top-k", "3", cwd=tmp_path, OMP_NUM_THREADS="1")
    records = [json.loads(line) for line in (tmp_path / "tags.jsonl").read_text().splitlines()]
    assert [len(record["tags"]) for record in records] == [3, 3, 3]

"""Folders of product code stay small, and every one of them is a package that tools find."""

import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKS = ROOT / "src" / "mlzsl"
NOT_PRODUCT = {"tests", "benchmarks", "tools", "docs", "src", "build"}
PACKAGES = sorted(link.name for link in LINKS.iterdir())
FOLDERS = sorted({path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")})
MOST_MODULES = 14
MOST_WITH_ONE_PREFIX = 3
NAMES_OF_NO_JOB = {"utils", "util", "helpers", "helper", "common", "misc", "base"}


def tracked_folders() -> set[str]:
    """Top-level folders that hold Python files under version control."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}


def test_every_package_is_linked_under_src() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    assert set(PACKAGES) == tracked_folders() - NOT_PRODUCT


@pytest.mark.parametrize("package", PACKAGES)
def test_a_link_leads_to_the_package_at_the_top(package: str) -> None:
    link = LINKS / package
    assert link.is_symlink(), f"{link} is no link: on Windows, clone with `git clone -c core.symlinks=true`"
    assert link.readlink() == Path("..", "..", package)
    assert (link / "__init__.py").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_import_linter_and_make_know_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert sorted(settings["root_packages"]) == [f"mlzsl.{package}" for package in PACKAGES]
    layered = {name for layer in settings["contracts"][0]["layers"] for name in layer.split(" | ")}
    assert layered == set(settings["root_packages"])


def test_every_folder_with_modules_is_imported_as_a_package() -> None:
    names = [".".join(("mlzsl", *folder.relative_to(ROOT).parts)) for folder in FOLDERS]
    script = f"import importlib.util\nprint([name for name in {names!r} if importlib.util.find_spec(name) is None])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"
    assert [folder for folder in FOLDERS if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_holds_few_modules_and_no_family(folder: Path) -> None:
    modules = sorted(path.stem for path in folder.glob("*.py"))
    assert len(modules) <= MOST_MODULES, f"{len(modules)} modules: give a family of them a subpackage"
    families: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        families[module.split("_")[0]].append(module)
    large = {prefix: family for prefix, family in families.items() if len(family) > MOST_WITH_ONE_PREFIX and prefix}
    assert not large, f"a family of modules is a subpackage: {large}"
    assert not NAMES_OF_NO_JOB & set(modules)

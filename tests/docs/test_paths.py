"""Files and modules that README.md, CONTRIBUTING.md and docs/ name in code marks exist."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FOLDERS = [*sorted(link.name for link in (ROOT / "src" / "mlzsl").iterdir()), "tests", "tools", "benchmarks", "docs"]
NAMED = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+?)/?`")
DOTTED = re.compile(r"\bmlzsl(?:\.\w+)+")
METADATA_KEYS = {"mlzsl.manifest", "mlzsl.checksum", "mlzsl.seal", "mlzsl.golden"}  # of a model file


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page: str) -> None:
    names = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert [name for name in names if "NAME" not in name and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_named_modules_and_what_is_named_in_them_exist(page: str) -> None:
    names = set(DOTTED.findall((ROOT / page).read_text(encoding="utf-8"))) - METADATA_KEYS
    assert [name for name in sorted(names) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in the module before its last dot."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, last = name.rpartition(".")
        return parent != "mlzsl" and hasattr(importlib.import_module(parent), last)
    return True

"""docs/formats.md says what the decoder does with every format and odd image."""

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]


@pytest.mark.kit
def test_the_page_of_formats_is_what_its_command_writes(kit: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("format_table", ROOT / "tools/format_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = CliRunner().invoke(module.main, [str(kit), "--output", str(tmp_path / "formats.md")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "formats.md").read_text("utf-8") == (ROOT / "docs/formats.md").read_text("utf-8")

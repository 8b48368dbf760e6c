"""Progress without a terminal is plain lines with rate and time left."""

import pytest

from mlzsl.cli import progress as module
from mlzsl.cli.progress import log, progress


def test_lines_have_count_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with progress("tagging", 200, "photos") as bar:
        now = 10.0
        bar.advance(100, note="2 unreadable")
        now = 20.0
        bar.advance(100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tagging: 100/200 photos, 10 photos/s, 10 s left, 2 unreadable"
    assert lines[-1].startswith("tagging: 200/200 photos, 10 photos/s")


def test_quiet_prints_nothing(capsys) -> None:
    with progress("tagging", 2, "photos", quiet=True) as bar:
        bar.advance(2)
    log("news", quiet=True)
    assert capsys.readouterr() == ("", "")

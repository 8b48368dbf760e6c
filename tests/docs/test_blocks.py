"""The commands and Python blocks of README.md and docs/ run as they are printed, page by page.

Each page runs in a copy of `user_folder`, its blocks one after the other. blocks.toml lists what cannot run here, with
the reason, and what runs with further flags to be done sooner: a command by its text, a Python block by its first line.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
LISTED: dict[str, dict[str, dict[str, str]]] = tomllib.loads(Path(__file__).with_name("blocks.toml").read_text("utf-8"))
NOT_RUN, FURTHER_FLAGS = LISTED["not_run"], LISTED["further_flags"]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
FENCE = re.compile(r"^(```+)(\S*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"(^|\s+)#(\s.*)?$")
LANGUAGES = {"sh", "python", "json", "text"}


@dataclass(frozen=True)
class Step:
    """A command, or a Python or JSON block.

    Attributes:
        language: "sh", "python" or "json".
        line: where it begins in its page.
        text: the command without its comment and line breaks, or the whole block.
    """

    language: str
    line: int
    text: str

    @property
    def key(self) -> str:
        """How blocks.toml names it."""
        return self.text.splitlines()[0]


def steps_of(page: str) -> Iterator[Step]:
    """What a page lets its readers type, in order."""
    content = (ROOT / page).read_text(encoding="utf-8")
    for fence in FENCE.finditer(content):
        line = content.count("\n", 0, fence.start()) + 2
        language, block = fence[2], fence[3]
        if language == "sh":
            commands = block.replace("\\\n", " ").splitlines()
            texts = (" ".join(COMMENT.sub("", command).split()) for command in commands)
            yield from (Step("sh", line, text) for text in texts if text)
        elif language in ("python", "json"):
            yield Step(language, line, block)


def run(step: Step, namespace: dict[str, object]) -> str | None:
    """Run one step in the working directory; returns what went wrong, or None."""
    if step.language == "python":
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(step.text, "block", "exec"), namespace)
        except Exception:
            return traceback.format_exc()
        return None
    words = shlex.split(step.text)
    if words[0].split("-")[0] == "mlzsl" and not re.search(r"[|<>;&$*]", step.text):
        return run_here(words)
    return run_in_bash(step.text)


def run_here(words: list[str]) -> str | None:
    """Call one of the project's commands in this process, which has imported torch already."""
    if words[0] not in SCRIPTS:
        return f"{words[0]} is not among the scripts in pyproject.toml"
    module, _, function = SCRIPTS[words[0]].partition(":")
    command: click.Command = getattr(import_module(module), function)
    result = CliRunner().invoke(command, words[1:], prog_name=words[0])
    if result.exit_code == 0:
        return None
    unexpected = result.exception if not isinstance(result.exception, SystemExit | None) else ""
    return f"exit code {result.exit_code}\n{result.output[-2000:]}{unexpected}"


def run_in_bash(text: str) -> str | None:
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", text]
    result = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300)
    return None if result.returncode == 0 else f"exit code {result.returncode}\n{result.stdout}{result.stderr}"[-2000:]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_names_its_language(page: str) -> None:
    content = (ROOT / page).read_text(encoding="utf-8")
    found = [(content.count("\n", 0, fence.start()) + 1, fence[2]) for fence in FENCE.finditer(content)]
    assert len(found) * 2 == len(re.findall(r"^```", content, re.MULTILINE)), "a fence is not closed"
    unknown = [f"line {line}: {language or 'none'}" for line, language in found if language not in LANGUAGES]
    assert not unknown, f"expected one of {sorted(LANGUAGES)}; found {unknown}"


@pytest.mark.parametrize("page", [page for page in PAGES if any(step.language == "json" for step in steps_of(page))])
def test_json_blocks_are_json(page: str) -> None:
    for step in steps_of(page):
        if step.language == "json":
            try:
                json.loads(step.text)
            except json.JSONDecodeError:
                for line in step.text.splitlines():  # JSON Lines
                    json.loads(line)


@pytest.mark.parametrize("page", [page for page in PAGES if any(step.language != "json" for step in steps_of(page))])
def test_the_blocks_of_a_page_run(
    page: str, user_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(user_folder, tmp_path, copy_function=os.link, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    namespace: dict[str, object] = {"__name__": "block"}
    failures = []
    for step in steps_of(page):
        if step.language != "json" and step.key not in NOT_RUN.get(page, {}):
            flags = FURTHER_FLAGS.get(page, {}).get(step.key, "")
            problem = run(replace(step, text=f"{step.text} {flags}".rstrip(" ")), namespace)
            if problem:
                failures.append(f"{page}:{step.line}: {step.key}\n{problem}")
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize("listed", LISTED.values(), ids=LISTED)
def test_what_is_listed_is_in_its_page_with_a_reason_or_flags(listed: dict[str, dict[str, str]]) -> None:
    gone = [
        f"{page}: {key}"
        for page, keys in listed.items()
        for key in keys
        if page not in PAGES or key not in {step.key for step in steps_of(page)}
    ]
    assert not gone, "remove from blocks.toml, these are no longer in the page:\n" + "\n".join(gone)
    assert all(value.strip() for keys in listed.values() for value in keys.values())

"""A MkDocs hook: README.md and the files that pages link to outside docs/ become part of the site.

Links in Markdown follow the repository's tree, so that they work on a code host. The site's root is docs/; README.md is
its first page. Every linked file outside docs/ is added at its own path, and links are rewritten to match. What does
not exist is left to MkDocs, which fails in strict mode.
"""

import logging
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> None:
    """Print warnings and errors only: MkDocs' own --quiet hides the warnings that fail a strict build."""
    logging.getLogger("mkdocs").setLevel(logging.WARNING)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add README.md and, page by page, the existing files that pages link to outside docs/."""
    pending = ["README.md", *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    while pending:
        path = pending.pop()
        if not path.startswith("docs/") and files.get_file_from_path(path) is None:
            files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
        if path.endswith(".md"):
            outside = (target for target in linked_files(path) if not target.startswith("docs/"))
            pending += [target for target in outside if files.get_file_from_path(target) is None]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite a page's links from the repository's tree to the site's."""
    source = page.file.src_uri
    outside = Path(page.file.abs_src_path or "") == ROOT / source
    repository_path = source if outside else f"docs/{source}"

    def rewritten(link: re.Match[str]) -> str:
        target = target_of(repository_path, link[1])
        return posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(source) or ".")

    return LINK.sub(rewritten, markdown)


def linked_files(path: str) -> Iterator[str]:
    """The existing files of the repository that a Markdown file links to, as paths from the root."""
    for link in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        target = target_of(path, link)
        if not target.startswith("..") and (ROOT / target).is_file():
            yield target


def target_of(path: str, link: str) -> str:
    """Where a link in the Markdown file at `path` leads, from the repository's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))

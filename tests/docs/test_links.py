"""What the pages and the source refer to is there: files, and headings within pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import FENCE, PAGES, ROOT

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FILE = re.compile(r"`((?:apps|benchmarks|data|docs|genutil|models|pretrained|tests)/[\w./-]*)`")
SOURCES = [
    path
    for folder in ("apps", "benchmarks", "data", "genutil", "models", "pretrained")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yml", ".cpp", ".h")
]


def anchors(page: Path) -> set[str]:
    """How the headings of a page are linked to."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for file, anchor in LINK.findall(page.read_text()):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {file}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {file}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_in_the_text_are_there(page: Path):
    for name in FILE.findall(FENCE.sub("", page.read_text())):
        assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_pages_that_the_source_names_are_there():
    for source in SOURCES:
        for name in re.findall(r"docs/\w+\.md", source.read_text()):
            assert (ROOT / name).exists(), f"{source.relative_to(ROOT)} names {name}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130

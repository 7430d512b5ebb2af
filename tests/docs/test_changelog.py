"""No section or entry of a version stands twice in the changelog."""

import re
from pathlib import Path

import pytest

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
VERSIONS = re.split(r"^## ", CHANGELOG.read_text(), flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.splitlines()[0])
def test_each_section_and_each_entry_is_there_once(version: str) -> None:
    sections = re.findall(r"^### .*$", version, re.MULTILINE)
    assert sections == list(dict.fromkeys(sections))
    parts = re.split(r"^- |^#.*$", version, flags=re.MULTILINE)[1:]
    entries = [" ".join(part.split()) for part in parts if part.strip()]
    assert entries
    assert entries == list(dict.fromkeys(entries))

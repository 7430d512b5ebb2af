"""The pages that people read, and the fenced blocks in them.

After the language of a block stand its attributes, which a browser does not show:

    bash                  README only: CI runs it whole, installation and all
    bash run              commands that a test runs in a copy of the tree; `slow`: only with --slow;
                          `after=quickstart`: with the checkpoint that the quickstart leaves
    bash needs=WHAT       commands that need what is not there; their words are read as the runner reads them
    python run            a test runs it; `after=quickstart` as above
    python fragment       part of something, which compiles
    yaml app=FILE         an app file of that name, of one experiment or several, that must resolve
    text                  output

The blocks of docs/extending.md are described in `tests.docs.recipes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"`(python [\w./]+\.py[^`]*)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, attributes (value "" where they have none), text, and where it stands."""

    page: Path
    line: int
    language: str
    text: str
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its lines, with those that end in a backslash joined."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    content = page.read_text()
    for match in FENCE.finditer(content):
        language, *words = match["info"].split() or [""]
        attributes = {name: value for name, _, value in (word.partition("=") for word in words)}
        yield Block(page, content.count("\n", 0, match.start()) + 1, language, match["text"], attributes)


def all_blocks() -> list[Block]:
    return [block for page in PAGES if page.exists() for block in blocks(page)]


def inline_commands(page: Path) -> list[str]:
    """What stands in the text, outside of blocks, as a command of Python."""
    return [" ".join(command.split()) for command in COMMAND.findall(FENCE.sub("", page.read_text()))]

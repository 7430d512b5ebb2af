"""The recipes of docs/extending.md: a section each, with files that it writes, lines that it changes, and commands.

python file=PATH, yaml file=PATH     the whole of a new file
diff                                 lines of files that are there: the unchanged ones say where, and must be found
bash recipe                          what then must work
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import ROOT, Block, blocks

PAGE = ROOT / "docs" / "extending.md"


@dataclass
class Recipe:
    """A section of the page.

    Attributes:
        files: texts of new files by their paths.
        diffs: blocks of changed lines.
        commands: one script each.
    """

    title: str
    files: dict[str, str] = field(default_factory=dict)
    diffs: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def recipes(page: Path = PAGE) -> list[Recipe]:
    """The recipes of a page, in order; sections without commands are none."""
    heads = [(number, line[3:]) for number, line in _headings(page)]
    found = [Recipe(title) for _, title in heads]
    for block in blocks(page):
        section = sum(number < block.line for number, _ in heads) - 1
        if section >= 0:
            _take(block, found[section])
    return [recipe for recipe in found if recipe.commands]


def _headings(page: Path) -> list[tuple[int, str]]:
    lines = enumerate(page.read_text().splitlines(), 1)
    return [(number, line) for number, line in lines if line.startswith("## ")]


def _take(block: Block, recipe: Recipe) -> None:
    if "file" in block.attributes:
        recipe.files[block.attributes["file"]] = block.text
    elif block.language == "diff":
        recipe.diffs.append(block.text)
    elif "recipe" in block.attributes:
        recipe.commands.append(block.text)


def carry_out(recipe: Recipe, tree: Path) -> None:
    """Write the files of a recipe into a tree, and change its lines.

    Raises:
        ValueError: a file that is there already, or lines that are not found, or found more than once.
    """
    for name, text in recipe.files.items():
        path = tree / name
        if path.exists():
            raise ValueError(f"{name} is there already")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for diff in recipe.diffs:
        apply(diff, tree)


def apply(diff: str, tree: Path) -> None:
    """Change lines as a unified diff says; its hunks need no line numbers. Raises ValueError as `carry_out`."""
    path, hunks = None, []
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = tree / line[4:].strip()
        elif line.startswith("@@"):
            hunks.append((path, [], []))
        elif not line.startswith("--- "):
            _, before, after = hunks[-1]
            if line[:1] != "+":
                before.append(line[1:])
            if line[:1] != "-":
                after.append(line[1:])
    for path, before, after in hunks:
        lines = path.read_text().splitlines()
        places = [i for i in range(len(lines)) if lines[i : i + len(before)] == before]
        if len(places) != 1:
            raise ValueError(f"{path.relative_to(tree)} has {len(places)} times:\n" + "\n".join(before))
        lines[places[0] : places[0] + len(before)] = after
        path.write_text("\n".join(lines) + "\n")

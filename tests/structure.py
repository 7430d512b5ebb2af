"""What a program can read off the source: who imports whom, lengths, private attributes, docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ("genutil", "models", "data", "pretrained")
CIRCLE = "# a circle on purpose:"
"""Marks the line of a function-level import that may close a circle; the reason follows."""

ORDER = (
    ("genutil.cli",),
    ("genutil.run", "genutil.api"),
    ("genutil.compared_runs",),
    ("genutil.run_report",),
    ("genutil.build", "genutil.training"),
    ("genutil.evaluation", "genutil.reports", "genutil.model_profiling"),
    ("genutil.saved",),
    ("genutil.system",),
    ("genutil.settings", "genutil.config"),
    ("genutil.errors",),
)
"""The order of imports inside genutil: a row may import from itself and from those below it."""
ALLOWED = {
    "runner": {"genutil"},
    "genutil": {"genutil", "models", "data", "pretrained"},
    "pretrained": {"pretrained", "models", "data"},
    "models": {"models"},
    "data": {"data"},
}
"""The order of imports between the packages at the top."""


@dataclass(frozen=True)
class Import:
    """One import of a module of the project: what, in which line, and whether a function does it."""

    name: str
    line: int
    inside: bool


@dataclass(frozen=True)
class Module:
    """A module by its dotted name, with its source."""

    name: str
    source: str
    package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def lines(self) -> int:
        return self.source.count("\n")

    @cached_property
    def functions(self) -> dict[str, int]:
        """Lines of every function and method, by its name and the line where it begins."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, kinds)]
        return {f"{node.name}, line {node.lineno}": node.end_lineno - node.lineno + 1 for node in nodes}

    def imports(self, known: set[str]) -> Iterator[Import]:
        """What it imports of the known modules. What only a type checker reads is none."""
        yield from self._imports(self.tree, known, inside=False)

    def _imports(self, node: ast.AST, known: set[str], inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                for name in self._names(child, known):
                    yield Import(name, child.lineno, inside)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from self._imports(child, known, inside or function)

    def _names(self, node: ast.Import | ast.ImportFrom, known: set[str]) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
            return
        module = node.module or ""
        if node.level:
            parts = self.name.split(".")
            parents = parts[: len(parts) - node.level + self.package]
            module = ".".join([*parents, *([node.module] if node.module else [])])
        submodules = {f"{module}.{alias.name}" for alias in node.names} & known
        yield from sorted(submodules)
        if module in known and len(submodules) < len(node.names):
            yield module

    @cached_property
    def own_names(self) -> set[str]:
        """Private names that the module itself defines: functions, methods, fields, attributes of self."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # register_buffer("_name", ...)
                names.add(node.value)
        return names

    @cached_property
    def foreign_private(self) -> list[str]:
        """Private attributes of others that it reads, and private names that it imports, with their lines."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and _is_private(node.attr) and not _is_own(node.value):
                if node.attr not in self.own_names:
                    found.append((node.lineno, node.attr))
            elif isinstance(node, ast.ImportFrom):
                found += [(node.lineno, alias.name) for alias in node.names if _is_private(alias.name)]
        return [f"{self.name}, line {line}: {name}" for line, name in sorted(found)]


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _is_own(node: ast.expr) -> bool:
    """self, cls or super()."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def library() -> list[Module]:
    """Every module of the library, and the runner."""
    found = [Module("runner", (ROOT / "runner.py").read_text())]
    for folder in LIBRARY:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            found.append(Module(name, path.read_text(), package))
    return found


def upward(modules: list[Module]) -> list[str]:
    """Imports against the order, wherever they stand."""
    known = {module.name for module in modules}
    found = []
    for module in modules:
        for one in module.imports(known):
            if not _may_import(module.name, one.name):
                found.append(f"{module.name}, line {one.line}: imports {one.name}")
    return found


def _may_import(importer: str, imported: str) -> bool:
    if imported.split(".")[0] not in ALLOWED[importer.split(".")[0]]:
        return False
    ranks = [_rank(name) for name in (importer, imported)]
    return None in ranks or ranks[0] <= ranks[1]


def _rank(name: str) -> int | None:
    """The row of ORDER that a module of genutil is in."""
    rows = [i for i, row in enumerate(ORDER) if any(f"{name}.".startswith(f"{part}.") for part in row)]
    return rows[0] if rows else None


def unranked(modules: list[Module]) -> list[str]:
    """Modules of genutil that the order does not know."""
    return [m.name for m in modules if m.name.startswith("genutil.") and _rank(m.name) is None]


def circles(modules: list[Module]) -> list[list[str]]:
    """Modules that import one another, each group once; marked imports do not count."""
    known = {module.name for module in modules}
    targets: dict[str, set[str]] = {}
    for module in modules:
        lines = module.source.splitlines()
        counted = (one for one in module.imports(known) if not (one.inside and CIRCLE in lines[one.line - 1]))
        targets[module.name] = {one.name for one in counted} - {module.name}
    reach = {name: _reachable(name, targets) for name in targets}
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in targets}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(start: str, targets: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(targets[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += targets[name]
    return found

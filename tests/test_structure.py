"""The rules of the house that a program can check. Each rule is first shown to find what breaks it."""

from __future__ import annotations

import ast
from collections.abc import Iterable

import pytest

from tests.structure import ROOT, Module, circles, library, unranked, upward

LONGEST_FILE, LONGEST_FUNCTION, TESTED_FROM = 400, 60, 100
LONG_FILES: dict[str, str] = {}
"""Files that may be longer, each with the reason."""
FOREIGN_PRIVATE = {
    "models.native.layout: _fields_": "of a ctypes structure, documented by Python",
    "models.native.layout: _type_": "of a ctypes type, documented by Python",
    "genutil.evaluation.batches: _replace": "documented by Python, of named tuples",
    "data.streams: _exit": "documented by Python; a worker must not run what its parent registered for its end",
    "genutil.system.batch_norms: _BatchNorm": "the base of torch's batch norms",
    "models.networks.planes: _C": "torch has no public way to ask for function transforms and dispatch modes",
    "models.networks.planes: _NormBase": "the base of torch's batch and instance norms",
    "models.networks.planes: _current_level": "of forward-mode differentiation; as _C",
    "models.networks.planes: _functorch": "as _C",
    "models.networks.planes: _len_torch_dispatch_stack": "as _C",
    "models.networks.resnet: _BatchNorm": "the base of torch's batch norms",
    "models.wirings.learned: _version": "of a tensor: how often it was written to",
    "models.wirings.wire: _version": "the same",
    "models.native.nodes: _version": "the same",
}
"""Private attributes of other libraries that may be read, as module and name, each with the reason; none of our own."""
MODULES = library()


def assert_none(offenders: Iterable[str]) -> None:
    """Fails with all of them, a line each."""
    found = sorted(offenders)
    assert not found, "\n" + "\n".join(found)


def test_no_import_runs_upward():
    assert_none(upward(MODULES))


def test_upward_imports_are_found():
    good = Module("genutil.run", "from genutil.saved import checkpoints\nimport models.sparse\n")
    bad = Module("genutil.saved.checkpoints", "def f():\n    from genutil import run\n")
    worse = Module("models.sparse", "import data\n")
    parts = [Module(name, "", package=True) for name in ("genutil", "genutil.saved", "data")]
    found = upward([good, bad, worse, *parts])
    assert [line.split(":")[0] for line in found] == ["genutil.saved.checkpoints, line 2", "models.sparse, line 1"]


def test_the_order_knows_every_module():
    assert_none(unranked(MODULES))


def test_no_circle_of_imports():
    assert_none(" <-> ".join(group) for group in circles(MODULES))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import models.b", [["models.a", "models.b"]]),
        ("from models import b", [["models.a", "models.b"]]),
        ("from .b import name", [["models.a", "models.b"]]),
        ("def f():\n    import models.b", [["models.a", "models.b"]]),
        ("def f():\n    import models.b  # a circle on purpose: b makes a", []),
        ("if TYPE_CHECKING:\n    import models.b", []),
        ("import models.c", []),
    ],
)
def test_circles_are_found(line: str, found: list[list[str]]):
    others = [Module("models", "", package=True), Module("models.b", "import models.a"), Module("models.c", "")]
    assert circles([Module("models.a", line), *others]) == found


def test_no_file_is_long():
    folders = ("apps", "benchmarks", "data", "docs", "genutil", "models", "pretrained", "tests")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".cpp", ".h")]
    lines = {path.relative_to(ROOT).as_posix(): path.read_text().count("\n") for path in [*files, ROOT / "runner.py"]}
    long = {name: count for name, count in lines.items() if count > LONGEST_FILE}
    assert_none(f"{name} ({count} lines)" for name, count in long.items() if name not in LONG_FILES)
    assert set(LONG_FILES) <= set(long), "a file that may be long is not long any more"


def test_no_function_is_long():
    assert_none(
        f"{module.name}.{name} ({lines} lines)"
        for module in MODULES
        for name, lines in module.functions.items()
        if lines > LONGEST_FUNCTION
    )


def test_lines_of_functions_are_counted():
    nested = "class A:\n    def f(self):\n        def g():\n            pass\n        return g\n"
    assert Module("models.a", nested).functions == {"f, line 2": 4, "g, line 3": 2}


def test_every_module_of_some_length_has_its_test():
    missing = []
    for module in MODULES:
        parts = module.name.split(".")
        folder = ROOT.joinpath("tests", *(parts if module.package else parts[:-1]))
        if module.lines > TESTED_FROM and not (folder / f"test_{parts[-1]}.py").exists():
            missing.append(f"{module.name} ({module.lines} lines)")
    assert_none(missing)


def test_every_folder_of_tests_mirrors_one_of_the_tree():
    for folder in ("data", "genutil", "models", "pretrained"):
        for path in (ROOT / "tests" / folder).rglob("test_*.py"):
            home = ROOT / path.parent.relative_to(ROOT / "tests")
            assert home.is_dir(), f"{path.relative_to(ROOT)} mirrors no folder"


def test_no_private_attribute_of_others_is_read():
    found = [line for module in MODULES for line in module.foreign_private]
    assert_none(line for line in found if _key(line) not in FOREIGN_PRIVATE)
    assert set(FOREIGN_PRIVATE) <= {_key(line) for line in found}, "an exception that nothing needs any more"


def _key(line: str) -> str:
    module, name = line.split(": ")
    return f"{module.split(',')[0]}: {name}"


def test_private_attributes_of_others_are_found():
    source = """
from other import _hidden
class A:
    _limit = 3
    def __init__(self, other):
        self._own = other._theirs
        other._own = 1
        super()._parent()
        print(other._limit, other.__class__)
"""
    assert Module("models.a", source).foreign_private == [
        "models.a, line 2: _hidden",
        "models.a, line 6: _theirs",
    ]


def test_every_package_says_what_it_is_in_a_line():
    for module in MODULES:
        if module.package:
            said = ast.get_docstring(module.tree) or ""
            assert said, module.name
            assert "\n" not in said, module.name

"""What a plan consists of is the same in Python as in plan_spec.h, or the kernel is refused when it is loaded."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from pathlib import Path

import pytest

from models.native import library
from models.native.layout import LayoutError
from models.sparse import native
from models.sparse.native import NativeGraph, load_kernel
from tests.models.sparse.random_graphs import random_graph

pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler")
FAST = ("-O0", "-std=c++17", "-march=native", "-pthread")


def test_the_kernel_s_structs_are_python_s():
    load_kernel()


@pytest.mark.parametrize(
    ("name", "old", "new", "what"),
    [
        ("_LevelSpec", "tile", ctypes.c_int64, "the field LevelSpec.tile: 4 bytes at 28"),
        ("_LevelSpec", "eps", ctypes.c_int32, "the field LevelSpec.eps: 4 bytes at "),
        ("_PlanSpec", "constants", ctypes.c_void_p, "the field PlanSpec.constants: 4 bytes at "),
        ("_ScheduleSpec", "order", ctypes.c_int64, "the field ScheduleSpec.order: 8 bytes at "),
    ],
)
def test_a_changed_structure_of_python(name: str, old: str, new: type, what: str, monkeypatch: pytest.MonkeyPatch):
    fields = [(field, new if field == old else kind) for field, kind in getattr(native, name)._fields_]
    monkeypatch.setattr(native, name, type(name, (ctypes.Structure,), {"_fields_": fields}))
    graph, size = random_graph(0)
    with pytest.raises(LayoutError, match=re.escape(f"evaluation.cpp and Python do not agree about {what}")):
        NativeGraph(graph.pruned(size), size, 1)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (
            "int32_t node_begin, node_end;",
            "int32_t node_end, node_begin;",
            "the field ChunkSpec.node_begin: 4 bytes at 4",
        ),
        ("float eps;", "double eps;", "the field LevelSpec.eps: 8 bytes at "),
        ("SUM_COPIES, SUM_ROWS,", "SUM_ROWS, SUM_COPIES,", "the constant SUM_COPIES: 2 in C++, 1 in Python"),
        ("ROWS_AT_ONCE = 8", "ROWS_AT_ONCE = 4", "the constant ROWS_AT_ONCE: 4 in C++, 8 in Python"),
    ],
)
def test_a_changed_header(old: str, new: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "kept"))
    shutil.copytree(library.FOLDER, tmp_path / "native")
    header = tmp_path / "native/evaluation/plan_spec.h"
    text = header.read_text()
    assert text.count(old) >= 1
    header.write_text(text.replace(old, new, 1))
    monkeypatch.setattr(native, "SOURCE", tmp_path / "native/evaluation.cpp")
    with pytest.raises(RuntimeError, match=re.escape(f"evaluation.cpp and Python do not agree about {what}")):
        load_kernel(FAST)

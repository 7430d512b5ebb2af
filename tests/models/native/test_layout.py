"""A struct or constant that C++ and Python do not share alike is a sentence when the library is loaded."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.native import library, training
from models.native.layout import LayoutError, check_layout

pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler")
FAST = ("-O0", "-std=c++17")
SOURCE = """
#include "LAYOUT_H"

namespace {

constexpr int UNIT = 16;
enum Kind : int32_t { FIRST, SECOND };

struct Inner {
  uint32_t offset;
  float weight;
};

struct Outer {
  int32_t count;
  int64_t length;
  const float* place;
  int32_t window[4];
  Inner inner[2];
  double scale;
};

}  // namespace

extern "C" const char* wirings_layout() {
  static const std::string text = [] {
    Layout layout;
    LAYOUT_CONSTANTS(layout, UNIT, FIRST, SECOND);
    LAYOUT_STRUCT(layout, Inner, offset, weight);
    LAYOUT_STRUCT(layout, Outer, count, length, place, window, inner, scale);
    return layout.text();
  }();
  return text.c_str();
}
"""
INNER = np.dtype([("offset", np.uint32), ("weight", np.float32)])
INNER_FIELDS = [("offset", ctypes.c_uint32), ("weight", ctypes.c_float)]
CONSTANTS = {"UNIT": 16, "FIRST": 0, "SECOND": 1}


def structure(fields: list[tuple[str, type]]) -> type[ctypes.Structure]:
    return type("Made", (ctypes.Structure,), {"_fields_": fields})


def outer(**changes: type | None) -> type[ctypes.Structure]:
    """The struct of Python with other types for some fields; None leaves one out, a new name adds one."""
    fields: dict[str, type | None] = {
        "count": ctypes.c_int32,
        "length": ctypes.c_int64,
        "place": ctypes.c_void_p,
        "window": ctypes.c_int32 * 4,
        "inner": structure(INNER_FIELDS) * 2,
        "scale": ctypes.c_double,
        **changes,
    }
    return structure([(name, kind) for name, kind in fields.items() if kind is not None])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("layout")
    source = folder / "shared.cpp"
    source.write_text(SOURCE.replace("LAYOUT_H", str(library.FOLDER / "layout.h")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
        return library.load_library(source, FAST)


def test_what_is_shared_alike_is_accepted(made: ctypes.CDLL):
    check_layout(made, "shared.cpp", {"Inner": INNER, "Outer": outer()}, CONSTANTS)
    check_layout(made, "shared.cpp", {"Inner": structure(INNER_FIELDS), "Outer": outer()}, CONSTANTS)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"count": ctypes.c_float},
            "the field Outer.count: 4 bytes at 0 (signed) in C++, 4 bytes at 0 (floating point)",
        ),
        ({"count": ctypes.c_uint32}, "the field Outer.count: 4 bytes at 0 (signed) in C++, 4 bytes at 0 (unsigned)"),
        ({"length": ctypes.c_int32}, "the field Outer.length: 8 bytes at 8 (signed) in C++, 4 bytes at 4 (signed)"),
        ({"place": ctypes.c_int64}, "the field Outer.place: 8 bytes at 16 (pointer) in C++, 8 bytes at 16 (signed)"),
        ({"place": None}, "the field Outer.window: 16 bytes at 24 (signed) in C++, 16 bytes at 16"),
        ({"window": ctypes.c_int32 * 3}, "the field Outer.window: 16 bytes at 24 (signed) in C++, 12 bytes at 24"),
        ({"inner": ctypes.c_int64 * 2}, "the field Outer.inner: 16 bytes at 40 (struct) in C++, 16 bytes at 40"),
        ({"scale": None}, "the size of Outer: 64 bytes in C++, 56 bytes in Python"),
        ({"more": ctypes.c_int8}, "the field Outer.more: missing in C++, 1 bytes at 64"),
    ],
)
def test_a_struct_that_differs(made: ctypes.CDLL, changes: dict[str, type | None], what: str):
    with pytest.raises(LayoutError, match=re.escape(f"shared.cpp and Python do not agree about {what}")):
        check_layout(made, "shared.cpp", {"Inner": INNER, "Outer": outer(**changes)}, CONSTANTS)


def test_fields_in_another_order(made: ctypes.CDLL):
    swapped = np.dtype([("weight", np.float32), ("offset", np.uint32)])
    with pytest.raises(LayoutError, match=r"the field Inner\.weight: 4 bytes at 4 .* in C\+\+, 4 bytes at 0 "):
        check_layout(made, "shared.cpp", {"Inner": swapped, "Outer": outer()}, CONSTANTS)


@pytest.mark.parametrize(
    ("constants", "what"),
    [
        ({**CONSTANTS, "UNIT": 8}, "the constant UNIT: 16 in C++, 8 in Python."),
        ({**CONSTANTS, "THIRD": 2}, "the constant THIRD: missing in C++, 2 in Python."),
        ({"UNIT": 16, "FIRST": 0}, "the constant SECOND: 1 in C++, missing in Python."),
    ],
)
def test_constants_that_differ(made: ctypes.CDLL, constants: dict[str, int], what: str):
    with pytest.raises(RuntimeError, match=re.escape(what)):
        check_layout(made, "shared.cpp", {"Inner": INNER, "Outer": outer()}, constants)


def test_a_struct_that_only_one_side_knows(made: ctypes.CDLL):
    with pytest.raises(LayoutError, match=r"the size of Inner: 8 bytes in C\+\+, missing in Python\."):
        check_layout(made, "shared.cpp", {"Outer": outer()}, CONSTANTS)


def test_a_field_that_is_not_described_does_not_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    source = tmp_path / "forgotten.cpp"
    text = SOURCE.replace("LAYOUT_H", str(library.FOLDER / "layout.h"))
    source.write_text(
        text.replace("LAYOUT_STRUCT(layout, Inner, offset, weight)", "LAYOUT_STRUCT(layout, Inner, offset)")
    )
    with pytest.raises(library.NoCompilerError, match=r"forgotten\.cpp could not be compiled"):
        library.load_library(source, FAST)


def test_the_kernels_of_training_agree_and_a_moved_field_is_told():
    kernel = training.load_kernel()
    check_layout(kernel, "training.cpp", training.STRUCTURES, training.CONSTANTS)

    class Moved(ctypes.Structure):
        _fields_ = tuple(reversed(training.EdgeListSpec._fields_))

    with pytest.raises(LayoutError, match=r"training\.cpp and Python do not agree about the field EdgeList\.weight"):
        check_layout(kernel, "training.cpp", {**training.STRUCTURES, "EdgeList": Moved}, training.CONSTANTS)

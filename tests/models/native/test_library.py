"""The cache of compiled libraries: what is kept, what is trusted, what is compiled again."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.native import library

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "c++")) is None, reason="needs a C++ compiler")
FAST = ("-O0", "-std=c++17")
ANSWER = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text(ANSWER)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of kept libraries, empty; nothing is loaded yet."""
    return use_folder(tmp_path / "kept", monkeypatch)


def use_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets the next library be looked for in this folder. The loader would recognise a path that it has loaded."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))
    monkeypatch.setattr(library, "_loaded", {})
    return folder


def kept_files(folder: Path) -> tuple[Path, Path]:
    """The only library in the folder, and its sum."""
    (built,) = folder.glob("*.so")
    assert sorted(folder.iterdir()) == [built, built.with_name(f"{built.name}.sha256")]
    return built, built.with_name(f"{built.name}.sha256")


def test_a_library_is_compiled_once_and_kept(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    assert library.load_library(source, FAST).answer() == 42
    assert "Compiling answer.cpp" in capfd.readouterr().err
    built, beside = kept_files(folder)
    before = built.stat().st_mtime_ns
    use_folder(folder, monkeypatch)
    assert library.load_library(source, FAST).answer() == 42
    assert "Compiling" not in capfd.readouterr().err
    assert kept_files(folder) == (built, beside)
    assert built.stat().st_mtime_ns == before


def test_the_sum_is_what_the_tool_of_this_name_checks(source: Path, folder: Path):
    library.load_library(source, FAST)
    _, beside = kept_files(folder)
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--quiet", beside.name], cwd=folder, check=True)


def cut(built: Path, beside: Path) -> None:
    os.truncate(built, built.stat().st_size // 2)


def empty(built: Path, beside: Path) -> None:
    os.truncate(built, 0)


def flip_a_byte(built: Path, beside: Path) -> None:
    content = bytearray(built.read_bytes())
    content[len(content) // 2] ^= 0xFF
    built.write_bytes(content)


def text_instead(built: Path, beside: Path) -> None:
    built.write_text("not a library\n")


def text_with_its_sum(built: Path, beside: Path) -> None:
    """What the sum vouches for, and the loader refuses."""
    text_instead(built, beside)
    beside.write_bytes(library._sum_line(built.read_bytes(), built.name))


def another_library(built: Path, beside: Path) -> None:
    """Whole and with a sum of its own, under this name."""
    other = built.with_name("other.so")
    other_source = built.with_name("other.cpp")
    other_source.write_text('extern "C" int answer() { return 41; }\n')
    subprocess.run([*library.find_compiler(), "-shared", "-fPIC", str(other_source), "-o", str(other)], check=True)
    beside.write_bytes(library._sum_line(other.read_bytes(), other.name))
    other.replace(built)
    other_source.unlink()


def no_sum(built: Path, beside: Path) -> None:
    beside.unlink()


def empty_sum(built: Path, beside: Path) -> None:
    os.truncate(beside, 0)


def no_library(built: Path, beside: Path) -> None:
    built.unlink()


def a_pipe(built: Path, beside: Path) -> None:
    built.unlink()
    os.mkfifo(built)  # a reader would wait for ever


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        empty,
        flip_a_byte,
        text_instead,
        text_with_its_sum,
        another_library,
        no_sum,
        empty_sum,
        no_library,
        a_pipe,
    ],
)
def test_what_is_damaged_is_compiled_again(
    damage: Callable[[Path, Path], None],
    source: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd,
):
    assert library.load_library(source, FAST).answer() == 42
    other = tmp_path / "damaged"
    shutil.copytree(folder, other)
    damage(*kept_files(other))
    capfd.readouterr()
    use_folder(other, monkeypatch)
    assert library.load_library(source, FAST).answer() == 42
    assert "Compiling answer.cpp" in capfd.readouterr().err
    built, beside = kept_files(other)
    assert beside.read_bytes() == library._sum_line(built.read_bytes(), built.name)
    last = tmp_path / "mended"
    shutil.copytree(other, last)
    use_folder(last, monkeypatch)
    assert library.load_library(source, FAST).answer() == 42
    assert "Compiling" not in capfd.readouterr().err


@pytest.mark.parametrize("where", ["a file", "below a file", "a library is a folder"])
def test_a_folder_that_cannot_be_written(
    where: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    folder = tmp_path / "kept"
    if where == "a library is a folder":
        use_folder(tmp_path / "first", monkeypatch)
        library.load_library(source, FAST)
        (folder / kept_files(tmp_path / "first")[0].name).mkdir(parents=True)
    else:
        folder.write_text("")
        folder = folder / "deeper" if where == "below a file" else folder
    use_folder(folder, monkeypatch)
    assert library.load_library(source, FAST).answer() == 42
    error = capfd.readouterr().err
    assert "It cannot be kept, only used this time: " in error
    assert "Traceback" not in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    (tmp_path / "kept").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    use_folder(tmp_path / "kept", monkeypatch)
    assert library.load_library(source, FAST).answer() == 42
    assert "It cannot be kept" in capfd.readouterr().err


def test_no_place_at_all(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kept").write_text("")
    use_folder(tmp_path / "kept", monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(library.NoCompilerError, match=r"answer\.cpp could not be built with c\+\+: .*No such file"):
        library.load_library(source, FAST)


def test_without_a_home_nothing_is_kept(source: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(library, "_loaded", {})
    monkeypatch.setattr(Path, "home", no_home)
    assert library.load_library(source, FAST).answer() == 42


@pytest.mark.parametrize(("where", "total"), [("beside.h", 112), ("deeper/below.h", 121), ("deeper/deeper.h", 211)])
def test_a_change_of_any_included_file_compiles_again(
    where: str, total: int, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    (tmp_path / "deeper").mkdir()
    source = tmp_path / "sum.cpp"
    source.write_text('#include "beside.h"\nextern "C" int sum() { return BESIDE + BELOW + DEEPER; }\n')
    (tmp_path / "beside.h").write_text('#pragma once\n#  include "deeper/below.h"\n#define BESIDE 1\n')
    (tmp_path / "deeper/below.h").write_text('#pragma once\n#include "deeper.h"\n#define BELOW 10\n')
    (tmp_path / "deeper/deeper.h").write_text('#pragma once\n#include "../beside.h"\n#define DEEPER 100\n')
    (tmp_path / "stranger.h").write_text("")
    assert library.load_library(source, FAST).sum() == 111
    path = tmp_path / where
    path.write_text(path.read_text().replace("1", "2"))
    (tmp_path / "stranger.h").write_text("// changed\n")
    monkeypatch.setattr(library, "_loaded", {})
    assert library.load_library(source, FAST).sum() == total
    monkeypatch.setattr(library, "_loaded", {})
    (tmp_path / "stranger.h").write_text("// and again\n")
    capfd.readouterr()
    library.load_library(source, FAST)
    assert "Compiling" not in capfd.readouterr().err


def test_the_kernel_s_key_covers_every_file_of_its_folder():
    files = library.included(library.FOLDER / "evaluation.cpp")
    assert set(files) >= set((library.FOLDER / "evaluation").glob("*.h"))
    assert library.FOLDER / "vectors.h" in files


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from models.native import library
print(library.load_library(Path(sys.argv[1]), sys.argv[2:]).answer())
"""


def test_processes_that_compile_at_the_same_time(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(source), *FAST]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    results = [process.communicate() for process in processes]
    assert [out for out, _ in results] == ["42\n"] * 4, results
    assert all("cannot be kept" not in error for _, error in results)
    kept_files(folder)
    assert library.load_library(source, FAST).answer() == 42
    assert "Compiling" not in capfd.readouterr().err


def test_a_source_that_does_not_compile(tmp_path: Path, folder: Path):
    source = tmp_path / "wrong.cpp"
    source.write_text("this is no C++\n")
    with pytest.raises(
        library.NoCompilerError, match=r"^wrong\.cpp could not be compiled with .*error: .*\.$"
    ) as error:
        library.load_library(source, FAST)
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_no_compiler(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler -v")
    with pytest.raises(library.NoCompilerError, match=r"^There is no C\+\+ compiler \(no-such-compiler\) here\.$"):
        library.load_library(source, FAST)


def test_a_compiler_with_arguments(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    compiler = shutil.which("c++")
    monkeypatch.setenv("CXX", f"{compiler} -DUNUSED='a b'")
    assert library.load_library(source, FAST).answer() == 42

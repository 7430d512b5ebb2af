"""The example notebook: it is whole, shows what it made, and runs from the first cell to the last."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
MOST_BYTES = 600_000


def cells(kind: str) -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_every_cell_compiles_and_shows_no_error():
    for cell in cells("code"):
        compile("".join(cell["source"]), "a cell", "exec")
        assert all(output["output_type"] != "error" for output in cell["outputs"])


def test_it_was_run_in_order_and_shows_pictures():
    numbers = [cell["execution_count"] for cell in cells("code")]
    assert numbers == list(range(1, len(numbers) + 1))
    shown = [output.get("data", {}) for cell in cells("code") for output in cell["outputs"]]
    assert sum("image/png" in data for data in shown) >= 4
    assert NOTEBOOK.stat().st_size < MOST_BYTES


ABSOLUTE = re.compile(r"(?<![\w.:/])/\w+/")


def test_it_names_no_folder_of_the_machine_that_ran_it():
    assert ABSOLUTE.search("checkpoint: /srv/runs/last.pt")
    assert not ABSOLUTE.search("checkpoint: runs/last.pt, loss/edge")
    printed = [
        "".join(output.get("text", [])) for cell in cells("code") for output in cell["outputs"] if "text" in output
    ]
    assert not [found[0] for text in printed if (found := ABSOLUTE.search(text))]


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("NOTEBOOK_WORK", str(tmp_path))
    monkeypatch.setenv("NOTEBOOK_EPOCHS", "2")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    book = nbformat.read(NOTEBOOK, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 4
    assert (tmp_path / "checkpoints" / "notebook" / "digits.c").exists()

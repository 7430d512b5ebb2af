"""`runner.py graphs` and `runner.py records`."""

from __future__ import annotations

import pytest
import yaml

import data
from data.image_files import MAX_IMAGE_PIXELS
from genutil.cli import commands, subcommands
from genutil.errors import UserError
from genutil.saved import graph_files
from genutil.saved.sources import Sources
from tests.data import tfrecords
from tests.genutil.parts import settings_alone


def test_graphs_of_an_experiment_are_written_before_any_training(tmp_path, capsys):
    words = ["app:randwire/imagenet_regular_ws", "--seed", "3", "--save_path", str(tmp_path / "dags")]
    subcommands.execute("graphs", [*words, "--picture", str(tmp_path / "dags.svg")])
    out = capsys.readouterr().out
    assert out.count("WS(16, 4, 0.75) seed 3000000") == 1
    assert out.count("WS(32, 4, 0.75) seed") == 3
    assert "clustering" in out
    files = sorted((tmp_path / "dags").iterdir())
    assert [path.name for path in files] == [f"dag_{stage}.txt" for stage in range(4)]
    assert (tmp_path / "dags.svg").exists()
    subcommands.execute("graphs", ["--files", *map(str, files)])
    again = capsys.readouterr().out
    assert "dag_0.txt WS(16, 4, 0.75) seed 3000000" in again
    assert again.splitlines()[1].split()[-11:] == out.splitlines()[1].split()[-11:]


def test_a_ring_under_another_name_is_told(tmp_path, capsys):
    (tmp_path / "ws_4_075.txt").write_text("# name: WS(4, 0.75)\n0 1 2 4 5\n1 2 3 5\n2 3 4\n3 4 5\n4 5\n")
    subcommands.execute("graphs", ["--files", str(tmp_path / "ws_4_075.txt")])
    assert "WS(4, 0.75) is the ring lattice WS(6, 4, 0): no edge was ever rewired." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        ("graphs", ["app:quickstart"], "static has no random stages"),
        ("graphs", ["app:quickstart", "--files", "a.txt"], "has no use"),
        ("graphs", ["--files", "missing.txt"], "cannot be read"),
        ("graphs", ["app:randwire/mnist_ws", "--resume", "missing.pt"], "There is no checkpoint missing.pt"),
        ("graphs", [], "Name an experiment"),
        ("records", ["--output_dir", "o"], "give one of --image_dir"),
        ("records", ["--output_dir", "o", "--image_dir", "i"], "belong together"),
        ("records", ["--data", "digits"], "--output_dir"),
        ("records", ["--output_dir", "o", "--data", "digits", "--shards", "-3"], "files, not -3"),
        ("records", ["--output_dir", "o", "--data", "digits", "--shards", "0"], "files, not 0"),
        ("records", ["--output_dir", "o", "--raw_data_dir", "nowhere"], "there is no nowhere"),
        ("records", ["--output_dir", "o", "--data", "elephants", "--data_dir", "."], "there is no data set elephants"),
    ],
)
def test_mistakes_are_sentences(command, words, told, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        subcommands.execute(command, words)


def test_records_of_any_data_set(tmp_path, capsys):
    subcommands.execute("records", ["--data", "digits", "--output_dir", str(tmp_path / "digits_records")])
    assert "train: 1433 records written" in capsys.readouterr().out
    assert len(tfrecords.records(tmp_path / "digits_records" / "test.tfrecord")) == 364
    assert data.load("digits_records", tmp_path).classes == 10


def test_records_under_the_flags_of_the_tensorflow_projects(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(commands.record_writers, "write_labelled", lambda *given, **_: seen.append(given) or 1)
    monkeypatch.setattr(
        commands.record_writers, "write_imagenet", lambda *given, **others: seen.append((*given, others)) or {}
    )
    words = ["--image_dir", "i", "--label_dir", "l", "--output_dir", "o", "--output_filename", "test.tfrecord"]
    subcommands.execute("records", words)
    subcommands.execute("records", ["--raw_data_dir", "r", "--local_scratch_dir", "s", "--processes", "3"])
    monkeypatch.setattr(commands.record_writers, "write_image_set", lambda *given, **others: seen.append(others) or {})
    subcommands.execute("records", ["--data", "digits", "--output_dir", "o", "--shards", "4", "--processes", "3"])
    assert seen[2] == {"processes": 3}
    assert [str(part) for part in seen[0]] == ["i", "l", "o/test.tfrecord"]
    assert [str(part) for part in seen[1][:2]] == ["r", "s"]
    expected = {"train_shards": 1024, "validation_shards": 128, "processes": 3, "max_pixels": MAX_IMAGE_PIXELS}
    assert seen[1][2] == expected


def test_the_written_graphs_can_be_given_to_a_run(tmp_path):
    subcommands.execute("graphs", ["app:randwire/mnist_ws", "--save_path", str(tmp_path)])
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    experiment = commands.command_line.resolve(
        commands.command_line.parse(["app:randwire/mnist_ws", "--graph_files", *paths])
    )
    drawn = commands.command_line.resolve(commands.command_line.parse(["app:randwire/mnist_ws"]))
    assert graph_files.graphs(experiment) == graph_files.graphs(drawn)


@pytest.fixture
def run(tmp_path):
    """What a run on MNIST's smallest graphs leaves, as far as its graphs go: its settings and a checkpoint."""
    words = ["app:randwire/mnist_ws", "--graph_param", "6", "4", "0.75", "--graph_seed", "5"]
    experiment = graph_files.resolve(commands.command_line.resolve(commands.command_line.parse(words)), Sources())
    (tmp_path / "settings.yml").write_text(yaml.safe_dump(experiment.to_saved()))
    settings_alone(tmp_path / "last.pt", experiment.to_saved())
    return tmp_path


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["app:{run}/settings.yml"], "WS(6, 4, 0.75) seed 5000000"),
        (["app:{run}/settings.yml", "--seed", "77"], "WS(6, 4, 0.75) seed 5000000"),
        (["app:{run}/settings.yml", "--graph_seed", "77"], "WS(6, 4, 0.75) seed 77000000"),
        (["app:{run}/settings.yml", "--graph_model", "er", "--graph_param", "10", "0.4"], "ER(10, 0.4) seed 5000000"),
        (["app:{run}/settings.yml", "--graph_files", *["{run}/pair.txt"] * 3], "a pair"),
        (["app:randwire/mnist_ws", "--resume", "{run}/last.pt"], "WS(6, 4, 0.75) seed 5000000"),
        (["--resume", "{run}/last.pt"], "WS(6, 4, 0.75) seed 5000000"),
        (["--resume", "{run}/last.pt", "--graph_files", *["{run}/pair.txt"] * 3], "a pair"),
    ],
)
def test_a_runs_own_graphs_are_shown_unless_others_are_asked_for(run, capsys, words, shown):
    (run / "pair.txt").write_text("# name: a pair\n0 1\n")
    subcommands.execute("graphs", [word.format(run=run) for word in words])
    assert capsys.readouterr().out.splitlines()[1].startswith(shown)

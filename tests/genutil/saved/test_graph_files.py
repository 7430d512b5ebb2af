"""The graphs of an experiment: drawn, read, kept with its settings."""

from __future__ import annotations

import pytest

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved import graph_files
from genutil.saved.sources import Sources
from models.networks.random_graphs import draw, ring_lattice_k, to_text

SMALL = {"model": "randwire", "regime": "my_small_regime", "graph_param": [8, 4, 0.75], "channel_count": 4}


def experiment(**settings) -> Experiment:
    return Experiment.from_settings(SMALL | settings)


def resolve(asked: Experiment) -> Experiment:
    return graph_files.resolve(asked, Sources())


def test_graphs_are_drawn_by_the_seed_and_kept_in_the_settings():
    resolved = resolve(experiment(seed=5))
    assert len(resolved.stage_graphs) == 2
    again = Experiment.from_saved(resolved.to_saved())
    assert resolve(again.but(seed=9)) == again.but(seed=9)
    assert graph_files.graphs(again) == graph_files.graphs(experiment(seed=5))
    assert graph_files.graphs(experiment(seed=6)) != graph_files.graphs(again)
    assert graph_files.graphs(experiment(seed=6, graph_seed=5)) == graph_files.graphs(again)


def test_other_networks_have_no_graphs():
    other = Experiment.from_settings({"model": "mobilenetv1"})
    assert resolve(other) is other


@pytest.mark.parametrize(("ending", "form"), graph_files.FORMS.items())
def test_graph_files_are_read_by_their_ending(tmp_path, ending, form):
    paths = []
    for stage in range(2):
        paths.append(tmp_path / f"dag_{stage}{ending}")
        paths[-1].write_text(to_text(draw("er", (6, 0.5), stage), form))
    resolved = resolve(experiment(graph_files=[str(path) for path in paths]))
    assert resolved.graph_files == []
    assert [graph.edges for graph in graph_files.graphs(resolved)] == [draw("er", (6, 0.5), s).edges for s in range(2)]


def test_written_graphs_are_read_again(tmp_path):
    found = graph_files.graphs(experiment())
    paths = graph_files.write(found, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["dag_0.txt", "dag_1.txt"]
    assert tuple(map(graph_files.read, paths)) == found


def test_mistakes_are_told(tmp_path):
    broken = tmp_path / "dag_0.txt"
    broken.write_text("0 1\n1 0\n")
    with pytest.raises(UserError, match=r"dag_0\.txt: the graph has a cycle: 0 -> 1 -> 0\.$"):
        graph_files.read(broken)
    broken.write_bytes(b"0 1\n\xff\xfe")
    with pytest.raises(UserError, match=r"dag_0\.txt is no text: its byte 4 is not UTF-8\.$"):
        graph_files.read(broken)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        graph_files.read(tmp_path / "dag_1.txt")
    with pytest.raises(UserError, match=r"must end in \.txt"):
        graph_files.read(tmp_path / "dag.yaml")
    with pytest.raises(UserError, match="from 2 to 7"):
        resolve(experiment(graph_param=[8, 9, 0.5]))
    with pytest.raises(UserError, match="no random stage"):
        resolve(experiment(stages=2))
    with pytest.raises(UserError, match=r"stage_graphs, number 0: .*cycle"):
        graph_files.graphs(experiment(stage_graphs=["0 1\n1 0\n"] * 2))
    with pytest.raises(UserError, match="keep one of them"):
        experiment(graph_files=["a.txt"], stage_graphs=["0 1\n"])
    with pytest.raises(UserError, match=r"must end in \.png or \.svg"):
        graph_files.write_picture(graph_files.graphs(experiment()), tmp_path / "graph.pdf")


def test_a_ring_lattice_is_noticed():
    resolved = resolve(experiment(graph_param=[8, 4, 0]))
    assert ring_lattice_k(graph_files.graphs(resolved)[0]) == 4
    assert [told.split(":")[0] for told in graph_files.notices(resolved)] == ["Random stage 0", "Random stage 1"]
    assert list(graph_files.notices(resolve(experiment()))) == []


def test_pictures_are_of_the_kind_their_name_says(tmp_path):
    found = graph_files.graphs(experiment())
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml")):
        graph_files.write_picture(found, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"graph": "dnw", "prune_rate": 0.9}, "randwire needs graph_model: complete"),
        ({"model": "mobilenetv1", "stages": 4}, "stages counts those of randwire"),
        ({"train_records": "a.tfrecord"}, "belong to data: records"),
        ({"warmup_steps": 3, "warmup_epochs": 1}, "give one of them"),
        ({"optimizer": "adam", "nesterov": True}, "nesterov is a form of sgd"),
        ({"dropout_rate": 1.0}, "dropout_rate must be a number, at least 0 and below 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        experiment(**settings)

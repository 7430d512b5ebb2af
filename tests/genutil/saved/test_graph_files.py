"""The graphs of an experiment: drawn, read, kept with its settings."""

from __future__ import annotations

import gzip
import os
import pickle

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
        graph_files.read(tmp_path / "dag.doc")
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


COUNTED = "4\n5\n0 1\n0 2\n1 2\n1 3\n2 3\n"
"""As github.com/seungwonpark/RandWireNN writes graphs: the number of nodes, that of edges, the edges."""
EDGES = ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3))


@pytest.mark.parametrize("change", [bytes, gzip.compress, lambda data: b"\xef\xbb\xbf" + data])
@pytest.mark.parametrize("ending", [".txt", ".TXT", ".edgelist", ".adjlist", ".Edges"])
@pytest.mark.parametrize("text", [COUNTED, COUNTED.replace("\n", "\r\n"), COUNTED[4:]])
def test_forms_of_others_are_read(tmp_path, change, ending, text):
    path = tmp_path / f"graph{ending}"
    path.write_bytes(change(text.encode()))
    assert graph_files.read(path).edges == EDGES
    path.rename(tmp_path / f"graph{ending}.gz")
    assert graph_files.read(tmp_path / f"graph{ending}.gz").edges == EDGES


def test_a_graph_as_the_public_repository_ships_it(tmp_path):
    edges = [(node, node + step) for node in range(34) for step in (1, 2) if node + step < 34] + [
        (0, 32),
        (0, 33),
        (1, 33),
    ]
    (tmp_path / "ws.txt").write_text("34\n68\n" + "".join(f"{u} {v}\n" for u, v in sorted(edges)))
    graph = graph_files.read(tmp_path / "ws.txt")
    assert (graph.nodes, len(graph.edges), graph.outputs) == (34, 68, (33,))


@pytest.mark.parametrize("text", ["4\n4\n0 1\n0 2\n1 2\n1 3\n2 3\n", "3\n5\n0 1\n0 2\n1 2\n1 3\n2 3\n"])
def test_counts_that_do_not_fit_are_no_counts(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=r"a\.txt: "):
        graph_files.read(tmp_path / "a.txt")


YAML = "!!python/object:networkx.classes.digraph.DiGraph\n_adj: {}\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.gpickle", b"x", "pickle, which is not read.*networkx.write_adjlist"),
        ("a.pkl.gz", b"x", "pickle, which is not read"),
        ("a.yaml", YAML.encode(), "old YAML, which is not read.*networkx.write_adjlist"),
        ("a.txt", YAML.encode(), "networkx's old YAML, which is not read"),
        ("a.txt", pickle.dumps({}), "pickle, which is not read"),
        ("a.txt", gzip.compress(b"0 1")[:-9], "is damaged: its compressed contents"),
        ("a.txt", b"\x1f\x8bxx", r"a\.txt is damaged: "),
        ("a.txt", b"900000000\n1\n0 1\n", "disconnected: it has 900000000 nodes and 1 edges"),
        ("a.txt", b"word " * 10_000, "line 1 holds 'word word"),
        ("a.txt", b"0 1\n1 " + b"9" * 5000, "line 2 holds"),
        ("a.txt", "\n".join(f"{n} {(n + 1) % 5000}" for n in range(5000)).encode(), "has a cycle: "),
        ("a.graphml", b"<a " + b"b" * 9000, "no GraphML"),
        ("a" * 200 + ".doc", b"0 1", "is no graph file"),
        ("a" * 200 + ".txt", b"x", "line 1 holds 'x'"),
        ("a.txt", gzip.compress(bytes((64 << 20) + 1)), "holds more than 64 MiB"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_read_is_told_in_short(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        graph_files.read(tmp_path / name)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"a\.txt is a pipe, not a regular file"):
        graph_files.read(tmp_path / "a.txt")

from __future__ import annotations

import pytest

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.settings import app_files


@pytest.fixture
def apps(tmp_path):
    """A small folder of apps."""

    def write(name, text):
        path = tmp_path / "apps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write("base/data.yml", "data: cifar10\nbatch_size: 7\n")
    write("large/base.yml", "base: base/data.yml\nlr: 0.5\nbatch_size: 8\n")
    write("large/wired.yml", "# Wired, large\nbase: base.yml\ngraph: dnw\n")
    write("large/only.yml", "lr: 1\n")
    write("small/wired.yml", "base: ../large/wired.yml\nlr: 0.25\n")
    write("first.yml", "#\nlr: 2\n")
    write.folder = tmp_path / "apps"
    return write


def test_bases_are_no_experiments(apps):
    names = [app_files.app_name(path, apps.folder) for path in app_files.experiments(apps.folder)]
    assert names == ["first", "large/only", "large/wired", "small/wired"]


def test_an_app_inherits_along_the_line(apps):
    app = app_files.read(apps.folder / "small/wired.yml", apps.folder)
    assert app.settings == {"data": "cifar10", "batch_size": 8, "lr": 0.25, "wiring": "dnw"}
    assert app.origins["lr"].endswith("small/wired.yml)")
    assert app.origins["batch_size"].endswith("large/base.yml)")


def test_graphs_that_a_base_keeps_give_way_to_others(apps):
    apps("run/settings.yml", 'graph_model: ws\nstage_graphs: ["0 1"]\n')
    for own, kept in (("lr: 1", ["0 1"]), ("graph_seed: 7", None), ('stage_graphs: ["0 1 2"]', ["0 1 2"])):
        path = apps("own.yml", f"base: run/settings.yml\n{own}\n")
        assert app_files.read(path, apps.folder).settings.get("stage_graphs") == kept


def test_options_of_a_base_without_a_wiring_are_for_those_that_take_them(apps):
    apps("options.yml", "wiring_interval: 5\nrho: 0.5\n")
    for own, kept in (("wiring: rigl", {"wiring_interval": 5}), ("graph: td", {"rho": 0.5}), ("lr: 1", {})):
        settings = app_files.read(apps("own.yml", f"base: options.yml\n{own}\n"), apps.folder).settings
        assert {key: settings[key] for key in ("wiring_interval", "rho") if key in settings} == kept


@pytest.mark.parametrize("where", ["beside", "above", "alone"])
def test_an_option_that_the_rule_does_not_take_is_refused(apps, where):
    apps("wired.yml", "wiring: dnw\n" + "rho: 0.5\n" * (where == "beside"))
    text = {"beside": "base: wired.yml", "above": "base: wired.yml\nrho: 0.5", "alone": "wiring: dnw\nrho: 0.5"}[where]
    app = app_files.read(apps("own.yml", text), apps.folder)
    with pytest.raises(UserError, match=r"^rho is an option of td, reg_td, and wiring is dnw\.$"):
        Experiment.from_settings(app.settings, app.origins)


def test_a_file_that_names_two_rules_is_refused(apps):
    with pytest.raises(UserError, match="graph is the old name of wiring, and they differ: td and dnw"):
        app_files.read(apps("own.yml", "graph: td\nwiring: dnw\n"), apps.folder)
    app = app_files.read(apps("own.yml", "graph: dwn\n"), apps.folder)
    with pytest.raises(UserError, match=r"^graph \(in .*own\.yml\) must be one of complete"):
        Experiment.from_settings(app.settings, app.origins)


@pytest.mark.parametrize(
    "name", ["only", "only.yml", "large/only", "large/only.yml", "apps/large/only", "apps/large/only.yml"]
)
def test_finds_an_app_by_the_end_of_its_path(apps, name):
    assert app_files.find(name, apps.folder) == apps.folder / "large/only.yml"


def test_finds_a_file_anywhere(apps, tmp_path, monkeypatch):
    path = apps("../mine/own.yml", "lr: 1\n")
    assert app_files.find(str(path), apps.folder) == path
    assert app_files.find(str(path.with_suffix("")), apps.folder) == path
    monkeypatch.chdir(path.parent)
    assert app_files.find("own", apps.folder).resolve() == path.resolve()
    assert app_files.app_name(path, apps.folder) == "own"


def test_an_ambiguous_name_lists_what_it_may_mean(apps):
    with pytest.raises(UserError, match=r"^app:wired is ambiguous; which one is meant: large/wired, small/wired\?$"):
        app_files.find("wired", apps.folder)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("firts", "first"),
        ("onyl.yml", "large/only"),
        ("smal/wired", "small/wired"),
        ("lrage/wired.yml", "large/wired"),
        ("..", ""),
    ],
)
def test_a_missing_app_names_the_nearest(apps, name, nearest):
    with pytest.raises(UserError, match=f"^There is no app .*; the nearest is {nearest}"):
        app_files.find(name, apps.folder)


def test_an_app_needs_a_name(apps):
    with pytest.raises(UserError, match=r"^app: needs the name of an experiment"):
        app_files.find("", apps.folder)


def test_descriptions_are_first_comments(apps):
    assert app_files.description(apps.folder / "large/wired.yml") == "Wired, large"
    assert app_files.description(apps.folder / "large/only.yml") == ""
    assert app_files.description(apps.folder / "first.yml") == ""


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c")])
def test_a_circle_of_bases_is_refused(apps, names):
    for name, base in zip(names, names[1:] + names[:1], strict=True):
        path = apps(f"{name}.yml", f"base: {base}.yml\n")
    with pytest.raises(UserError, match="as its base, which inherits from it in turn"):
        app_files.read(path, apps.folder)


@pytest.mark.parametrize("base", ["base: absent.yml", "base: absent", "base: [first.yml]", "base: large"])
def test_a_base_that_is_no_file_is_refused(apps, base):
    path = apps("new.yml", f"{base}\nlr: 1\n")
    with pytest.raises(UserError, match=r"new\.yml names the base .*, and there is no such file"):
        app_files.read(path, apps.folder)


def test_the_leftover_base_of_a_generated_file_is_ignored(apps):
    path = apps("gen/base=first_lr=3.yml", "base: first\ntitle: base=first_lr=3\nlr: 3\ntopk: [1, 5]\n")
    assert app_files.read(path, apps.folder).settings == {"lr": 3}


def test_the_last_of_two_equal_keys_holds(apps):
    path = apps("twice.yml", "lr: 0.1\nlr: 0.01\n")  # an app of 2019 does that
    assert app_files.read(path, apps.folder).settings == {"lr": 0.01}


def test_dashes_and_underscores_are_alike(apps):
    assert app_files.read(apps("dash.yml", "batch-size: 3\n"), apps.folder).settings == {"batch_size": 3}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"lr: [1, 2\n", r"is not valid YAML: .* \(line 2\)"),
        (b"lr: 1\n---\nlr: 2\n", "holds 2 experiments, and one is wanted here"),
        (b"lr: !!python/object/apply:os.getcwd []\n", "is not valid YAML: could not determine a constructor"),
        (b"a: &a [*b]\n", "is not valid YAML: .*undefined alias"),
        (b"", "holds no settings"),
        (b"- 1\n", "holds no settings"),
        (b"just words\n", "holds no settings"),
        (b"lr: \xff\xfe\n", "is not valid YAML: .*decode"),
        (b"lr: 2019-99-99\n", "states lr: 2019-99-99 .line 1., which YAML reads as a date"),
        (b"lr: " + b"[" * 100_000, "is not valid YAML: "),
    ],
)
def test_a_file_that_is_no_app_is_told_in_a_sentence(apps, content, fault):
    path = apps("broken.yml", "")
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"broken\.yml {fault}") as mistake:
        app_files.read(path, apps.folder)
    assert "\n" not in str(mistake.value)


def test_documents_are_experiments_of_their_own(apps):
    path = apps("many.yaml", "base: large/base.yml\nlr: 3\n---\n---\ndata: mnist\n---\n")
    assert app_files.count(path) == 2
    assert app_files.read(path, apps.folder, document=0).settings == {"data": "cifar10", "batch_size": 8, "lr": 3}
    assert app_files.read(path, apps.folder, document=1).settings == {"data": "mnist"}
    assert app_files.app_name(path, apps.folder) == "many"
    with pytest.raises(UserError, match=r"many\.yaml holds 2 experiments"):
        app_files.read(apps("heir.yml", "base: many.yaml\n"), apps.folder)


def test_a_folder_is_no_app_file(apps):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        app_files.read(apps.folder, apps.folder)

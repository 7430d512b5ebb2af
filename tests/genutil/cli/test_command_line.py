from __future__ import annotations

import pytest
import torch

from genutil.cli.command_line import parse, resolve
from genutil.errors import UserError
from tests.genutil.parts import settings_alone


def settings(*words):
    return parse(words).settings


def experiment(*words, environment=None):
    return resolve(parse(words), environment or {})


def test_an_experiment_and_its_settings_in_any_order():
    for words in (("app:quickstart", "--lr", "0.5"), ("--lr", "0.5", "app:quickstart")):
        line = parse(words)
        assert (line.app, line.settings, line.help) == ("quickstart", {"lr": "0.5"}, False)


def test_lists_end_at_the_next_option_or_app():
    expected = {"gpus": ["0", "1", "2", "3"], "evaluate": True}
    assert settings("--gpus", "0", "1", "2", "3", "--evaluate") == expected
    assert settings("--evaluate", "--gpus", "0", "1", "2", "3", "app:quickstart") == expected


@pytest.mark.parametrize("words", [("80,120",), ("80", "120"), ("[80,", "120]"), ("[80,120]",)])
def test_lists_take_commas_and_brackets(words):
    assert settings("--multistep_lr_milestones", *words) == {"multistep_lr_milestones": ["80", "120"]}


@pytest.mark.parametrize(("words", "gpus"), [(("none",), None), (("[]",), []), (("1",), [1]), (("1,0",), [1, 0])])
def test_gpus_all_none_or_some(words, gpus):
    assert experiment("app:quickstart", "--gpus", *words).gpus == gpus


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("--verify",), True),
        (("--no-verify",), False),
        (("--no_verify",), False),
        (("--noverify",), False),
        (("--verify", "false"), False),
        (("--verify=False",), False),
        (("--verify", "0"), False),
        (("--verify", "yes"), True),
        (("--noverify", "--verify"), True),
    ],
)
def test_switches(words, value):
    assert settings(*words) == {"verify": value}


def test_names_with_dashes_or_underscores():
    for name in ("--skip-profiling", "--skip_profiling"):
        assert settings(name, "--batch-size=8", "--save_dir", "x") == {
            "skip_profiling": True,
            "batch_size": "8",
            "save_dir": "x",
        }
    assert settings("--no-skip-profiling", "--num-nodes", "2") == {"skip_profiling": False, "num_nodes": "2"}


def test_negative_numbers_are_values():
    assert settings("--lr", "-1e-3") == {"lr": "-1e-3"}
    assert settings("--mean", "-.5", "-1", "0") == {"mean": ["-.5", "-1", "0"]}
    assert settings("--lr=-2") == {"lr": "-2"}


def test_values_may_hold_what_looks_like_syntax():
    assert settings("--save_dir", "a=b", "--log-dir=c=d") == {"save_dir": "a=b", "log_dir": "c=d"}
    assert settings("--resume", "pretrained:dnw_x225") == {"resume": "pretrained:dnw_x225"}
    assert settings("--resume=") == {"resume": ""}


def test_spellings_of_2019():
    read_2019 = experiment("app:quickstart", "--nestorov", "--random_seed", "7", "--lr_scheduler", "exp_decaying")
    assert (read_2019.nesterov, read_2019.seed, read_2019.lr_scheduler) == (True, 7, "exponential")
    assert not experiment("app:quickstart", "--nesterov", "--nonestorov").nesterov


@pytest.mark.parametrize("key", ["--graph", "--wiring"])
def test_both_names_of_the_rule(key):
    assert experiment("app:quickstart", key, "rigl", "--wiring-interval", "10").rule_options["interval"] == 10
    assert experiment("app:quickstart", key, "rigl").wiring == "rigl"
    assert experiment("app:quickstart", "--graph", "set", "--wiring", "set").wiring == "set"
    with pytest.raises(UserError, match=rf"^{key} must be one of complete, .*, not 'rgil'\.$"):
        experiment("app:quickstart", key, "rgil")
    with pytest.raises(UserError, match=r"^graph is the old name of wiring, and they differ: dnw and set\. Give one"):
        experiment("app:quickstart", "--graph", "dnw", "--wiring", "set")


def test_an_option_that_the_rule_does_not_take_is_refused():
    with pytest.raises(
        UserError, match=r"^wiring_interval is an option of gradual_magnitude, set, rigl, and wiring is dnw\.$"
    ):
        experiment("app:quickstart", "--wiring_interval", "10")
    with pytest.raises(UserError, match=r"^str_decay is an option of str, and wiring is rigl\.$"):
        experiment("app:quickstart", "--wiring", "rigl", "--str_decay", "0.1")
    assert experiment("app:quickstart", "--wiring_interval", "100").wiring_interval == 100, "the default"


def test_options_of_the_apps_rule_give_way_to_another_rule(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("wiring: td\nrho: 0.5\n")
    assert experiment(f"app:{path}").rho == 0.5
    assert experiment(f"app:{path}", "--wiring", "reg_td").rho == 0.5
    assert experiment(f"app:{path}", "--wiring", "dnw").rho == 0.95
    with pytest.raises(UserError, match=r"^rho is an option of td, reg_td, and wiring is dnw\.$"):
        experiment(f"app:{path}", "--wiring", "dnw", "--rho", "0.25")


@pytest.mark.parametrize(("rule", "rho"), [("td", 0.5), ("dnw", 0.95)])
def test_files_of_2019_carry_rho_with_any_graph(tmp_path, rule, rho):
    path = tmp_path / "old.yml"
    path.write_text(f"model: models.graphs.neuralgraph:StaticNeuralGraph\ngraph: {rule}\nrho: 0.5\n")
    read_2019 = experiment(f"app:{path}")
    assert (read_2019.wiring, read_2019.rho) == (rule, rho)
    assert experiment(f"app:{path}", "--graph", "td").rho == 0.5


def test_the_command_line_wins_over_the_app_and_types_are_made():
    changed = experiment("app:static_dnw", "--batch_size", "8", "--lr", "5e-2", "--gpus", "1", "0", "--evaluate")
    assert (changed.batch_size, changed.lr, changed.gpus, changed.evaluate) == (8, 0.05, [1, 0], True)
    assert changed.lr_scheduler == "multistep"


def test_a_run_is_called_by_its_app():
    assert experiment("app:static_dnw").name == "small_scale/static_dnw"
    assert experiment("app:static_dnw", "--name", "mine").name == "mine"


def test_data_dir_from_the_environment():
    environment = {"DATA_DIR": "/from/environment"}
    assert experiment("app:quickstart").data_dir is None
    assert experiment("app:quickstart", environment=environment).data_dir == "/from/environment"
    assert experiment("app:quickstart", "--data-dir", "/given", environment=environment).data_dir == "/given"


def test_help():
    assert parse([]).help
    assert parse(["--help"]).help
    assert parse(["app:quickstart", "-h"]).help
    assert not parse(["app:quickstart"]).help


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--lr"], "--lr needs a value: a number, at least 0."),
        (["--gpus", "--evaluate"], "--gpus needs a value: a list of whole numbers, each at least 0."),
        (["--lr", "1", "2"], "--lr takes one value, not 2: 1 2."),
        (["--lr=1", "2"], "--lr takes one value, not 2: 1 2."),
        (["--evaluate", "maybe"], "--evaluate is true or false, not maybe."),
        (["--evaluate", "true", "false"], "--evaluate is true or false, not true false."),
        (["--no-evaluate", "true"], "--no-evaluate takes no value; it is --evaluate false."),
        (["--no-lr"], "--no-lr is not a setting; the nearest is --lr."),
        (["--learning-rate", "1"], "--learning-rate is not a setting; the nearest is --lr."),
        (["--epochs", "1"], "--epochs is not a setting; the nearest is --num_epochs."),
        (["-lr", "1"], "-lr is no option; options begin with two dashes, as --lr."),
        (
            ["quickstart"],
            "quickstart belongs to no option; give an experiment as app:<name>, a setting as --key value.",
        ),
        (["app:a", "app:b"], "Two experiments are given, a and b; run one at a time."),
    ],
)
def test_a_mistake_is_told_in_a_sentence(words, sentence):
    with pytest.raises(UserError) as mistake:
        parse(words)
    assert str(mistake.value) == sentence


def test_something_must_name_the_experiment():
    with pytest.raises(UserError, match=r"^Name an experiment, app:<name>, or a checkpoint, --resume CKPT"):
        experiment("--evaluate")


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the quickstart as far as settings go."""
    saved = experiment("app:quickstart", "--lr", "0.3", "--gpus", "1", "--data-dir", "/there").to_saved()
    return str(settings_alone(tmp_path / "last.pt", saved))


def test_a_checkpoint_needs_no_app(checkpoint):
    words = ["--resume", checkpoint, "--evaluate", "--batch_size", "7"]
    again = experiment(*words, environment={"DATA_DIR": "/here"})
    assert (again.name, again.data, again.wiring, again.lr) == ("quickstart", "digits", "dnw", 0.3)
    assert (again.resume, again.evaluate, again.batch_size) == (checkpoint, True, 7)
    assert (again.gpus, again.data_dir) == (None, "/here")


def test_an_app_beside_a_checkpoint_is_what_counts(checkpoint):
    assert experiment("app:quickstart", "--resume", checkpoint).lr != 0.3


def test_a_checkpoint_without_settings_needs_an_app(checkpoint, tmp_path):
    foreign = tmp_path / "foreign.pt"
    torch.save({"model": {}}, foreign)
    with pytest.raises(UserError, match=r"foreign\.pt holds no settings of its own; name its experiment as well"):
        experiment("--resume", str(foreign))
    with pytest.raises(UserError, match=r"absent\.pt"):
        experiment("--resume", str(tmp_path / "absent.pt"))


@pytest.mark.parametrize("word", ["app:\udcff", "--name=\udcff", "--data_dir\0"])
def test_words_that_are_no_text_are_told(word):
    with pytest.raises(UserError, match="is no text in the encoding of this system"):
        parse([word])

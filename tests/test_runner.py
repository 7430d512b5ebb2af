from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import runner
from data import SETS
from genutil.cli import command_line
from genutil.config import KEYS
from genutil.errors import UserError
from models.wirings.registry import WIRINGS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run_is(monkeypatch):
    """Let the runner hand its experiment to a function of the test, in place of a training of minutes."""

    def replace(function):
        module = types.ModuleType("genutil.run")
        module.run = function
        monkeypatch.setitem(sys.modules, "genutil.run", module)

    return replace


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words, **options):
    command = [sys.executable, str(ROOT / "runner.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_without_arguments_it_lists_the_experiments(capsys):
    assert runner.main([]) == 0
    out = capsys.readouterr().out
    assert "runner.py app:<experiment>" in out
    for name in ("quickstart", "large_scale/mobilenetv1_dnw_x225", "small_scale/static_dnw"):
        assert f"\n  {name} " in out
    assert "base" not in out


def test_help_lists_every_key_as_well(capsys):
    assert runner.main(["app:quickstart", "--help"]) == 0
    out = capsys.readouterr().out
    for key, field in KEYS.items():
        assert f"  --{key} " in out
        assert field.description.split()[0] in out
    for name, entry in SETS.items():
        assert re.search(rf"^  {name} +{entry.classes or ''} *{re.escape(entry.files)}$", out, re.MULTILINE)
    for name, rule in WIRINGS.items():
        assert f"\n  {name} " in out
        assert rule.description in out
    assert "a soft threshold is learned; takes str_initial, str_decay" in out


def test_help_needs_no_torch():
    code = f"import sys, runner; runner.main({['--help']!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_help_works_from_any_folder(tmp_path):
    answer = call(cwd=tmp_path)
    assert answer.returncode == 0
    assert "\n  quickstart " in answer.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["app:quickstart", "--learning_rate", "1"], "--learning_rate is not a setting; the nearest is --lr."),
        (["app:quickstart", "--lr", "fast"], "--lr must be a number, at least 0, not 'fast'."),
        (["app:quickstart", "--batch_size", "0.5"], "--batch_size must be a whole number, at least 1, not '0.5'."),
        (["app:quickstart", "--prune_rate", "-1"], "--prune_rate must be a number, at least 0 and below 1, not '-1'."),
        (["app:quickstart", "--nesterov", "--momentum", "0"], "nesterov needs a momentum above 0."),
        (["app:quikstart"], "There is no app quikstart; the nearest is quickstart."),
        (
            ["app:random_graph_x49.yml"],
            "There is no app random_graph_x49.yml; the nearest is large_scale/mobilenetv1_random_graph_x49.",
        ),
        (
            ["app:static_dnw", "app:quickstart"],
            "Two experiments are given, static_dnw and quickstart; run one at a time.",
        ),
        (
            ["--resume", "auto"],
            "--resume auto needs an experiment, app:<name>, whose newest checkpoint is looked for.",
        ),
        (["--evaluate"], "Name an experiment, app:<name>, or a checkpoint, --resume CKPT; --help lists them."),
    ],
)
def test_a_mistake_ends_in_a_sentence_and_status_2(words, message, capsys, empty_folder):
    assert runner.main(words) == 2
    output = capsys.readouterr()
    assert output.err == message + "\n"
    assert output.out == ""
    assert not list(empty_folder.iterdir())


def test_an_ambiguous_app_lists_its_candidates(capsys):
    assert runner.main(["app:mobilenetv1_dnw_x225"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("app:mobilenetv1_dnw_x225 is ambiguous")
    assert "large_scale/mobilenetv1_dnw_x225" in message
    assert "medium_scale/mobilenetv1_dnw_x225" in message


def test_a_mistake_in_a_file_names_the_file(capsys, empty_folder):
    Path("mine.yml").write_text("base: base/cifar10.yml\nlr: fast\n")
    assert runner.main(["app:mine.yml"]) == 2
    assert capsys.readouterr().err == "lr (in mine.yml) must be a number, at least 0, not 'fast'.\n"
    Path("mine.yml").write_text("lr_schedular: cosine\n")
    assert runner.main(["app:mine"]) == 2
    assert capsys.readouterr().err == "lr_schedular (in mine.yml) is not a setting; the nearest is lr_scheduler.\n"


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    answer = call("app:quickstart", "--gpu", "0", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "--gpu is not a setting; the nearest is --gpus.\n"
    assert not list(tmp_path.iterdir())


def test_a_mistake_that_shows_in_the_run(run_is, capsys):
    def run(experiment, sources):
        raise UserError("GPU 7 is not there.")

    run_is(run)
    assert runner.main(["app:quickstart", "--gpus", "7"]) == 2
    assert capsys.readouterr().err == "GPU 7 is not there.\n"


def test_the_run_gets_the_experiment(run_is):
    seen = []
    run_is(lambda experiment, sources: seen.append(experiment))
    words = ["app:medium_scale/mobilenetv1_x25.yml", "--data-dir", "/data", "--noevaluate", "--json", "out.json"]
    assert runner.main(words) == 0
    (experiment,) = seen
    assert (experiment.model, experiment.width_mult) == ("mobilenetv1", 0.25)
    assert (experiment.data_dir, experiment.evaluate, experiment.json_file) == ("/data", False, "out.json")


def test_an_interrupted_run_ends_quietly(run_is, capsys):
    def run(experiment, sources):
        raise KeyboardInterrupt

    run_is(run)
    assert runner.main(["app:quickstart"]) == 130
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_keeps_its_traceback(run_is):
    run_is(lambda experiment, sources: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.main(["app:quickstart"])


def test_a_closed_pipe_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, str(ROOT / "runner.py"), "--help"]
    answer = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (answer.returncode, answer.stderr) == (141, "")


def test_a_published_network_needs_no_app(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NEURAL_WIRINGS_CACHE", str(tmp_path))
    line = command_line.parse(["--resume", "pretrained:dnw_small_x15", "--evaluate", "--data-dir", "d"])
    experiment = command_line.resolve(line)
    assert (experiment.name, experiment.prune_rate, experiment.small) == (None, 0.85, True)
    assert (experiment.data, experiment.data_dir, experiment.evaluate) == ("imagenet", "d", True)
    assert runner.main(["--resume", "pretrained:dnw_small_15", "--evaluate"]) == 2
    assert "did you mean dnw_small_x15?" in capsys.readouterr().err


def test_letters_that_a_locale_lacks_are_printed_as_their_numbers(tmp_path):
    (tmp_path / "ß.yml").write_text("base: quickstart.yml\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(ROOT / "runner.py"), f"app:{tmp_path}/ß.yml", "--profile", "--depth", "20"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("--depth has no effect")
    words[2] = "app:ü"
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("There is no app \\xfc; the nearest is")

"""How the command line leaves: exit codes, one clear message, stdout for data and stderr for the rest."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import typer

import ssl_wb
from ssl_wb.cli import main as module
from ssl_wb.cli.main import app, run
from ssl_wb.errors import DivergedError, InterruptedRunError, PluginError, RecipeError, UsageError

VERBS = {
    *("train", "validate", "evaluate", "embed", "check", "classify", "average", "import", "export", "pack", "recipes"),
    *("schema", "list-plugins", "describe", "doctor", "preview", "bench", "tasks", "new-plugin"),
    *("sweep", "compare", "diff"),
}


@pytest.fixture
def failing(monkeypatch):
    """Make `schema` raise, as a stand-in for any verb."""

    def make(failure: BaseException) -> None:
        def fail(registry):
            raise failure

        monkeypatch.setattr("ssl_wb.recipe.jsonschema.recipe_schema", fail)

    return make


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (UsageError("m", hint="h"), 2),
        (RecipeError(["a", "b"], hint="h"), 3),
        (PluginError("m", hint="h"), 4),
        (DivergedError("m", hint="h"), 5),
        (InterruptedRunError("m", hint="h"), 75),
    ],
)
def test_an_expected_failure(failing, capsys, failure, code):
    failing(failure)
    assert run(["schema"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {failure.message}\nhint: h\n"


def test_a_failure_without_a_hint(failing, capsys):
    failing(UsageError("only this"))
    run(["schema"])
    assert capsys.readouterr().err == "error: only this\n"


def test_an_unexpected_failure_is_one_line(failing, capsys):
    failing(ValueError("two\nlines"))
    assert run(["schema"]) == 1
    expected = "unexpected error: ValueError: two lines; rerun with --debug for the traceback\n"
    assert capsys.readouterr().err == expected


def test_a_missing_library_sends_to_doctor(failing, capsys):
    failing(ModuleNotFoundError("No module named 'x'"))
    assert run(["schema"]) == 1
    assert "ssl-wb doctor" in capsys.readouterr().err.splitlines()[1]


@pytest.mark.parametrize(("failure", "code"), [(ValueError("v"), 1), (UsageError("u"), 2)])
def test_debug_shows_the_traceback(failing, capsys, failure, code):
    failing(failure)
    assert run(["--debug", "schema"]) == code
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert run(["schema"]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt(failing, failure):
    failing(failure)
    assert run(["schema"]) == 130


def test_an_exit_code_of_a_verb_is_kept(failing):
    failing(typer.Exit(5))
    assert run(["schema"]) == 5


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["trian"], "'trian'", "ssl-wb --help"),
        (["schema", "--jsn"], "--jsn", "ssl-wb schema --help"),
        (["describe", "masker"], "name", "ssl-wb describe --help"),
        (["recipes", "shw"], "'shw'", "ssl-wb recipes --help"),
    ],
)
def test_wrong_words(capsys, words, message, hint):
    assert run(words) == 2
    captured = capsys.readouterr()
    error, *rest = captured.err.splitlines()
    assert captured.out == ""
    assert error.startswith("error: ")
    assert message.lower() in error.lower()
    assert rest[-1] == f"hint: {hint}"


def test_no_words_at_all_prints_the_help(capsys):
    assert run([]) == 2
    captured = capsys.readouterr()
    assert "list-plugins" in captured.out + captured.err
    assert "error:" not in captured.err


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"ssl-wb {ssl_wb.__version__}\n"


def test_every_verb_is_there_with_help():
    commands = typer.main.get_command(app).commands
    assert set(commands) == VERBS
    assert all(command.help for command in commands.values())


def test_the_log_goes_to_stderr_while_a_command_runs(monkeypatch, capsys):
    def speak(registry):
        logging.getLogger("ssl_wb.somewhere").info("news")
        logging.getLogger("ssl_wb").warning("careful")
        return {"data": 1}

    monkeypatch.setattr("ssl_wb.recipe.jsonschema.recipe_schema", speak)
    handlers = list(logging.getLogger("ssl_wb").handlers)
    assert run(["schema"]) == 0
    captured = capsys.readouterr()
    assert captured.out == '{\n  "data": 1\n}\n'
    assert captured.err.endswith("news\nwarning: careful\n")
    assert logging.getLogger("ssl_wb").handlers == handlers


def test_main_leaves_with_the_code(monkeypatch):
    monkeypatch.setattr(module.sys, "argv", ["ssl-wb", "trian"])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"], ["recipes", "--help"]])
def test_help_imports_nothing_heavy(words):
    """A fresh process, as the user's: torch alone takes seconds to import."""
    source = (
        "import sys\nfrom ssl_wb.cli.main import run\ncode = run(sys.argv[1:])\n"
        "heavy = {'torch', 'torchaudio', 'accelerate', 'sklearn', 'numpy', 'xformers', 'pyarrow'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", source, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "ssl_wb", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"ssl-wb {ssl_wb.__version__}\n")


def test_a_reader_that_leaves_early_is_no_error():
    """`ssl-wb list-plugins --help | head -1` ends without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-m", "ssl_wb", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        complaint = process.stderr.read()
    assert "Traceback" not in complaint
    assert "unexpected error" not in complaint

"""The command line's frame: loading, exit codes, messages."""

import pytest

from accelsdk.cli import main as cli
from accelsdk.errors import InvalidArgument, Unavailable


@pytest.fixture
def command(monkeypatch):
    """Installs one sub-command, ``try``, with the body that a test gives it."""

    def install(body):
        found = {"try": cli.Command("try", "For a test.", lambda: body)}
        monkeypatch.setattr(cli, "find_commands", lambda: found)

    return install


def raises(error):
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidArgument("wrong shape"), cli.USAGE),
        (Unavailable("card gone"), cli.COULD_NOT_RUN),
        (ZeroDivisionError("oops"), cli.COULD_NOT_RUN),
    ],
)
def test_errors_are_one_message_and_a_code(command, capsys, error, code):
    command(raises(error))
    assert cli.main(["try"]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err


def test_interruption_has_the_shells_code(command):
    command(raises(KeyboardInterrupt()))
    assert cli.main(["try"]) == cli.INTERRUPTED


def test_traceback_on_request(command, capsys, monkeypatch):
    monkeypatch.setenv("ACCELSDK_DEBUG", "1")
    command(raises(ZeroDivisionError("oops")))
    cli.main(["try"])
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["frobnicate"], ["try", "--frob"], ["try", "extra"]])
def test_usage_errors_name_the_help(command, capsys, arguments):
    command(lambda: None)
    assert cli.main(arguments) == cli.USAGE
    assert "--help" in capsys.readouterr().err


def test_only_the_invoked_command_is_loaded(monkeypatch, capsys):
    def refuse():
        raise AssertionError("loaded")

    found = {"a": cli.Command("a", "A.", refuse), "b": cli.Command("b", "B.", lambda: lambda: None)}
    monkeypatch.setattr(cli, "find_commands", lambda: found)
    assert cli.main(["b"]) == cli.OK
    assert cli.main(["--help"]) == cli.OK
    assert "A." in capsys.readouterr().out


def test_every_listed_command_exists():
    for command in cli.find_commands().values():
        assert callable(command.load())


def test_missing_extra_gives_the_pip_line():
    error = cli.missing_extra("conformance", ImportError(name="jinja2"))
    assert "pip install 'accelsdk[conformance]'" in str(error)
    assert "jinja2" in str(error)


def test_version(capsys):
    assert cli.main(["--version"]) == cli.OK
    assert capsys.readouterr().out.startswith("accelsdk ")


def test_no_arguments_print_the_help(capsys):
    assert cli.main([]) == cli.OK
    assert "conformance" in capsys.readouterr().out


def test_summaries_are_not_cut_off(capsys):
    cli.main(["--help"])
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_an_entry_may_be_an_application_of_sub_commands(command, capsys):
    import typer

    app = typer.Typer(invoke_without_command=True, callback=lambda: cli.BAD)
    app.command("inner")(lambda: cli.COULD_NOT_RUN)
    app.command("other")(lambda: None)
    command(app)
    assert cli.main(["try"]) == cli.BAD
    assert cli.main(["try", "inner"]) == cli.COULD_NOT_RUN
    assert cli.main(["try", "other"]) == cli.OK
    assert cli.main(["try", "outer"]) == cli.USAGE
    assert "outer" in capsys.readouterr().err

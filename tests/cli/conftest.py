import pytest

from accelsdk.cli import main as cli


@pytest.fixture
def run(capsys):
    """Runs a command line; returns exit code, standard output, standard error."""

    def call(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call

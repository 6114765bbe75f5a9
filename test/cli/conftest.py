"""Sub-commands run in this process: torch is imported once for all tests."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from efficientvla_ros.cli import main as cli


@dataclass(frozen=True)
class Result:
    returncode: int
    stdout: str
    stderr: str

    def assert_refused(self, message: str) -> None:
        """One line on stderr that says so, and exit code 2."""
        assert self.returncode == 2
        lines = self.stderr.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith('error: '), self.stderr
        assert message in lines[0]


@pytest.fixture
def inspect(monkeypatch, capsys):
    """Runs `efficientvla inspect` with the arguments given."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, 'argv', ['efficientvla', 'inspect', *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return Result(stop.value.code or 0, output.out, output.err)

    return run

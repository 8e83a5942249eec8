"""What customers wrote is shown by the command line, and never obeyed by the terminal."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli import main as command_line
from cloud_adapter.cli.main import app
from cloud_adapter.errors import InvalidRequest
from tests.http.helpers import Http, serving
from workflow_core import On, S, Select, Step, TerminalError, Workflow

TITLE, CLIPBOARD, CLEAR = "\x1b]0;owned\x07", "\x1b]52;c;cm0gLXJmIH4=\x1b\\", "\x1b[2J\x9b2J"
ATTACK = f"{TITLE}{CLIPBOARD}{CLEAR}\r\b\x7f\u202egnp.exe\u2066\u200b\x85\u2028\n\tend"


class Letter(Workflow, name="letter"):
    search_fields = ("subject",)
    create_fields = ("subject", "body")

    subject: str = ""
    body: dict[str, str] = {}

    def check(self) -> None:
        if self.subject.startswith("fail"):
            raise TerminalError(f"bad letter {ATTACK}")

    definition = S(Step("check", check), Select("wait", On("Read", lambda letter: None)))


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with serving(tmp_path / "letters.db", Letter) as served:
        served.create("/wf/letter/1", json={"subject": ATTACK, "body": {ATTACK: ATTACK}})
        served.create("/wf/letter/2", json={"subject": f"fail{ATTACK}"})
        served.ok("POST", "/wf/letter/1/pause", json={"by": ATTACK, "reason": ATTACK})
        yield served


def obeyed(text: str) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colors of our own
    return [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char not in "\n\t"]


COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("show", "letter", id) for id in "12"),
    *(("history", "letter", id) for id in "12"),
    ("ls", "letter"),
    ("set", "letter", "1", "subject=new", "--dry-run"),
    ("pause", "letter", "1"),
)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nothing_that_is_stored_commands_the_terminal(
    http: Http, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    if is_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    seen = ""
    for arguments in COMMANDS:
        result = CliRunner().invoke(app, [*arguments, "--url", str(http.client.base_url)])
        assert result.exit_code == 0, result.output
        assert not obeyed(result.output), arguments
        seen += result.output
    assert "\\u001b]0;owned\\u0007" in seen.replace("\n", "")
    assert "\\u202egnp.exe" in seen


def test_json_has_the_stored_values(http: Http) -> None:
    url = str(http.client.base_url)
    result = CliRunner().invoke(app, ["show", "letter", "1", "--json", "--url", url])
    assert not obeyed(result.output)
    assert json.loads(result.output)["state"] == {"subject": ATTACK, "body": {ATTACK: ATTACK}}


@pytest.mark.parametrize(("error", "code"), [(InvalidRequest, 2), (ValueError, 1)])
def test_neither_does_the_text_of_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception], code: int
) -> None:
    def fail() -> None:
        raise error(f"what a server says {ATTACK}")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == code
    assert not obeyed(capsys.readouterr().err)


def test_consoles_of_all_commands_escape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / f"a{CLEAR}"
    folder.mkdir()
    source = folder / "letters.py"
    source.write_text("from tests.cli.test_escapes import Letter\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = CliRunner().invoke(app, ["check", str(source)])
    assert result.exit_code == 0 and "\\u001b[2J" in result.output and not obeyed(result.output)

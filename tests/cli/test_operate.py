"""The commands about instances, against a running application and against its database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pizza import PizzaOrder
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from cloud_adapter.cli import output as cli_output
from cloud_adapter.cli.main import app
from cloud_adapter.errors import InvalidRequest, SettingsError
from tests.http.helpers import Http, serving, until
from tests.postgresql import Server
from workflow_core import On, S, Select, Step, TerminalError, Workflow

ROOT = Path(__file__).parents[2]
Run = Callable[..., Result]


class Fragile(Workflow, name="fragile"):
    """Its step fails as long as the test says so."""

    search_fields = ("note", "good")
    create_fields = ("note", "good")

    good: bool = False
    amount: float = 0
    note: str = ""
    key: SecretStr = SecretStr("")

    def work(self) -> None:
        if not self.good:
            raise TerminalError("the outside is broken")

    def pay(self, amount: float) -> float:
        self.amount += amount
        return self.amount

    def write(self, note: str) -> None:
        self.note = note

    definition = S(
        Step("work", work),
        Select("open", On("Pay", pay, role="customer"), On("Write", write), On("Close", lambda f: None)),
        Select("last word", On("Say", lambda f: None)),
    )


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with serving(tmp_path / "operate.db", PizzaOrder, Fragile) as served:
        yield served


@pytest.fixture
def run(http: Http) -> Run:
    """Runs a command against the application; fails if the command does, unless ``refused``."""

    def run(*arguments: str, stdin: str = "") -> Result:
        options = () if "--source" in arguments else ("--url", str(http.client.base_url))
        result = CliRunner().invoke(app, [*arguments, *options], input=stdin)
        if isinstance(result.exception, InvalidRequest | SettingsError):
            raise result.exception
        return result

    return run


def output(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_instance_is_paused_goes_on_and_is_canceled(http: Http, run: Run) -> None:
    http.create("/wf/pizza/a%20b")
    for action, status in (("pause", "paused"), ("unpause", "waiting"), ("cancel", "canceled")):
        assert output(run(action, "pizza", "a b", "--by", "Ann", "--reason", "a test")) == f"a b is {status}\n"
    with pytest.raises(InvalidRequest, match="'a b' is canceled: it can no longer be paused"):
        run("pause", "pizza", "a b")
    lines = [line.split("\t") for line in output(run("history", "pizza", "a b")).splitlines()]
    assert [line[1] for line in lines if "by Ann; a test" in line[-1]] == ["pause", "unpause", "cancel"]


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://127.0.0.1:9", "): start it with gorchestrate dev, or pass its root URL"),
        ("nonsense", "): pass its root"),
    ],
)
def test_an_address_where_nobody_answers(url: str, hint: str) -> None:
    result = CliRunner().invoke(app, ["cancel", "pizza", "1", "--url", url])
    assert isinstance(result.exception, InvalidRequest)
    assert hint in str(result.exception)


def test_an_order_from_its_start_to_its_history(http: Http, run: Run) -> None:
    assert output(run("ls")).splitlines() == ["fragile", "pizza"]
    assert output(run("start", "pizza", "1", "cart=[]", "--key", "k")) == "1 is waiting\n"
    run("start", "fragile", "2", "note=5")
    assert http.get("/wf/fragile/2")["state"]["note"] == "5", "a text field takes a number as a text"

    cart = json.loads(output(run("send", "pizza", "1", "AddToCart", "name=quattro stagioni", "qty=2")))["cart"]
    assert cart == [{"name": "quattro stagioni", "qty": 2}]
    run("send", "pizza", "1", "AddToCart", "--input", '{"name": "funghi"}')
    run("send", "pizza", "1", "AddToCart", "--input", "-", stdin='{"name": "diavola"}')
    assert [one["name"] for one in http.get("/wf/pizza/1")["state"]["cart"]] == [
        "quattro stagioni",
        "funghi",
        "diavola",
    ]

    shown = [line.split("\t") for line in output(run("show", "pizza", "1")).splitlines()]
    assert shown[0] == ["pizza 1", "waiting"]
    assert ["stands", "main", "customer fills the cart", "waiting"] in shown
    assert ["accepts", "SubmitCart", "customer", "main"] in shown
    assert any(line[:3] == ["due", "customer fills the cart timed out", "timeout"] for line in shown)
    assert json.loads(output(run("show", "pizza", "1", "--json"))) == http.get("/wf/pizza/1")

    assert output(run("ls", "pizza", "--status", "waiting")).split("\t")[:2] == ["1", "waiting"]
    assert output(run("ls", "pizza", "--status", "failed")) == ""
    page = json.loads(output(run("ls", "pizza", "--json", "--limit", "1")))
    assert [one["id"] for one in page["instances"]] == ["1"]
    assert output(run("ls", "pizza", "--limit", "200")).startswith("1\t")
    assert run("ls", "pizza", "--limit", "201").exit_code == 2

    assert output(run("send", "pizza", "1", "SubmitCart")) == "handled\n", "its handler has no output"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_vanish_from_the_path_sends_nothing(http: Http, run: Run, name: str) -> None:
    for arguments in (
        ("send", "fragile", "f-1", name),
        ("send", name, "f-1", "Pay"),
        ("start", name, "f-1"),
        ("ls", name),
    ):
        with pytest.raises(InvalidRequest, match="is not a name of a workflow or an event"):
            run(*arguments)
    assert http.client.get("/wf/fragile").json()["instances"] == []


def test_instances_are_found_by_their_search_fields(run: Run) -> None:
    for id, note in (("1", "a=b"), ("2", "a=b"), ("3", "other")):
        run("start", "fragile", id, f"note={note}", f"good={id == '2'}".lower())
    found = output(run("ls", "fragile", "--search", "note=a=b")).splitlines()
    assert sorted(line.split("\t")[0] for line in found) == ["1", "2"]
    assert output(run("ls", "fragile", "--search", "note=a=b", "--search", "good=true")).split("\t")[0] == "2"
    for wrong in ("amount=1", "note"):
        with pytest.raises(InvalidRequest, match="note"):
            run("ls", "fragile", "--search", wrong)


def test_what_is_wrong_with_an_input(run: Run) -> None:
    run("start", "pizza", "1")
    for wrong, why in (
        (["qty"], "FIELD=VALUE"),
        (["name=a", "--input", "{}"], "not both"),
        (["--input", "{"], "JSON"),
        (["qty=0", "name=a"], "qty"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            run("send", "pizza", "1", "AddToCart", *wrong)


def test_a_secret_is_set_and_not_shown(http: Http, run: Run) -> None:
    http.create("/wf/fragile/secret")
    until(lambda: http.get("/wf/fragile/secret")["meta"]["status"] == "failed")
    assert output(run("set", "fragile", "secret", "key=hunter2", "--dry-run")) == 'key: "" -> "**********"\n'
    output(run("set", "fragile", "secret", "key=hunter2", "--yes"))
    assert output(run("set", "fragile", "secret", "key=other", "--dry-run")) == 'key: new value "**********"\n'
    assert "hunter2" not in output(run("show", "fragile", "secret", "--json"))


def test_what_has_failed_is_mended_and_tried_again(http: Http, run: Run) -> None:
    http.create("/wf/fragile/1")
    until(lambda: http.get("/wf/fragile/1")["meta"]["status"] == "failed")
    assert "the outside is broken (at 'work')" in output(run("show", "fragile", "1"))
    before = http.get("/wf/fragile/1")

    assert output(run("set", "fragile", "1", "good=true", "--dry-run")) == "good: false -> true\n"
    declined = run("set", "fragile", "1", "good=true", stdin="n\n")
    assert declined.exit_code == 1
    with pytest.raises(InvalidRequest, match="--yes"):
        run("set", "fragile", "1", "good=true", stdin="")
    assert http.get("/wf/fragile/1") == before
    with pytest.raises(InvalidRequest, match="good"):
        run("set", "fragile", "1", "good=maybe", "--yes")
    assert http.get("/wf/fragile/1") == before

    output(run("set", "fragile", "1", "good=true", "--by", "Ann", "--reason", "it is mended", stdin="y\n"))
    output(run("retry", "fragile", "1", "--by", "Ann"))
    until(lambda: http.get("/wf/fragile/1")["meta"]["status"] == "waiting")
    assert "thread main: 'open', waiting -> 'last word'" in output(
        run("goto", "fragile", "1", "last word", "--dry-run")
    )
    output(run("goto", "fragile", "1", "last word", "--yes"))
    until(lambda: [one["name"] for one in http.get("/wf/fragile/1")["events"]] == ["Say"])
    assert "by Ann; it is mended" in output(run("history", "fragile", "1"))


def test_a_database_without_an_application(tmp_path: Path, run: Run) -> None:
    """The same commands with ``--source``: instances that they change continue when a runtime serves the database."""
    on = ("--source", str(ROOT / "functions" / "main.py"), "--db", str(tmp_path / "alone.db"))
    with pytest.raises(SettingsError, match=r"database .*alone\.db not found"):
        run("show", "pizza", "1", *on)
    assert output(run("start", "pizza", "1", *on)) == "1 is waiting\n"
    output(run("set", "pizza", "1", 'cart=[{"name": "funghi"}]', "--yes", *on))
    shown = json.loads(output(run("show", "pizza", "1", "--json", *on)))
    assert shown["state"]["cart"] == [{"name": "funghi", "qty": 1}]
    with serving(tmp_path / "alone.db", PizzaOrder) as http:
        http.send("/wf/pizza/1/SubmitCart")
        assert http.get("/wf/pizza/1")["state"]["status"] == "submitted"


def test_only_start_creates_tables(tmp_path: Path, run: Run, postgresql_server: Server, postgresql_url: str) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for db in (str(empty), postgresql_url):
        on = ("--source", str(ROOT / "functions" / "main.py"), "--db", db)
        for command in (["ls"], ["show", "pizza", "1"], ["send", "pizza", "1", "SubmitCart"]):
            with pytest.raises(SettingsError, match="has no tables of gorchestrate, so it has no instances"):
                run(*command, *on)
    assert empty.read_bytes() == b""
    assert not postgresql_server.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'gorchestrate'")
    for db in (str(empty), postgresql_url):
        on = ("--source", str(ROOT / "functions" / "main.py"), "--db", db)
        run("start", "pizza", "1", *on)
        assert "waiting" in output(run("show", "pizza", "1", *on))


def test_on_a_database_that_nobody_serves_no_step_runs(tmp_path: Path, run: Run) -> None:
    source = tmp_path / "letters.py"
    source.write_text(
        "from workflow_core import On, S, Select, Step, Workflow\n"
        "class Letter(Workflow, name='letter'):\n"
        "    def read(self) -> None: pass\n"
        "    definition = S(Step('write', lambda w: None), Select('sent', On('Answer', read, buffered=True)))\n"
    )
    on = ("--source", str(source), "--db", str(tmp_path / "alone.db"))
    started = output(run("start", "letter", "1", *on))
    assert started == "1 is running: its steps will run when a server uses this database\n"
    assert output(run("send", "letter", "1", "Answer", *on)) == "buffered until the instance waits for it\n"
    assert json.loads(output(run("show", "letter", "1", "--json", *on)))["meta"]["status"] == "running"


def test_a_database_is_named_with_a_source(run: Run) -> None:
    with pytest.raises(SettingsError, match="--source"):
        run("ls", "pizza", "--db", "shop.db")


def test_an_instance_is_watched_until_its_end(http: Http, run: Run) -> None:
    http.create("/wf/pizza/1")
    http.ok("POST", "/wf/pizza/1/cancel")
    views = [json.loads(line) for line in output(run("show", "pizza", "1", "--watch", "--json")).splitlines()]
    assert [view["meta"]["status"] for view in views][-1] == "canceled"


def test_in_a_terminal_lists_are_tables(http: Http, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    http.create("/wf/pizza/1", json={"cart": [{"name": "[red]"}]})
    assert cli_output.is_terminal()
    for command in (("show", "pizza", "1"), ("ls", "pizza"), ("history", "pizza", "1")):
        assert "───" in output(run(*command))
    assert '"[red]"' in output(run("show", "pizza", "1")), "what is stored is no markup"


def test_a_token_is_sent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Recording(httpx.AsyncClient):
        async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
            seen.append(request.headers["Authorization"])
            return await super().send(request, **options)

    monkeypatch.setattr(httpx, "AsyncClient", Recording)
    output(run("ls", "--token", "secret"))
    assert seen == ["Bearer secret"]


@pytest.mark.parametrize("operation", ["pause", "cancel", "set"])
def test_an_operation_is_not_sent_as_an_event(http: Http, run: Run, operation: str) -> None:
    http.create("/wf/pizza/1")
    words = f"'{operation}' is an operation, not an event: run gorchestrate {operation} pizza 1"
    with pytest.raises(InvalidRequest, match=words):
        run("send", "pizza", "1", operation)
    assert http.get("/wf/pizza/1")["meta"]["status"] == "waiting"

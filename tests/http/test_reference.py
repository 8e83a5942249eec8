"""The reference page: it shows what the OpenAPI document says, its lines for the shell work, and it trusts no text."""

from __future__ import annotations

import html
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from pizza import PizzaOrder
from starlette.requests import Request

from cloud_adapter.engine.operations import ACTIONS
from cloud_adapter.http import openapi
from cloud_adapter.http.pages.reference import reference
from tests.cli.processes import ROOT
from tests.core.generate import SPECS, build
from tests.http.helpers import Http, deployed, expected, serving, until
from tests.http.workflows import WORKFLOWS
from tests.input.workflows import WORKFLOWS as INPUT_WORKFLOWS
from workflow_core import On, S, Select, Workflow

NASTY = """<script>alert(1)</script> "'> [x](javascript:alert(2)) ![x](http://elsewhere/x.png)"""


def page(http: Http, path: str, **options: Any) -> str:
    response = http.request("GET", path, **options)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    return response.text


def lines(text: str) -> dict[str, str]:
    """The line for the shell of each operation."""
    pattern = r'<h3 id="(\w+)">.*?<pre class="curl"><code>(.*?)</code>'
    return {id: html.unescape(line) for id, line in re.findall(pattern, text, re.DOTALL)}


def test_all_that_the_document_says_is_on_the_page(http: Http) -> None:
    text = html.unescape(page(http, "/reference/pizza"))
    document = http.get("/swagger/pizza")
    for path, item in document["paths"].items():
        assert f"<code>{path}</code>" in text
        for method in {"get", "post"} & item.keys():
            assert f'<h3 id="{item[method]["operationId"]}">{item[method]["summary"]}</h3>' in text
    for name, schema in document["components"]["schemas"].items():
        assert f'<h3 id="schema-{name}">' in text
        assert all(f"<code>{property}</code>" in text for property in schema.get("properties", {}))
    for name, example in document["components"]["examples"].items():
        assert f"<code>{name}</code>" in text and example["value"]["detail"].replace('"', r"\"") in text
    operations = [item[method] for item in document["paths"].values() for method in {"get", "post"} & item.keys()]
    events = [one for one in operations if one["operationId"].startswith("send_")]
    assert text.count("Header <code>Location</code>") == 1 + len(events)
    busy = [one["operationId"] for one in operations if "503" in one["responses"]]
    assert len(busy) == len(operations) - 1, "all but the diagram"
    assert text.count("Header <code>Retry-After</code>") == len(busy) + 1, "and while an outcome is awaited"
    for tag in document["tags"]:
        assert f">{tag['name']}</h2>" in text


def test_its_headers_let_it_load_nothing_from_elsewhere(http: Http) -> None:
    headers = http.request("GET", "/reference/pizza").headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    text = page(http, "/reference/pizza")
    assert not re.search(r"<script|<style| style=| on\w+=", text)
    assert all(not link.startswith(("http", "//")) for link in re.findall(r'(?:href|src)="([^"]*)"', text))


def test_what_it_loads_is_served_and_kept_by_browsers(http: Http) -> None:
    loaded = set(re.findall(r'(?:href|src)="\.\./(static/[^"]*)"', page(http, "/reference/pizza")))
    assert {link.partition("?")[0] for link in loaded} == {"static/style.css", "static/icon.svg"}
    for link in loaded:
        response = http.request("GET", f"/{link}")
        assert response.status_code == 200 and response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-type"] in ("text/css; charset=utf-8", "image/svg+xml")
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    for old in ("/static/style.css", "/static/style.css?v=old"):
        assert http.request("GET", old).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["nonsense.css", "..%2F__init__.py", "%2e%2e%2frendering.py", "style.css%00"])
def test_nothing_else_is_served(http: Http, name: str) -> None:
    path = unquote(f"/static/{name}")
    assert http.problem("GET", f"/static/{name}") == expected(
        404, "Not Found", f"unknown path {path!r}: GET / lists the workflows"
    )


def test_there_is_no_page_of_a_workflow_that_is_not_served(http: Http) -> None:
    assert http.problem("GET", "/reference/nonsense")["title"] == "Workflow not found"


def test_its_links_hold_behind_a_prefix_too(http: Http) -> None:
    text = page(http, "/reference/pizza")
    assert {'href="../swagger/pizza"', 'href="../graph/pizza"', 'href="../definition/pizza"'} <= set(
        re.findall(r'href="[^"#?]*"', text)
    )


def test_the_lines_for_the_shell_order_a_pizza(http: Http) -> None:
    commands = lines(page(http, "/reference/pizza"))
    assert commands["send_add_to_cart"] == (
        f"curl -s -X POST {http.client.base_url}/wf/pizza/pizza-1/AddToCart "
        """-H 'Content-Type: application/json' -d '{"name": "margherita", "qty": 1}'"""
    )

    def run(id: str) -> str:
        line = commands[id].replace("curl -s", "curl -s --fail-with-body")
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    run("create_instance")
    run("send_add_to_cart")
    run("pause_instance")
    run("unpause_instance")
    for event in ("submit_cart", "confirm_order", "pay", "start_cooking", "finish_cooking", "take_delivery", "deliver"):
        run(f"send_{event}")
    until(lambda: '"status":"finished"' in run("get_instance"))
    assert '"status":"completed"' in run("get_instance")
    assert '"id":"pizza-1"' in run("list_instances")


def test_where_a_token_is_asked_for_the_lines_bear_one(tmp_path: Path) -> None:
    with deployed(tmp_path / "private.db", PizzaOrder) as http:
        text = page(http, "/reference/pizza")
    commands = lines(text)
    assert all('-H "Authorization: Bearer $(gcloud auth print-identity-token)"' in one for one in commands.values())
    assert "roles/run.invoker" in text and "Cloud Run sends this response" in html.unescape(text)
    assert "No token" not in text


def rendered(cls: type[Workflow]) -> str:
    scope = {"type": "http", "path": "/reference/x", "raw_path": b"/reference/x", "query_string": b"", "headers": []}
    return bytes(
        reference(Request(scope), openapi.document(cls, "http://127.0.0.1", max_body_bytes=1_000)).body
    ).decode()


@pytest.mark.slow
@settings(max_examples=30)
@given(spec=SPECS)
def test_there_is_a_page_for_any_definition(spec: list[Any]) -> None:
    assert rendered(build(spec)).rstrip().endswith("</html>")


@pytest.mark.parametrize("cls", [*WORKFLOWS, *INPUT_WORKFLOWS], ids=lambda cls: cls.__workflow_name__)
def test_there_is_a_page_for_any_types(cls: type[Workflow]) -> None:
    text = rendered(cls)
    assert f"<h1>{cls.__workflow_name__}</h1>" in text
    assert len(lines(text)) == len(cls.__program__.events) + 6 + len(ACTIONS)


def _nasty(value: str) -> Callable[[Any], None]:
    def handler(_: Any) -> None:
        return None

    handler.__doc__ = value
    return handler


class Nasty(Workflow, name="nasty"):
    __doc__ = f"# A title\n\n{NASTY}"

    note: str = NASTY

    definition = S(Select(NASTY, On(f"it's {NASTY}", _nasty(NASTY), role=NASTY)))


def test_every_text_of_a_workflow_is_text(tmp_path: Path) -> None:
    with serving(tmp_path / "nasty.db", Nasty) as http:
        text = page(http, "/reference/nasty")
        assert "<script" not in text and "<img src" in text.replace("../static", "static"), "the icon alone"
        assert len(re.findall("<img", text)) == 1
        assert 'href="javascript' not in text
        assert len(re.findall("<h1", text)) == 1
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        # The name of the event holds quotes: the shell gets it as it is.
        line = next(line for id, line in lines(text).items() if id.startswith("send"))
        http.create("/wf/nasty/nasty-1")
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (0, "null")


@pytest.mark.slow
def test_the_wheel_has_the_templates_and_files(tmp_path: Path) -> None:
    folder = ROOT / "cloud_adapter" / "http" / "pages"
    wanted = {
        f"cloud_adapter/http/pages/{file.relative_to(folder).as_posix()}"
        for pattern in ("templates/**/*", "static/*")
        for file in folder.glob(pattern)
        if file.is_file()
    }
    assert len(wanted) >= 4
    command = ["pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())

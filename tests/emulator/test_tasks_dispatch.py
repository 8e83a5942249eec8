"""The emulator of Cloud Tasks: what it sends, when, and how often. Only the target's answers are ours."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from google.api_core import exceptions as google_errors
from google.auth.transport import requests as google_requests
from google.cloud import tasks_v2
from google.oauth2 import id_token
from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.tasks_emulator import serve
from tests.emulator.harness import LOCATION, QUEUE, Harness, a_client, run, until
from tests.http_target import http_server

LAST = f"{LOCATION}/queues/last"


def test_the_request() -> None:
    async def scenario(h: Harness) -> None:
        at = h.clock.now() + timedelta(seconds=3.25)
        headers = {
            "Content-Type": "text/x-own",
            "X-Own": "1, 2",
            "Host": "elsewhere",
            "Content-Length": "99",
            "user-agent": "me",
            "X-Google-Secret": "x",
            "x-appengine-taskname": "x",
            "X-CloudTasks-TaskName": "forged",
            "x-cloudtasks-other": "forged",
            "Authorization": "Basic own",
        }
        await h.create("a", schedule_time=at, http_request={"body": b"\x00data", "headers": headers})
        await h.advance(5)
        (request,) = h.target.requests
        assert (request.method, request.path, request.body) == ("POST", "/work", b"\x00data")
        assert (request.at, await h.ids()) == (at, [])
        assert request.headers["host"] == h.target.url.removeprefix("http://")
        assert {name: value for name, value in request.headers.items() if name != "host"} == {
            "content-length": "5",
            "content-type": "text/x-own",
            "x-own": "1, 2",
            "authorization": "Basic own",
            "user-agent": "Google-Cloud-Tasks",
            "x-cloudtasks-queuename": "q",
            "x-cloudtasks-taskname": "a",
            "x-cloudtasks-taskretrycount": "0",
            "x-cloudtasks-taskexecutioncount": "0",
            "x-cloudtasks-tasketa": f"{at.timestamp():.6f}",
        }

    run(scenario)


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_the_method_and_the_whole_url(method: str) -> None:
    async def scenario(h: Harness) -> None:
        await h.create("a", http_request={"http_method": method, "url": f"{h.target.url}/a%20b?c=d&e=%C3%BC"})
        await h.advance()
        (request,) = h.target.requests
        assert (request.method, request.body) == (method, b"")
        assert request.path in ("/a b?c=d&e=%C3%BC", "/a%20b?c=d&e=%C3%BC")
        assert "content-type" not in request.headers

    run(scenario)


def test_the_headers_of_retries_count_as_the_real_ones_do() -> None:
    async def scenario(h: Harness) -> None:
        h.target.statuses = [503, 404, 302, 500, 429, 200]
        await h.create("a")
        await h.advance(60)
        names = ("retrycount", "executioncount", "previousresponse", "retryreason")
        told = [tuple(r.headers.get(f"x-cloudtasks-task{name}") for name in names) for r in h.target.requests]
        assert told == [
            ("0", "0", None, None),
            ("1", "0", "503", ""),  # 5xx is not counted as an execution
            ("2", "1", "404", ""),
            ("3", "2", "302", ""),
            ("4", "2", "500", ""),
            ("5", "3", "429", ""),
        ]
        assert {request.path for request in h.target.requests} == {"/work"}
        etas = [float(request.headers["x-cloudtasks-tasketa"]) for request in h.target.requests]
        assert etas == [pytest.approx(request.at.timestamp(), abs=1e-5) for request in h.target.requests]

    run(scenario)


def test_retries_follow_the_queue_s_configuration_to_the_end() -> None:
    async def scenario(h: Harness) -> None:
        await h.client.create_queue(
            parent=LOCATION,
            queue=tasks_v2.Queue(
                {
                    "name": LAST,
                    "retry_config": {
                        "max_attempts": 6,
                        "min_backoff": timedelta(seconds=2),
                        "max_backoff": timedelta(seconds=12),
                        "max_doublings": 2,
                    },
                }
            ),
        )
        h.target.statuses = [500]
        start = h.clock.now()
        await h.create("a", LAST)
        await h.advance(45)
        assert h.seconds(start) == [0, 2, 6, 14, 26, 38]
        await h.advance(3_000)
        assert len(h.target.requests) == 6
        with pytest.raises(google_errors.NotFound, match="existed recently"):
            await h.get("a", LAST)

    run(scenario)


def test_a_new_configuration_is_in_force_at_once() -> None:
    async def scenario(h: Harness) -> None:
        h.target.statuses = [500]
        start = h.clock.now()
        await h.create("a")
        await h.advance(0.05)
        retry = {"min_backoff": timedelta(seconds=10), "max_attempts": 3}
        await h.client.update_queue(queue=tasks_v2.Queue({"name": QUEUE, "retry_config": retry}))
        await h.advance(600)
        assert h.seconds(start) == [0, 0.1, 20.1]

    run(scenario)


def test_a_task_s_own_retries() -> None:
    async def scenario(h: Harness) -> None:
        h.target.statuses = [500]
        start = h.clock.now()
        created = await h.create("a", retry_config={"max_attempts": 2, "min_backoff": timedelta(seconds=9)})
        assert created.retry_config.max_doublings == 16
        with pytest.raises(google_errors.InvalidArgument, match="greater or equal to -1"):
            await h.create("b", retry_config={"max_attempts": -2})
        await h.advance(600)
        assert h.seconds(start) == [0, 9]

    run(scenario)


def test_a_task_tells_of_its_attempts() -> None:
    async def scenario(h: Harness) -> None:
        start = h.clock.now()
        await h.client.update_queue(
            queue=tasks_v2.Queue(
                {"name": QUEUE, "retry_config": {"min_backoff": timedelta(seconds=10), "max_doublings": 1}}
            )
        )
        h.target.statuses = [404, 503]
        await h.create("a")
        await h.advance(15)
        found = await h.get("a")
        assert (found.dispatch_count, found.response_count) == (2, 2)
        assert found.first_attempt == tasks_v2.Attempt(dispatch_time=start)
        later = start + timedelta(seconds=10)
        last = found.last_attempt
        assert (last.schedule_time, last.dispatch_time, last.response_time) == (later, later, later)
        assert (last.response_status.code, last.response_status.message) == (14, "HTTP status code 503")
        assert found.schedule_time == later + timedelta(seconds=20)
        h.target.hold()
        await h.advance(20)
        running = await h.get("a")
        assert (running.dispatch_count, running.response_count) == (3, 2)
        assert "response_time" not in running.last_attempt
        assert "response_status" not in running.last_attempt
        h.target.release()

    run(scenario)


def test_a_target_that_is_not_there() -> None:
    async def scenario(h: Harness) -> None:
        await h.create("a", http_request={"url": "http://127.0.0.1:1/x"})
        await h.create("b", http_request={"url": "http://[bad/x"})
        await h.advance(0.05)
        for id in "ab":
            found = await h.get(id)
            assert (found.dispatch_count, found.response_count) == (1, 0)
            assert "response_time" not in found.last_attempt
            assert found.last_attempt.response_status.code == 14
            assert found.last_attempt.response_status.message.startswith("No response")

    run(scenario)


def test_the_deadline_counts_as_a_failure_without_a_response() -> None:
    async def scenario(h: Harness) -> None:
        start = h.clock.now()
        h.target.hold()
        await h.create("a", dispatch_deadline=timedelta(seconds=15))
        await h.advance(14.9)
        assert len(h.target.requests) == 1
        await h.clock.advance(0.15)
        await until(lambda: h.emulator.running == 0)
        found = await h.get("a")
        assert (found.dispatch_count, found.response_count) == (1, 0)
        status = found.last_attempt.response_status
        assert (status.code, status.message) == (4, "No response within 15 s.")
        h.target.release()
        await h.advance(1)
        assert h.seconds(start) == [0, 15.1]
        retry = h.target.requests[1].headers
        assert (retry["x-cloudtasks-taskretrycount"], retry["x-cloudtasks-taskexecutioncount"]) == ("1", "0")
        assert "x-cloudtasks-taskpreviousresponse" not in retry
        assert await h.ids() == []

    run(scenario)


def test_the_default_deadline_is_ten_minutes() -> None:
    async def scenario(h: Harness) -> None:
        h.target.hold()
        await h.create("a")
        await h.advance(599)
        assert h.emulator.running == 1
        await h.clock.advance(1.05)
        await until(lambda: h.emulator.running == 0)

    run(scenario)


def test_the_rate() -> None:
    async def scenario(h: Harness) -> None:
        await h.client.create_queue(
            parent=LOCATION, queue=tasks_v2.Queue({"name": LAST, "rate_limits": {"max_dispatches_per_second": 4}})
        )
        start = h.clock.now()
        for number in range(16):
            await h.create(f"task-{number}", LAST, schedule_time=start + timedelta(seconds=1))
        await h.advance(10)
        assert h.seconds(start) == [1] * 10 + [1.25, 1.5, 1.75, 2, 2.25, 2.5]

    run(scenario)


def test_the_concurrency() -> None:
    async def scenario(h: Harness) -> None:
        await h.client.create_queue(
            parent=LOCATION, queue=tasks_v2.Queue({"name": LAST, "rate_limits": {"max_concurrent_dispatches": 3}})
        )
        h.target.hold()
        for number in range(5):
            await h.create(f"task-{number}", LAST)
        await h.create("of-another-queue")
        await h.advance(60)
        assert sorted(h.delivered) == ["of-another-queue", "task-0", "task-1", "task-2"]
        h.target.release()
        await h.advance()
        assert sorted(h.delivered) == ["of-another-queue", *(f"task-{number}" for number in range(5))]

    run(scenario)


def test_run_a_task_now() -> None:
    async def scenario(h: Harness) -> None:
        await h.client.pause_queue(name=QUEUE)
        await h.create("a", schedule_time=h.clock.now() + timedelta(hours=1), http_request={"body": b"x"})
        h.target.statuses = [500, 200]
        ran = await h.client.run_task(request={"name": f"{QUEUE}/tasks/a", "response_view": "FULL"})
        assert (ran.dispatch_count, ran.response_count, ran.http_request.body) == (1, 0, b"x")
        assert ran.last_attempt.dispatch_time == h.clock.now()
        assert "response_time" not in ran.last_attempt
        await h.advance()
        assert (await h.get("a")).schedule_time == h.clock.now() + timedelta(seconds=0.1)
        await h.advance(60)  # the queue is paused: no retry
        assert h.delivered == ["a"]
        await h.client.run_task(name=f"{QUEUE}/tasks/a")
        await h.advance()
        assert h.delivered == ["a", "a"]
        assert await h.ids() == []

    run(scenario)


def test_run_a_task_that_runs() -> None:
    async def scenario(h: Harness) -> None:
        h.target.hold()
        await h.create("a")
        await h.advance()
        ran = await h.client.run_task(name=f"{QUEUE}/tasks/a")
        assert ran.dispatch_count == 2
        await h.advance()
        assert h.delivered == ["a", "a"]
        h.target.release()
        await h.advance(60)
        assert h.delivered == ["a", "a"]
        assert await h.ids() == []

    run(scenario)


def test_deleting_a_task_that_runs_lets_it_end() -> None:
    async def scenario(h: Harness) -> None:
        h.target.hold()
        h.target.statuses = [500]
        await h.create("a")
        await h.advance()
        await h.client.delete_task(name=f"{QUEUE}/tasks/a")
        h.target.release()
        await h.advance(60)
        assert h.delivered == ["a"]

    run(scenario)


def test_a_hundred_tasks_at_a_time() -> None:
    async def scenario(h: Harness) -> None:
        h.target.hold()
        ids = [f"task-{number}" for number in range(100)]
        await asyncio.gather(*(h.create(id) for id in ids))
        await h.advance()
        assert sorted(h.delivered) == sorted(ids)
        h.target.release()
        await h.advance()
        assert await h.ids() == []

    run(scenario)


# --- tokens, and the system clock ------------------------------------------------------------


def received_token(**oidc_token: str) -> tuple[str, dict[str, Any], dict[str, Any], str]:
    """What a target gets: the token, the discovery document, the key set; and the target's URL."""

    async def main() -> tuple[str, dict[str, Any], dict[str, Any], str]:
        got: list[str] = []

        async def handle(request: Request, _: bytes) -> Response:
            got.append(request.headers["Authorization"])
            return Response()

        async with (
            serve(queues=[QUEUE], grace_seconds=0) as emulator,
            http_server(handle) as url,
            a_client(emulator.address) as client,
        ):
            task = {
                "http_request": {"url": f"{url}/x", "oidc_token": oidc_token, "headers": {"authorization": "Basic x"}}
            }
            await client.create_task(parent=QUEUE, task=tasks_v2.Task(task))
            await until(lambda: bool(got))
            async with httpx.AsyncClient() as http:
                discovery = (await http.get(f"{emulator.issuer_url}/.well-known/openid-configuration")).json()
                keys = (await http.get(discovery["jwks_uri"])).json()
            assert discovery["issuer"] == emulator.issuer_url
            # Google's own way to verify a token is synchronous.
            token = got[0].removeprefix("Bearer ")
            claims = await asyncio.to_thread(
                id_token.verify_token,
                token,
                google_requests.Request(),
                audience=oidc_token.get("audience", f"{url}/x"),
                certs_url=discovery["jwks_uri"],
            )
            assert claims == jwt.decode(token, options={"verify_signature": False})
            return token, discovery, keys, url

    return asyncio.run(main())


def verified(token: str, keys: dict[str, Any], audience: str) -> dict[str, Any]:
    key = jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience)


def test_the_token_is_verified_against_the_key_set() -> None:
    token, discovery, keys, _ = received_token(service_account_email="tasks@p", audience="https://worker.example")
    claims = verified(token, keys, "https://worker.example")
    assert (claims["email"], claims["email_verified"]) == ("tasks@p", True)
    assert claims["iss"] == discovery["issuer"]
    assert claims["exp"] - claims["iat"] == 3_600
    assert jwt.get_unverified_header(token)["alg"] == "RS256"
    with pytest.raises(jwt.InvalidAudienceError):
        verified(token, keys, "https://other.example")
    head, body, signature = token.split(".")
    with pytest.raises(jwt.InvalidSignatureError):
        verified(f"{head}.{body}.{signature[:10]}{'A' if signature[10] != 'A' else 'B'}{signature[11:]}", keys, "x")


def test_the_audience_is_the_url_by_default() -> None:
    token, _, keys, url = received_token(service_account_email="tasks@p")
    assert verified(token, keys, f"{url}/x")["aud"] == f"{url}/x"


def test_on_the_system_clock_it_retries_until_it_is_acknowledged() -> None:
    async def main() -> None:
        statuses = [500, 404, 204]
        retries: list[str] = []

        async def handle(request: Request, _: bytes) -> Response:
            retries.append(request.headers["x-cloudtasks-taskretrycount"])
            return Response(status_code=statuses[len(retries) - 1])

        async with (
            serve(queues=[QUEUE]) as emulator,
            http_server(handle) as url,
            a_client(emulator.address) as client,
        ):
            await client.create_task(parent=QUEUE, task=tasks_v2.Task({"http_request": {"url": url}}))

            async def done() -> bool:
                return not [t async for t in await client.list_tasks(parent=QUEUE)]

            await until(done, poll_seconds=0.01)
            assert retries == ["0", "1", "2"]

    asyncio.run(main())


def test_the_end_lets_attempts_end(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> int:
        released, answered = asyncio.Event(), list[str]()

        async def handle(request: Request, _: bytes) -> Response:
            await released.wait()
            answered.append(request.headers["x-cloudtasks-taskname"])
            return Response()

        async with http_server(handle) as url:
            async with serve(queues=[QUEUE], grace_seconds=20) as emulator, a_client(emulator.address) as client:
                await client.create_task(parent=QUEUE, task=tasks_v2.Task({"http_request": {"url": url}}))
                await until(lambda: emulator.running == 1)
                asyncio.get_running_loop().call_later(0.05, released.set)
            return len(answered)

    assert asyncio.run(main()) == 1
    assert "still running" not in caplog.text

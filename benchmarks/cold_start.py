"""Measures the start of a process: imports, the warm-up on Cloud Run, and the first request.

Run ``python benchmarks/cold_start.py``. With ``--requests``, it needs gcloud with the Firestore emulator. Each figure
is from fresh processes, which take turns, so that other load on the machine affects all alike. Imports are CPU time, of
which the fastest run counts. Requests are the median of the elapsed time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from code_under_test import FOLDER, environment, root
from processes import exit_on_sigterm, firestore_emulator, tasks_emulator

TIMED = """
import sys, time
started = time.process_time()
exec(sys.argv[1])
print((time.process_time() - started) * 1000)
"""

SERVED = "import functions_framework.aio, starlette.requests, starlette.responses, pydantic_settings; import pydantic"
MODELS = """
from typing import Annotated, Literal
from pydantic import BaseModel, Field
class Pizza(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100, examples=["margherita"])]
    qty: Annotated[int, Field(ge=1, le=100)] = 1
class Confirmation(BaseModel):
    manager: Annotated[str, Field(min_length=1, max_length=100, examples=["Ada"])]
    amount: Annotated[float, Field(gt=0, examples=[31.5])]
class Payment(BaseModel):
    amount: Annotated[float, Field(gt=0, examples=[31.5])]
class Delivery(BaseModel):
    courier: Annotated[str, Field(min_length=1, max_length=100, examples=["Grace"])]
class PizzaOrder(BaseModel):
    customer: str = ""
    cart: list[Pizza] = []
    status: Literal[
        "new", "submitted", "timed out", "confirmed", "cooking", "cooked", "delivering", "delivered", "completed"
    ] = "new"
    manager: str = ""
    amount: float = 0
    paid_amount: float = 0
    ticket: str = ""
    courier: str = ""
"""
"""The models of ``functions/pizza.py`` as models of pydantic."""

CLIENTS = (
    "import google.cloud.firestore, google.cloud.tasks_v2, google.api_core.retry, grpc.aio, jwt, cryptography.x509"
)
MODEL = "from pydantic import BaseModel\nclass Model(BaseModel):\n    number: int = 1"
WORKFLOW = (
    "from workflow_core import S, Step, Workflow\nclass Hello(Workflow):\n    number: int = 1\n"
    "    definition = S(Step('hello', lambda w: None))"
)
WARM = "import main\nmain.service.warm_up()"

CLOUD = {
    "GORCHESTRATE_BACKEND": "cloud",
    "GORCHESTRATE_ACCESS": "open",
    "GORCHESTRATE_LOG_LEVEL": "WARNING",
    "GORCHESTRATE_PROJECT": "demo-benchmark",
    "GORCHESTRATE_LOCATION": "local",
    "GORCHESTRATE_WORKER_URL": "http://127.0.0.1:1",
    "GORCHESTRATE_TASKS_ACCOUNT": "tasks@demo-benchmark.iam.gserviceaccount.com",
    "GORCHESTRATE_ISSUER": "http://127.0.0.1:1",
    "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
    "CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1",
}
"""Settings of the cloud backend without a network: nothing listens at these addresses."""

ROWS = (
    ("`import workflow_core`", "import workflow_core", "`from pydantic import BaseModel`", "import pydantic.main"),
    ("a workflow class", WORKFLOW, "a pydantic model class", MODEL),
    ("`functions/main.py`", "import main", "functions-framework, Starlette, the same models", f"{SERVED}\n{MODELS}"),
    ("the same with the warm-up", WARM, "these, Google's clients, PyJWT", f"{SERVED}\n{MODELS}\n{CLIENTS}"),
)

REQUEST = """
import asyncio, sys, time
import main
if sys.argv[1] == "warm":
    main.service.warm_up()
from starlette.requests import Request

async def create(id):
    scope = {"type": "http", "method": "POST", "path": f"/wf/pizza/{id}", "root_path": "", "query_string": b"",
             "headers": [(b"host", b"localhost")], "scheme": "http", "server": ("localhost", 80), "http_version": "1.1"}
    statuses = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        statuses.append(message.get("status"))

    started = time.perf_counter()
    response = await main.service.api(Request(scope, receive))
    await response(scope, receive, send)
    assert statuses[0] == 201, statuses
    return (time.perf_counter() - started) * 1000

async def measure():
    print(await create(sys.argv[2] + "-1"), await create(sys.argv[2] + "-2"))

asyncio.run(measure())
"""


def run(code: str, arguments: list[str], variables: Mapping[str, str]) -> list[float]:
    """Runs code in a fresh process. Returns the numbers that it prints."""
    env = {name: value for name, value in environment().items() if not name.startswith("GORCHESTRATE_")}
    env |= {"PYTHONPATH": os.pathsep.join((str(root()), str(root() / "functions"), str(FOLDER))), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return [float(number) for number in done.stdout.split()]


def imports(runs: int) -> None:
    """Prints the table of imports."""
    with tempfile.TemporaryDirectory() as cache:
        bytecode = {**CLOUD, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        source = {**CLOUD, "PYTHONPYCACHEPREFIX": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
        statements = [statement for row in ROWS for statement in (row[1], row[3])]
        for statement in statements:
            run(TIMED, [statement], bytecode)
        times: dict[str, list[float]] = {statement: [] for statement in statements}
        no_bytecode: list[float] = []
        for _ in range(runs):
            for statement, found in times.items():
                found += run(TIMED, [statement], bytecode)
            no_bytecode += run(TIMED, [f"{SERVED}\nimport main"], source)
    fastest = {statement: min(found) for statement, found in times.items()}
    print("| import | CPU ms | floor | CPU ms | ratio |\n|---|---|---|---|---|")
    for name, statement, floor_name, floor in ROWS:
        ours, least = fastest[statement], fastest[floor]
        print(f"| {name} | {ours:.0f} | {floor_name} | {least:.0f} | {ours / least:.2f} |")
    ours, least = min(no_bytecode), fastest["import main"]
    print(
        f"| `functions/main.py`, all without bytecode | {ours:.0f} | with bytecode | {least:.0f} | {ours / least:.2f} |"
    )


def requests(runs: int) -> None:
    """Prints the table of first requests on the emulators."""
    with firestore_emulator() as store, tasks_emulator() as queue, tempfile.TemporaryDirectory() as cache:
        variables = {**CLOUD, **queue, **store, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        times: dict[str, list[list[float]]] = {"cold": [], "warm": []}
        for number in range(runs + 1):
            for kind, found in times.items():
                found.append(run(REQUEST, [kind, f"{kind}-{os.getpid()}-{number}"], variables))
    print("| request that creates an instance | first, ms | second, ms |\n|---|---|---|")
    for kind, found in times.items():
        first, second = (statistics.median(column) for column in zip(*found[1:], strict=True))
        name = "with the warm-up" if kind == "warm" else "without"
        print(f"| {name} | {first:.0f} | {second:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="fresh processes for each figure")
    parser.add_argument("--requests", action="store_true", help="also measure first requests, on the emulators")
    arguments = parser.parse_args()
    exit_on_sigterm()
    imports(arguments.runs)
    if arguments.requests:
        print()
        requests(arguments.runs)


if __name__ == "__main__":
    main()

"""The entry points of a deployment: one for the public and one for the task queue. Add your own workflows here.

functions-framework --source functions/main.py --target api --host 127.0.0.1
"""

import functions_framework.aio
from pizza import PizzaOrder
from starlette.requests import Request
from starlette.responses import Response

from gorchestrate import Service

service = Service(PizzaOrder)


@functions_framework.aio.http
async def api(request: Request) -> Response:
    return await service.api(request)


@functions_framework.aio.http
async def worker(request: Request) -> Response:
    return await service.worker(request)

"""The calls of ``google.cloud.tasks.v2.CloudTasks``, independent of sockets and of the rules of a queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from inspect import isawaitable
from typing import Any, Final

import grpc
from google.cloud.tasks_v2 import types
from google.protobuf.empty_pb2 import Empty

from cloud_adapter.ports import Clock
from cloud_adapter.tasks_emulator import names, queue_messages, task_messages
from cloud_adapter.tasks_emulator.dispatch import Dispatcher
from cloud_adapter.tasks_emulator.queue_messages import Message
from cloud_adapter.tasks_emulator.queues import QUEUE_NAME_RETENTION, EmulatedQueue
from cloud_adapter.tasks_emulator.refusal import Refused, invalid, not_found, unsupported

SERVICE: Final = "google.cloud.tasks.v2.CloudTasks"
QUEUES_PAGE_MAX: Final = 9_800
TASKS_PAGE_MAX: Final = 1_000
PAGE_BYTES_MAX: Final = 3_000_000
"""The maximum size of a page of tasks, because a client accepts responses of up to 4 MiB."""

ListQueuesResponse: Final = types.ListQueuesResponse.pb()
ListTasksResponse: Final = types.ListTasksResponse.pb()


class CloudTasksService:
    """Handles the calls. Each method takes a request and returns the response, or raises ``Refused``."""

    def __init__(self, clock: Clock, dispatcher: Dispatcher) -> None:
        self._clock = clock
        self._dispatcher = dispatcher
        self._queues: dict[str, EmulatedQueue] = {}
        self._deleted: dict[str, datetime] = {}

    @property
    def queues(self) -> list[EmulatedQueue]:
        """The existing queues."""
        return list(self._queues.values())

    # --- queues ------------------------------------------------------------------------------

    def create_queue(self, request: Message) -> Message:
        parent, name = names.location(request.parent), names.queue(request.queue.name)
        if not name.startswith(parent + "/queues/"):
            raise invalid(f"The location from request ('{parent}') must be the one in the queue name ('{name}').")
        if name in self._queues:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, "Queue already exists")
        return self._new_queue(request.queue).resource()

    def get_queue(self, request: Message) -> Message:
        return self._queue(request.name).resource()

    def list_queues(self, request: Message) -> Message:
        if request.filter:
            raise unsupported("filters in ListQueues")
        prefix = names.location(request.parent) + "/queues/"
        limit = _page_size(request.page_size, QUEUES_PAGE_MAX)
        after = names.queue(request.page_token) if request.page_token else ""
        found = sorted(name for name in self._queues if name.startswith(prefix) and name > after)
        response = ListQueuesResponse(queues=[self._queues[name].resource() for name in found[:limit]])
        if len(found) > limit:
            response.next_page_token = found[limit - 1]
        return response

    def update_queue(self, request: Message) -> Message:
        queue = self._queues.get(names.queue(request.queue.name))
        if queue is None:
            return self._new_queue(request.queue).resource()
        queue.configure(queue_messages.updated_queue(queue.settings, request.queue, request.update_mask))
        queue.runner.wake()
        return queue.resource()

    def pause_queue(self, request: Message) -> Message:
        queue = self._queue(request.name)
        queue.pause()
        return queue.resource()

    def resume_queue(self, request: Message) -> Message:
        queue = self._queue(request.name)
        queue.resume()
        return queue.resource()

    def purge_queue(self, request: Message) -> Message:
        queue = self._queue(request.name)
        queue.purge()
        return queue.resource()

    async def delete_queue(self, request: Message) -> Message:
        queue = self._queues.pop(names.queue(request.name), None)
        if queue is None:
            raise not_found()
        self._deleted[queue.name] = self._clock.now() + QUEUE_NAME_RETENTION
        queue.purge()
        await queue.runner.stop(grace_seconds=0)
        return Empty()

    # --- tasks -------------------------------------------------------------------------------

    def create_task(self, request: Message) -> Message:
        view = task_messages.response_view(request.response_view)
        queue, task_id = self._queue(request.parent), None
        if request.task.name:
            named, task_id = names.task(request.task.name)
            if named != queue.name:
                raise invalid(
                    f"The queue name from request ('{queue.name}') must be the same as the queue name in the named "
                    f"task ('{named}')."
                )
        return task_messages.resource(queue.create(task_id, request.task), view)

    def get_task(self, request: Message) -> Message:
        view = task_messages.response_view(request.response_view)
        queue, task_id = self._task(request.name)
        return task_messages.resource(queue.get(task_id), view)

    def list_tasks(self, request: Message) -> Message:
        view = task_messages.response_view(request.response_view)
        queue, limit = self._queue(request.parent), _page_size(request.page_size, TASKS_PAGE_MAX)
        if request.page_token and not (request.page_token.isascii() and request.page_token.isdigit()):
            raise invalid("The page token was not returned by ListTasks.")
        found = queue.entries(int(request.page_token or 0), limit + 1)
        response, size = ListTasksResponse(), 0
        for entry in found[:limit]:
            task = task_messages.resource(entry, view)
            size += task.ByteSize()
            if size > PAGE_BYTES_MAX:
                break
            response.tasks.append(task)
        if len(response.tasks) < len(found):
            response.next_page_token = str(found[len(response.tasks) - 1].sequence)
        return response

    def delete_task(self, request: Message) -> Message:
        queue, task_id = self._task(request.name)
        queue.delete(task_id)
        return Empty()

    def run_task(self, request: Message) -> Message:
        view = task_messages.response_view(request.response_view)
        queue, task_id = self._task(request.name)
        return task_messages.resource(queue.run(task_id), view)

    # -----------------------------------------------------------------------------------------

    def _new_queue(self, given: Message) -> EmulatedQueue:
        name = given.name
        if name in self._deleted and self._clock.now() < self._deleted[name]:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                "The queue cannot be created because a queue with this name existed too recently.",
            )
        queue = EmulatedQueue(queue_messages.new_queue(given), self._clock, self._dispatcher)
        self._queues[name] = queue
        return queue

    def _queue(self, name: str) -> EmulatedQueue:
        queue = self._queues.get(names.queue(name))
        if queue is None:
            raise not_found(
                "Queue does not exist. If you just created the queue, wait at least a minute for the queue to "
                "initialize."
            )
        return queue

    def _task(self, name: str) -> tuple[EmulatedQueue, str]:
        queue, task_id = names.task(name)
        return self._queue(queue), task_id


def _page_size(given: int, highest: int) -> int:
    if given < 0:
        raise invalid("The page size cannot be negative.")
    return min(given or highest, highest)


Method = Callable[[CloudTasksService, Any], Any]

_METHODS: Final[dict[str, tuple[Any, Method]]] = {
    "CreateQueue": (types.CreateQueueRequest, CloudTasksService.create_queue),
    "GetQueue": (types.GetQueueRequest, CloudTasksService.get_queue),
    "ListQueues": (types.ListQueuesRequest, CloudTasksService.list_queues),
    "UpdateQueue": (types.UpdateQueueRequest, CloudTasksService.update_queue),
    "PauseQueue": (types.PauseQueueRequest, CloudTasksService.pause_queue),
    "ResumeQueue": (types.ResumeQueueRequest, CloudTasksService.resume_queue),
    "PurgeQueue": (types.PurgeQueueRequest, CloudTasksService.purge_queue),
    "DeleteQueue": (types.DeleteQueueRequest, CloudTasksService.delete_queue),
    "CreateTask": (types.CreateTaskRequest, CloudTasksService.create_task),
    "GetTask": (types.GetTaskRequest, CloudTasksService.get_task),
    "ListTasks": (types.ListTasksRequest, CloudTasksService.list_tasks),
    "DeleteTask": (types.DeleteTaskRequest, CloudTasksService.delete_task),
    "RunTask": (types.RunTaskRequest, CloudTasksService.run_task),
}


def handlers(service: CloudTasksService) -> grpc.GenericRpcHandler:
    """Returns the calls for a gRPC server, which answers all other calls with UNIMPLEMENTED by itself."""

    def handler(request_type: Any, method: Method) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            _call(service, method),
            request_deserializer=request_type.pb().FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    return grpc.method_handlers_generic_handler(
        SERVICE, {name: handler(request_type, method) for name, (request_type, method) in _METHODS.items()}
    )


def _call(service: CloudTasksService, method: Method) -> Callable[[Message, Any], Awaitable[Message]]:
    async def call(request: Message, context: Any) -> Message:
        try:
            response = method(service, request)
            return await response if isawaitable(response) else response
        except Refused as refused:
            await context.abort(refused.code, str(refused))

    return call

"""An emulator of Google Cloud Tasks for development and tests: the real client talks to it as to the real service.

It knows Google's messages and the rules of a queue (``cloud_adapter.queues.rules``), and nothing of workflows.

    async with serve(queues=["projects/p/locations/l/queues/q"]) as emulator:
        os.environ["CLOUD_TASKS_EMULATOR_HOST"] = emulator.address
"""

from cloud_adapter.tasks_emulator.server import Emulator, serve

__all__ = ["Emulator", "serve"]

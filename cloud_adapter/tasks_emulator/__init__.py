"""An emulator of Google Cloud Tasks for development and tests. Google's client calls it like the real service.

It implements Google's messages with the rules of a queue (``cloud_adapter.queues.rules``), independently of workflows.

    async with serve(queues=["projects/p/locations/l/queues/q"]) as emulator:
        os.environ["CLOUD_TASKS_EMULATOR_HOST"] = emulator.address
"""

from cloud_adapter.tasks_emulator.server import Emulator, serve

__all__ = ["Emulator", "serve"]

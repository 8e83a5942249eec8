"""Where ``Service`` was before, for the ``main.py`` of functions that are deployed. New code imports it from the front
door: ``from cloud_adapter import Service``."""

from cloud_adapter.hosting.service import Service

__all__ = ["Service"]

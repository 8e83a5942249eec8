"""The former module of ``Service``, for the ``main.py`` of deployed functions. New code uses
``from cloud_adapter import Service``."""

from cloud_adapter.hosting.service import Service

__all__ = ["Service"]

"""Generates the OpenAPI 3.1 document of a workflow from its definition, without an HTTP server or a database."""

from cloud_adapter.http.openapi.operations import document, example_id
from cloud_adapter.http.openapi.security import DocumentAccess

__all__ = ["DocumentAccess", "document", "example_id"]

"""The OpenAPI 3.1 document of a workflow, made from the definition that runs. Knows no HTTP server and no database."""

from cloud_adapter.http.openapi.operations import document, example_id

__all__ = ["document", "example_id"]

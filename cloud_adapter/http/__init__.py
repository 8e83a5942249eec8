"""The HTTP applications: the API, the worker, the pages and the OpenAPI document. No engine logic."""

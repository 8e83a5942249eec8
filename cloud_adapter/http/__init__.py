"""The HTTP application: API, worker, pages and their description. No engine logic."""

"""``python -m cloud_adapter.cli``: the same as ``gorchestrate``."""

from cloud_adapter.cli.main import main

main()

"""The pages, rendered on the server from ``templates/`` and ``static/``. They work without JavaScript."""

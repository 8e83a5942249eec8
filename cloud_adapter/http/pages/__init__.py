"""Pages for people, rendered on the server from ``templates/`` and ``static/``; they work without JavaScript."""

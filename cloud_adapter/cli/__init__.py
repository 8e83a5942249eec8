"""The command line, ``gorchestrate``: each file but ``connection`` and ``output`` has commands. Nothing imports it."""

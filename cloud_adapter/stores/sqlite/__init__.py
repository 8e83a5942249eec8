"""The ``Store`` port on one SQLite file, for one machine. Any number of its processes may share the file."""

"""The ``Store`` over one SQLite file, for one machine: any number of its processes may share the file."""

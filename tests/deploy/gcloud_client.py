"""Has a command run by gcloud_server.py, as if it were gcloud. Holds no test. Its first argument is the socket."""

from __future__ import annotations

import json
import os
import socket
import sys


def main() -> int:
    """Returns the exit code of the command."""
    path, *arguments = sys.argv[1:]
    request = {"arguments": arguments, "folder": os.getcwd(), "variables": dict(os.environ)}
    sent = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [len(sent).to_bytes(4, "big")], [0, 1, 2])
        server.sendall(sent)
        return server.recv(1)[0]


if __name__ == "__main__":
    sys.exit(main())

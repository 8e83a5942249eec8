"""A gcloud that has started once: each command runs in a fork of it, which takes a tenth of the time. Holds no test.

gcloud's own Python runs this file, with the path of gcloud's main program and that of a socket. A client sends its
standard streams, arguments, folder and variables, and gets the exit code. Only modules are shared: a fork has loaded no
command, read no setting and made no connection. The server ends when its standard input does.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

STREAMS = 3
MESSAGE_SIZE_MAX = 150_000
"""Names that do not fit are learned from a later command."""


def serve(main_program: str, path: str) -> None:
    sys.path.insert(0, os.path.dirname(main_program))
    gcloud: Any = importlib.import_module("gcloud")
    sys.path[:] = gcloud.reorder_sys_path(sys.path)
    importlib.import_module("googlecloudsdk.gcloud_main")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    learned, teacher = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with learned, teacher, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        os.write(1, b"ready\n")
        watched: list[Any] = [0, learned, listener]
        while True:
            ready = select.select(watched, [], [])[0]
            if 0 in ready:
                return
            if learned in ready:
                learn(learned.recv(MESSAGE_SIZE_MAX).decode())
            elif listener in ready:
                connection = listener.accept()[0]
                gc.collect()
                gc.freeze()  # or the first collection of a fork writes to all pages, and so copies them
                if os.fork() == 0:
                    answer(connection, teacher, gcloud, main_program)
                connection.close()


def learn(names: str) -> None:
    """Imports modules that a command has needed."""
    for name in names.splitlines():
        with suppress(Exception):  # such as one that is found in another way; a fork then imports it itself
            importlib.import_module(name)


def answer(connection: socket.socket, teacher: socket.socket, gcloud: Any, main_program: str) -> NoReturn:
    """Runs the command of a client in another fork, and tells the client how it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 4, STREAMS)
    with connection.makefile("rb") as sent:
        request = json.loads(sent.read(int.from_bytes(size, "big")))
    process = os.fork()
    if process == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(request["folder"])
        # The variables that the shell script around gcloud has set are not those of the client.
        own = {name: value for name, value in os.environ.items() if name.startswith("CLOUDSDK_")}
        os.environ.clear()
        os.environ.update(own | {"PYTHONIOENCODING": "UTF-8"} | request["variables"])
        sys.argv = [main_program, *request["arguments"]]
        run(gcloud, teacher)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    connection.sendall(bytes([code if code >= 0 else 128 - code]))
    os._exit(0)


def run(gcloud: Any, teacher: socket.socket) -> NoReturn:
    """Runs the command, and ends without freeing all that was shared, which would copy it."""
    before, code = set(sys.modules), 1
    try:
        gcloud.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        names = "\n".join(sorted(set(sys.modules) - before)).encode()
        if 0 < len(names) <= MESSAGE_SIZE_MAX:
            teacher.send(names)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])

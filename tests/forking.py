"""Commands without the seconds that a new Python takes to import torch: forks of one that has.

`python forking.py SOCKET PARENT` imports what the commands need and waits; `program(...)` writes a
script that asks it for a fork, with its own arguments, folder, environment, input and output.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

IMPORTED = ("asr.cli", "data_prep.cli", "asr.train.setup", "asr.recognizer", "asr.analysis.scoring")
CLIENT = f"""#!{sys.executable} -SI
import json, os, socket, sys
asked = dict(arguments=sys.argv, folder=os.getcwd(), environment=dict(os.environ), main=MAIN)
server = socket.socket(socket.AF_UNIX)
server.connect(SOCKET)
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps(asked).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.recv(9) or b"1"))
"""


@cache
def _server() -> str:
    """The socket of a process that ends with this one."""
    path = str(Path(mkdtemp()) / "socket")
    subprocess.Popen([sys.executable, "-P", __file__, path, str(os.getpid())])
    deadline = time.monotonic() + 120
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return path


def program(path: Path, main: str = "") -> None:
    """Write a command that calls the function `main` of a module; "": it runs Python scripts."""
    text = CLIENT.replace("MAIN", repr(main)).replace("SOCKET", repr(_server()))
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def serve(path: str, parent: int) -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen()
    listener.settimeout(1)
    Path(path + ".new").rename(path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.setblocking(True)
                run(connection)
            connection.close()
    shutil.rmtree(Path(path).parent)


def run(connection: socket.socket) -> None:
    """Do in this process what the other side asks for, and end."""
    _, inherited, _, _ = socket.recv_fds(connection, 1, 3)
    for number, descriptor in enumerate(inherited):
        os.dup2(descriptor, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m) for n, m in enumerate("rww"))
    asked = json.loads(b"".join(iter(lambda: connection.recv(1 << 16), b"")))
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    status = 1
    try:
        sys.argv = asked["arguments"] if asked["main"] else asked["arguments"][1:]
        if asked["main"]:
            module, _, name = asked["main"].rpartition(".")
            getattr(importlib.import_module(module), name)(sys.argv[1:])
        else:
            sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
            runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        connection.sendall(str(status).encode())
        os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))

"""Programs without the seconds that their imports take: forks of one process that has imported everything once.

`interpreter` stands for the path of Python in a command line: what runs is a script, ``-m MODULE``, ``-c CODE`` or ``-``
(code from the input), with the caller's folder, environment, input and output. The process that is forked computes
nothing itself.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import sys


def interpreter() -> list[str]:
    """The beginning of a command line; Python itself where processes cannot be forked and waited for like this."""
    import atexit
    import subprocess
    import tempfile

    if not hasattr(os, "fork") or not hasattr(os, "pidfd_open"):
        return [sys.executable]
    if not _address:
        folder = tempfile.TemporaryDirectory(prefix="prefork")
        command = [sys.executable, __file__, "serve", f"{folder.name}/socket"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        _address.append(command[-1])
        atexit.register(folder.cleanup)
        atexit.register(server.wait)
        atexit.register(server.stdin.close)  # type: ignore[union-attr]  # ends it
    return [sys.executable, "-S", "-E", __file__, "run", *_address]


_address: list[str] = []


def run(address: str, program: list[str]) -> int:
    """Have the server start a program, wait for it, and return its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        told = json.dumps({"program": program, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
        connection.sendmsg([len(told).to_bytes(8, "little")], streams)
        connection.sendall(told)
        return int(connection.recv(16) or b"1")


def serve(address: str) -> None:
    """Import, then fork for everyone who connects; ends when its own input does."""
    import matplotlib.pyplot  # noqa: F401
    import torch

    import sslam_lightning.cli.fit.trainer
    import sslam_lightning.evaluation
    import sslam_lightning.inference  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who attend
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen(64)
        print("ready", flush=True)
        while 0 not in select.select([server, 0], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _attend(connection)
            connection.close()


def _attend(connection: socket.socket) -> None:
    """Start a program, wait for it and tell its exit code; it is killed when whoever asked for it has gone."""
    size, ancillary, *_ = connection.recvmsg(8, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    streams = array.array("i", ancillary[0][2])
    with connection.makefile("rb") as file:
        asked = json.loads(file.read(int.from_bytes(size, "little")))
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(_become(**asked))
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    if ended not in select.select([ended, connection], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    finally:
        os._exit(0)


def _become(program: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run the program in this process; its exit code."""
    import atexit
    import traceback

    from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    rank_zero_only.rank = _get_rank() or 0  # else read where it is imported
    code: object = 0
    try:
        _execute(*program)
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def _execute(first: str, *arguments: str) -> None:
    import runpy

    if first == "-m":
        sys.argv, sys.path[0] = list(arguments), ""
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif first in ("-c", "-"):
        code = arguments[0] if first == "-c" else sys.stdin.read()
        sys.argv, sys.path[0] = [first, *arguments[first == "-c" :]], ""
        exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = [first, *arguments], os.path.dirname(first)
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], sys.argv[3:]))

"""The zygote: a process that imported everything once and forks the services of each episode.

Forking costs about 10 ms a service where spawning an interpreter costs seconds. The worker talks to it
over a socket, one JSON object a line: `{"fork": {...}}` answers `{"pid": n}` together with the control
socket of the new service (SCM_RIGHTS); `{"exit": pid, "code": n}` comes whenever a child ends, with
-signal for one that was killed.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from chaosgym.errors import SandboxError
from chaosgym.sandbox.namespaces import die_with_parent
from chaosgym.services.config import ServiceConfig
from chaosgym.services.main import PRELOAD, run, warm_up

__all__ = ["Zygote"]

_MESSAGE = 1 << 20
_LARGEST_FILE = 64 * 2**20
"""Bytes: a log that runs away must not fill a disk that others use."""


class Zygote:
    """The worker's side: fork services, hear of their ends."""

    def __init__(self, inherited: Iterable[socket.socket] = ()) -> None:
        """`inherited`: sockets of the worker that its children must not hold open."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE)
        self.pid = os.fork()
        if self.pid == 0:
            for end in (ours, *inherited):
                end.close()
            _main(theirs)
        theirs.close()
        self._socket = ours
        self._on_exit: Callable[[int, int], None] = lambda pid, code: None
        self._pending: list[asyncio.Future[tuple[int, socket.socket]]] = []

    def attach(self, on_exit: Callable[[int, int], None]) -> None:
        """Serve the socket from the running loop; `on_exit(pid, code)` is called as children end."""
        self._on_exit = on_exit
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 16, 1)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            for future in self._pending:
                future.set_exception(SandboxError("the zygote died"))
            return
        message = json.loads(data)
        if "pid" in message:
            future, control = self._pending.pop(0), socket.socket(fileno=fds[0])
            if future.cancelled():  # nobody waits for it any more
                control.close()
                os.kill(message["pid"], signal.SIGKILL)
            else:
                future.set_result((message["pid"], control))
        else:
            self._on_exit(message["exit"], message["code"])

    async def fork(self, config: ServiceConfig, log: Path | None, files: int) -> tuple[int, socket.socket]:
        """Fork one service; its stdout and stderr append to `log` (None: ours), its soft limit of open files is `files`.

        Raises SandboxError.
        """
        future: asyncio.Future[tuple[int, socket.socket]] = asyncio.get_running_loop().create_future()
        order = {"fork": {"config": config.to_json(), "log": str(log) if log else None, "files": files}}
        try:
            self._socket.send(json.dumps(order).encode())
        except OSError as error:
            raise SandboxError(f"the zygote is gone: {error}") from error
        self._pending.append(future)
        return await asyncio.wait_for(future, 10)


def _main(control: socket.socket) -> NoReturn:
    die_with_parent()
    random.seed()
    for module in PRELOAD:
        importlib.import_module(module)
    warm_up()
    gc.collect()
    gc.freeze()  # forked children must not copy pages because the collector touched them
    wake_reader, wake_writer = os.pipe()
    for end in (wake_reader, wake_writer):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, wake_reader], [], [])
        if wake_reader in ready:
            os.read(wake_reader, 4096)
        _reap(control)
        if control in ready:
            data = control.recv(_MESSAGE)
            if not data:
                os._exit(0)
            _fork(control, json.loads(data)["fork"])


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        control.send(json.dumps({"exit": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _fork(control: socket.socket, order: dict[str, Any]) -> None:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        control.close()
        _service(order, theirs)
    theirs.close()
    socket.send_fds(control, [json.dumps({"pid": pid}).encode()], [ours.fileno()])
    ours.close()


def _service(order: dict[str, Any], control: socket.socket) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with_parent()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(order["files"], hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    if order["log"] is not None:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
    random.seed()
    code = 0
    try:
        run(ServiceConfig.from_json(order["config"]), control)
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 1
    except BaseException:  # noqa: BLE001 - a program that dies of an exception prints it and exits 1, as under any supervisor
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

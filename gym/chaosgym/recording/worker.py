"""The worker process: one sandbox, fed with jobs over a socket, one JSON object a line.

Started as `python -m chaosgym.recording.worker SOCKET_FD STATE_DIR CACHE_DIR CHOICE RUN`, CHOICE being the JSON of a
SandboxChoice and RUN the id that whatever it makes in an engine is labelled with. For the local sandbox it isolates
itself before anything heavy is imported (a user namespace needs a single thread) and forks the zygote. It boots the
sandbox, says `{"ready": ...}` and then answers each job with `{"done": ...}` after lines of `{"progress": ...}`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from chaosgym.sandbox.namespaces import Isolation, keep, mount_tmpfs

if TYPE_CHECKING:
    from chaosgym.sandbox.live import LiveSandbox

__all__ = ["main"]

_STATE_BYTES = 512 * 2**20


class _WithoutPandas(MetaPathFinder):
    """Tells pyarrow, which looks for it at the first array, that there is no pandas: 40 MB a worker that nothing here needs."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("no pandas in a worker", name=fullname)


def main(arguments: list[str]) -> int:
    """Run until the socket closes; 0, or 1 when the sandbox could not boot."""
    fd, state, cache, choice, run = int(arguments[0]), Path(arguments[1]), Path(arguments[2]), arguments[3], arguments[4]
    local = json.loads(choice)["name"] == "local"
    lifeline = os.dup(fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle; it closes the socket
    cleaner = [] if local else [sys.executable, "-m", "chaosgym.sandbox.clean", choice, run]
    isolation = keep(lifeline, state, want_namespaces=local and json.loads(choice)["namespaces"], cleaner=cleaner)
    if isolation.namespaced:
        mount_tmpfs(state, _STATE_BYTES)
    control = socket.socket(fileno=fd)
    return _serve(control, _make_local(control, state, cache) if local else _make_containers(choice, run, state), isolation)


def _make_local(control: socket.socket, state: Path, cache: Path) -> Callable[[], LiveSandbox]:
    from chaosgym.sandbox.zygote import Zygote

    zygote = Zygote(inherited=(control,))  # before any event loop, thread or large import

    def make() -> LiveSandbox:
        from chaosgym.sandbox.local import LocalSandbox

        return LocalSandbox(state, cache, zygote)

    return make


def _make_containers(choice: str, run: str, state: Path) -> Callable[[], LiveSandbox]:
    def make() -> LiveSandbox:
        from chaosgym.sandbox.choice import SandboxChoice, make_container_sandbox

        return make_container_sandbox(SandboxChoice.from_json(choice), run, state)

    return make


def _serve(control: socket.socket, make: Callable[[], LiveSandbox], isolation: Isolation) -> int:
    sys.meta_path.insert(0, _WithoutPandas())
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # Arrow's own keeps 14 MB more
    import uvloop

    from chaosgym.recording.jobs import serve

    try:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)  # rows of telemetry are many and make no cycles
        uvloop.run(serve(control, make, isolation))
    except Exception:  # noqa: BLE001 - the boundary of the process: the runner reads the last line as the reason
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

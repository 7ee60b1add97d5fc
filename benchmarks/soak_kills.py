"""What is left after a recording was killed again and again, in the middle of whatever it did.

    python benchmarks/soak_kills.py --sandbox local [--kills 100] [--seconds-between 3 15] [--json]
    python benchmarks/soak_kills.py --sandbox docker
    python benchmarks/soak_kills.py --sandbox kubernetes --context NAME --namespace PREFIX

A real `chaosgym record` runs in a session of its own and is hit by SIGKILL at random moments: the runner alone, the runner
with all its workers and their keepers at once, or, while the runner goes on, one worker or keeper. What was killed is
started again with the same folder. After the last kill the recording is completed, `chaosgym clean` runs, and whatever
is still there of ours is counted: processes, state folders, containers, networks, volumes, namespaces, drafts and
episodes that lack a file, and finished episodes that are gone or not what they were. Exit 1 when anything is.

Only what this recording made is looked at: its processes carry a mark in their environment, its state folders lie in a
folder of their own, and the ids of its runs are read from the command lines of its workers. `clean` also removes what
dead runs of others have left in the engine. It needs the sandbox that it is told, so `make bench` leaves it out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaosgym.episode import HEADER_FILE, TRUTH_FILE, list_episodes, read_header
from chaosgym.errors import ChaosgymError
from chaosgym.recording.timeline import UNSTEADY
from chaosgym.sandbox.choice import SANDBOX_NAMES, SandboxChoice, read_choice
from chaosgym.sandbox.engine import OWNER_LABEL, RUN_LABEL
from chaosgym.telemetry.schema import SIGNALS

_MARK = "CHAOSGYM_SOAK"
_SCENARIOS = "process-crash,network-latency,dependency-lock,healthy-steady"
_AHEAD = 6
"""Episodes that are still to be recorded when a recording is started again."""
_WHOLE = frozenset({HEADER_FILE, TRUTH_FILE, *(f"{name}.parquet" for name in SIGNALS)})
_KEEPERS = 30.0
"""Seconds that keepers, and containers that nobody steers, get to end by themselves."""
_COMPLETE = 900.0
_BETWEEN = {"local": (3.0, 15.0), "docker": (6.0, 40.0), "kubernetes": (6.0, 60.0)}
"""Seconds between kills: some hit the start of a sandbox, some an episode, some come when a few are finished."""
_VICTIMS = {"runner": 4, "everything": 3, "worker": 3}
"""How often each is chosen, of ten."""


@dataclass
class Result:
    sandbox: str
    kills: dict[str, int] = field(default_factory=dict[str, int])
    """By what was hit."""
    starts: int = 0
    """Of the recording."""
    seconds: float = 0.0
    episodes: int = 0
    unscorable: int = 0
    finished_before_a_kill: int = 0
    """Episodes that were whole when something was killed, and are looked at again at the end."""
    before_clean: dict[str, int] = field(default_factory=dict[str, int])
    """What was left when keepers had done their part, before `chaosgym clean`."""
    left: dict[str, int] = field(default_factory=dict[str, int])
    """What is left in the end."""
    what: list[str] = field(default_factory=list[str])
    """The same by name."""


class Recording:
    """The recording that is killed, and everything that is known of it from outside."""

    def __init__(self, choice: SandboxChoice, out: Path, workers: int) -> None:
        self.choice, self.out, self.workers = choice, out, workers
        self.mark = secrets.token_hex(8)
        self.temporary = Path(tempfile.mkdtemp(prefix="soak-"))
        self.errors = self.temporary / "stderr.txt"
        self.runs: set[str] = set()
        self.digests: dict[str, str] = {}
        self.runner: subprocess.Popen[bytes] | None = None
        self.starts = self._wanted = 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    # ---- what it does

    def start(self) -> None:
        """Begin, or go on; some episodes are always still to be recorded."""
        self._wanted = max(self._wanted, len(self.finished()) + _AHEAD)
        command = [
            sys.executable, "-m", "chaosgym.cli", "record", "--out", str(self.out), "--scenarios", _SCENARIOS,
            "--episodes", str(self._wanted), "--workers", str(self.workers), "--sandbox", self.choice.name, "--json",
            *_cluster(self.choice),
        ]  # fmt: skip
        with self.errors.open("ab") as errors:
            self.runner = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, env=self.environment
            )
        self.starts += 1

    @property
    def environment(self) -> dict[str, str]:
        """Of everything that belongs to it."""
        return {**os.environ, _MARK: self.mark, "TMPDIR": str(self.temporary)}

    @property
    def runs_on(self) -> bool:
        """Whether the runner lives."""
        return self.runner is not None and self.runner.poll() is None

    def kill(self, what: str) -> None:
        """SIGKILL for the runner, for everything at once, or for one worker or keeper."""
        assert self.runner is not None
        workers = [pid for pid, line in self.processes() if "chaosgym.recording.worker" in line]
        victims = {"runner": [self.runner.pid], "everything": [self.runner.pid, *workers]}
        for pid in victims.get(what) or random.sample(workers, min(1, len(workers))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if what != "worker":
            self.runner.wait()

    def complete(self) -> None:
        """Let it record what is missing. Raises TimeoutExpired when it hangs."""
        self.start()
        assert self.runner is not None
        code = self.runner.wait(_COMPLETE)
        if code != 0:
            sys.exit(f"error: the recording ended with {code}:\n{self.errors.read_text(errors='replace')[-2000:]}")

    def close(self) -> None:
        """End what is left of it, and remove its folder for temporary files."""
        self._over.set()
        self._watcher.join(10)
        if self.runs_on:
            self.kill("everything")
        shutil.rmtree(self.temporary, ignore_errors=True)

    # ---- what is seen of it

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.runs |= {line.split()[-1] for _, line in self.processes() if "chaosgym.recording.worker" in line}

    def processes(self) -> Iterator[tuple[int, str]]:
        """(pid, command line) of everything that carries its mark, or names its folder; zombies are none."""
        mark, folder = f"{_MARK}={self.mark}".encode(), str(self.temporary).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            if line and (mark in environment or folder in line):
                yield int(entry.name), line.replace(b"\0", b" ").decode(errors="replace").strip()

    def finished(self) -> list[Path]:
        """Episodes that are whole and stay: one whose baseline was not steady may be thrown away and tried again."""
        if not self.out.is_dir():
            return []
        return [path for path in list_episodes(self.out) if not read_header(path).reason.startswith(UNSTEADY)]

    def remember(self) -> None:
        """Take the digests of what is finished by now."""
        for path in self.finished():
            self.digests.setdefault(path.name, _digest(path))

    # ---- what is left of it

    def leftovers(self) -> dict[str, list[str]]:
        """By kind."""
        drafts, partial = _unfinished(self.out)
        return {
            "processes": [f"{pid}: {line[:120]}" for pid, line in self.processes()],
            "state folders": [path.name for path in self.temporary.iterdir() if path != self.errors],
            **_engine_leftovers(self.choice, self.runs),
            "drafts": drafts,
            "partial episodes": partial,
            "lost episodes": [name for name, digest in self.digests.items() if _digest(self.out / name) != digest],
        }


def _cluster(choice: SandboxChoice) -> list[str]:
    return ["--context", choice.context, "--namespace", choice.namespace] if choice.name == "kubernetes" else []


def _digest(path: Path) -> str:
    """Of all files of an episode; empty when it is gone."""
    if not path.is_dir():
        return ""
    found = hashlib.sha256()
    for file in sorted(path.iterdir()):
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _unfinished(out: Path) -> tuple[list[str], list[str]]:
    """(drafts, episodes that lack a file)."""
    drafts = [path.name for path in out.iterdir() if path.name.startswith(".")]
    folders = [path for path in out.iterdir() if not path.name.startswith(".")]
    return drafts, [path.name for path in folders if not _whole(path)]


def _whole(path: Path) -> bool:
    return path.is_dir() and {file.name for file in path.iterdir()} >= _WHOLE


def _engine_leftovers(choice: SandboxChoice, runs: set[str]) -> dict[str, list[str]]:
    """What carries the labels of these runs, asked of the engine itself."""
    if choice.name == "docker":
        from chaosgym.sandbox.docker import connect

        client, chosen = connect(), {"label": f"{OWNER_LABEL}=chaosgym"}
        found = {
            "containers": [(each["Names"][0], each["Labels"]) for each in client.api.containers(all=True, filters=chosen)],
            "networks": [(each["Name"], each["Labels"]) for each in client.api.networks(filters=chosen)],
            "volumes": [(each["Name"], each["Labels"]) for each in client.api.volumes(filters=chosen)["Volumes"] or ()],
        }
    elif choice.name == "kubernetes":
        shown = subprocess.run(
            ["kubectl", "--context", choice.context, "get", "namespaces", "--selector", f"{OWNER_LABEL}=chaosgym", "--output", "json"],
            capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        items: list[Any] = json.loads(shown.stdout)["items"]
        found = {"namespaces": [(each["metadata"]["name"], each["metadata"]["labels"]) for each in items]}
    else:
        found = {}
    return {kind: [name for name, labels in things if (labels or {}).get(RUN_LABEL) in runs] for kind, things in found.items()}


def soak(choice: SandboxChoice, kills: int, between: tuple[float, float], workers: int, out: Path) -> Result:
    """Kill it so often, then look."""
    began, result, hit = time.monotonic(), Result(choice.name), Counter[str]()
    recording = Recording(choice, out, workers)
    try:
        for number in range(kills):
            if not recording.runs_on:
                recording.start()
            _wait(recording, random.uniform(*between))
            recording.remember()
            what = random.choices(list(_VICTIMS), list(_VICTIMS.values()))[0]
            recording.kill(what)
            hit[what] += 1
            print(f"{number + 1:4d}  {what:<10}  {len(recording.digests)} episodes finished", file=sys.stderr, flush=True)
        if recording.runs_on:
            recording.kill("everything")
            hit["everything"] += 1
        _settle(recording)
        result.before_clean = {kind: len(names) for kind, names in recording.leftovers().items()}
        recording.complete()
        _clean(recording)
        left = _settle(recording)
        result.left, result.what = {k: len(v) for k, v in left.items()}, [f"{k}: {name}" for k, v in left.items() for name in v]
        _tell_episodes(recording, result)
    finally:
        recording.close()
    result.kills, result.starts, result.seconds = dict(hit), recording.starts, round(time.monotonic() - began, 1)
    return result


def _wait(recording: Recording, seconds: float) -> None:
    """So long, with the recording at work all the time."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not recording.runs_on:
            recording.start()
        time.sleep(min(0.1, left))


def _settle(recording: Recording) -> dict[str, list[str]]:
    """What is there when nothing changes by itself any more, or after a while."""
    until = time.monotonic() + _KEEPERS
    while any((left := recording.leftovers()).values()) and time.monotonic() < until:
        time.sleep(0.5)
    return left


def _clean(recording: Recording) -> None:
    """In the engine and on this machine, where the state folders of its workers are."""
    choice = recording.choice
    environment = {name: value for name, value in recording.environment.items() if name != _MARK}
    for where in dict.fromkeys((("--sandbox", choice.name, *_cluster(choice)[:2]), ("--sandbox", "local"))):
        command = [sys.executable, "-m", "chaosgym.cli", "clean", *where, "--older-than", "0"]
        subprocess.run(command, env=environment, stdout=sys.stderr, check=False, timeout=300)


def _tell_episodes(recording: Recording, result: Result) -> None:
    headers = [read_header(path) for path in list_episodes(recording.out)]
    result.episodes, result.unscorable = len(headers), sum(header.status != "ok" for header in headers)
    result.finished_before_a_kill = len(recording.digests)


def _print(result: Result) -> None:
    for name in ("sandbox", "starts", "seconds", "episodes", "unscorable", "finished_before_a_kill"):
        print(f"{name:24s} {getattr(result, name)}")
    print(f"{'kills':24s} {sum(result.kills.values())} ({', '.join(f'{count} of {what}' for what, count in result.kills.items())})")
    print(f"\n{'left':24s} {'by itself':>10s} {'in the end':>10s}")
    for kind, count in result.left.items():
        print(f"{kind:24s} {result.before_clean.get(kind, 0):10d} {count:10d}")
    for line in result.what:
        print(f"  {line}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sandbox", choices=SANDBOX_NAMES, required=True)
    parser.add_argument("--context")
    parser.add_argument("--namespace")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds-between", type=float, nargs=2, metavar=("LEAST", "MOST"), help="depends on the sandbox")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, help="of the moments and victims; drawn when it is not given")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    random.seed(seed)
    print(f"seed {seed}", file=sys.stderr)
    try:
        choice = read_choice(args.sandbox, context=args.context, namespace=args.namespace)
        least, most = args.seconds_between or _BETWEEN[choice.name]
        with tempfile.TemporaryDirectory(prefix="soak-episodes-") as out:
            result = soak(choice, args.kills, (least, most), args.workers, Path(out))
    except ChaosgymError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps(asdict(result)))
    else:
        _print(result)
    return int(any(result.left.values()))


if __name__ == "__main__":
    sys.exit(main())

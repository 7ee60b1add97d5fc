"""A run directory: everything needed to repeat a run, and what came of it.

    config.json      the resolved configuration, its digest, versions
    metrics.jsonl    one line per logged step
    answers.jsonl    of distillation: what the teacher answered and what it earned
    rollouts.jsonl   of reinforcement: what was answered and what it earned
    checkpoint-N/    model, optimizer, schedule, random state: what --resume goes on from
    model/           the trained model, ready for an agent
    summary.json     written last: how it went
    ../latest        a link to the newest run beside this one
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosgym.errors import InfrastructureError, InputError
from chaosgym.training import processes
from chaosgym.training.allocator import keep_freed_memory
from chaosgym.training.config import Training

__all__ = ["Run", "open_run"]

_PACKAGES = ("chaosgym", "torch", "transformers", "trl", "tokenizers", "peft")
_FREE = ("out", "report_to", "save_every", "log_every", "rollout_megabytes")
"""Keys that may differ between a run and its resumption."""


@dataclass(frozen=True)
class Run:
    """An open run directory."""

    path: Path
    command: str

    @property
    def model(self) -> Path:
        """Where the trained model goes."""
        return self.path / "model"

    def checkpoint(self) -> Path | None:
        """The newest whole checkpoint, None before the first."""
        found = [(int(m[1]), p) for p in self.path.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name))]
        return max((pair for pair in found if (pair[1] / "trainer_state.json").is_file()), default=(0, None))[1]

    def summary(self) -> dict[str, Any] | None:
        """What `finish` wrote; None for a run that has not ended."""
        path = self.path / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; of several processes the first does."""
        if processes.rank() == 0:
            self._append(record)

    def _append(self, record: dict[str, Any]) -> None:
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Write summary.json, all at once, and return it."""
        whole = {"command": self.command, "out": str(self.path), "model": str(self.model), **summary}
        processes.first(lambda: _write(self.path / "summary.json", whole))
        return whole


def open_run(config: Training, command: str, resume: bool) -> Run:
    """Make the run directory of `config`, or reopen it; of several processes the first does.

    Raises InputError when it is there and `resume` is not, when it was begun with another configuration, and when not all see it.
    """
    keep_freed_memory()
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)  # of transformers, about itself
    run = processes.first(lambda: _open(config, command, resume))
    blind = [place for (place,) in processes.gather([_unseen(run)]) if place]
    if blind:
        raise InputError(f"{run.path}: {blind[0]} does not see what another process wrote there; name an `out` that all share")
    return run


def _unseen(run: Run) -> str:
    """This machine's name where it does not see the run directory."""
    return "" if (run.path / "config.json").is_file() else platform.node()


def _open(config: Training, command: str, resume: bool) -> Run:
    run = Run(config.out, command)
    resolved = config.model_dump(mode="json")
    if (run.path / "config.json").is_file():
        if not resume:
            raise InputError(f"{run.path}: holds a run already; pass --resume to go on with it, or name another `out`")
        _refuse_changes(run, resolved)
        return run
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        (run.path / "metrics.jsonl").touch()
        _write(run.path / "config.json", {"command": command, "digest": _digest(resolved), "config": resolved, "versions": _versions()})
        _link(run.path)
    except OSError as error:
        raise InfrastructureError(f"{run.path}: cannot be written ({error.strerror}); name another `out` or free some space") from error
    return run


def _refuse_changes(run: Run, resolved: dict[str, Any]) -> None:
    begun = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    if begun["command"] != run.command:
        raise InputError(f"{run.path}: was begun by `{begun['command']}`, not `{run.command}`; name another `out`")
    keys = sorted(key for key in {*resolved, *begun["config"]} - {*_FREE} if resolved.get(key) != begun["config"].get(key))
    if keys:
        said = ", ".join(f"{key} ({begun['config'].get(key)!r} then, {resolved.get(key)!r} now)" for key in keys)
        raise InputError(f"{run.path}: the configuration changed since the run began: {said}; change it back or name another `out`")


def _digest(resolved: dict[str, Any]) -> str:
    kept = {key: value for key, value in resolved.items() if key not in _FREE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _link(path: Path) -> None:
    """Point `latest` beside the run at it; somebody's own file of that name stays."""
    link = path.parent / "latest"
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)

"""What has been changed in an application that is not ours, written down before it is changed.

Each entry says how it is undone, and reaches the disk before the change is made: whatever becomes of this process, `chaosgym
foreign heal` and the keeper (`chaosgym.foreign.keeper`) find it. Undoing is harmless where there is nothing to undo, so an entry
stays until everything has been undone. Whoever holds the journal holds its lock: one at a time breaks an application.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from chaosgym.errors import SandboxError

__all__ = ["Entry", "Journal", "journal_path"]

Entry = Mapping[str, Any]
"""`kind` says what is undone, `role` on which component; the rest is up to whoever undoes it."""


def journal_path(place: str, identity: str) -> Path:
    """Where the journal of an application is kept: `place` names it for people, `identity` tells engines apart."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    word = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return state / "chaosgym" / "foreign" / f"{re.sub(r'[^a-z0-9-]+', '-', place)}-{word}.jsonl"


class Journal:
    """Open it, `write` before each change, `clear` when all is undone, `close`."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Raises SandboxError when somebody else has it, unless it is to `wait` for them."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file: IO[str] = path.open("a+", encoding="utf-8")  # close() closes it
        os.chmod(path, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            self._file.close()
            raise SandboxError(f"another chaosgym is at work on this application (it holds {path}); wait for it, or stop it") from error
        self._file.seek(0)
        lines = self._file.readlines()
        self.entries: list[Entry] = [entry for line in lines if (entry := _read(line)) is not None]
        if lines and not lines[-1].endswith("\n"):
            self._file.write("\n")  # so that the next entry does not go on in a line that was cut off

    def write(self, kind: str, role: str, **what: Any) -> None:
        """Note how something is undone, before it is done; returns when it is on the disk."""
        entry = {"kind": kind, "role": role, **what}
        if entry in self.entries:
            return
        self._file.write(json.dumps(entry) + "\n")
        self._sync()
        self.entries.append(entry)

    def clear(self) -> None:
        """Everything has been undone."""
        self._file.truncate(0)
        self._sync()
        self.entries.clear()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def _read(line: str) -> Entry | None:
    """An entry; None for a line that was cut off, whose change was never made."""
    try:
        return json.loads(line)
    except ValueError:
        return None

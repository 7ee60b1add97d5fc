"""An Episode: one run on disk. A folder named by its id holds

    episode.json                                  the header: public facts alone
    logs|spans|metrics|events.parquet             what was seen (`chaosgym.telemetry.schema`)
    truth.json                                    what was done; only `chaosgym.truth` opens it

The folder appears all at once or not at all: it is written under a hidden name and renamed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chaosgym.errors import InfrastructureError, InputError
from chaosgym.telemetry.store import read_tables, write_tables

__all__ = [
    "HEADER_FILE",
    "SCHEMA_VERSION",
    "TRUTH_FILE",
    "ComponentInfo",
    "EdgeInfo",
    "Episode",
    "EpisodeHeader",
    "Window",
    "list_episodes",
    "read_episode",
    "read_header",
    "read_json",
    "validate_episode",
    "write_episode",
]

SCHEMA_VERSION: Final = 1
HEADER_FILE = "episode.json"
TRUTH_FILE = "truth.json"
_MAX_JSON = 4 * 2**20
M = TypeVar("M", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Window(NamedTuple):
    """Half-open interval in Unix nanoseconds."""

    start: int
    end: int


class ComponentInfo(_Frozen):
    """A component as everybody may know it."""

    name: str
    """`service.name`."""
    kind: str
    """gateway, service, worker, postgres, redis; other words in foreign data."""
    host: str = ""
    """`server.address` that clients use."""
    version: str = ""
    """`service.version` at the start."""


class EdgeInfo(_Frozen):
    """Who calls whom, by name."""

    source: str
    target: str
    protocol: str = "http"
    """http, postgresql, redis, messaging."""


class EpisodeHeader(_Frozen):
    """What `episode.json` holds: nothing in it tells what was broken."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    """Also the name of the folder."""
    status: Literal["ok", "unscorable"] = "ok"
    reason: str = ""
    """Why it is unscorable."""
    scenario_sha256: str = ""
    seed: int = 0
    sandbox: str = "local"
    versions: dict[str, str] = {}
    """Of chaosgym, Python, PostgreSQL, Redis, ..."""
    baseline: Window = Window(0, 0)
    incident: Window = Window(0, 0)
    entry: str = ""
    """Name of the component that users reach."""
    components: tuple[ComponentInfo, ...] = ()
    edges: tuple[EdgeInfo, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> EpisodeHeader:
        if (self.status == "unscorable") != bool(self.reason):
            raise ValueError(f"status {self.status!r} with reason {self.reason!r}: an unscorable episode has a reason, a good one has none")
        if self.status == "ok":
            self._check_windows()
            self._check_names()
        return self

    def _check_windows(self) -> None:
        if not self.baseline.start < self.baseline.end <= self.incident.start < self.incident.end:
            raise ValueError(f"baseline {tuple(self.baseline)} must be a span of time that ends before incident {tuple(self.incident)}")

    def _check_names(self) -> None:
        names = {component.name for component in self.components}
        if len(names) != len(self.components):
            raise ValueError("two components have the same name")
        for name in (self.entry, *(end for edge in self.edges for end in (edge.source, edge.target))):
            if name not in names:
                raise ValueError(f"{name!r} is not among the components ({', '.join(sorted(names))})")


@dataclass(frozen=True)
class Episode:
    """A recorded run; the tables are read on first use."""

    path: Path
    header: EpisodeHeader

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """Arrow tables by signal. Raises InputError when a file is missing or broken."""
        return read_tables(self.path)


def read_json(path: Path, model: type[M]) -> M:
    """Read a small JSON file into a model; InputError names the file and says what is wrong."""
    document = _load_object(path)
    version = document.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(f"{path}: schema version {version} is newer than {SCHEMA_VERSION}, the newest known here: upgrade chaosgym")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors(include_url=False)[:5])
        raise InputError(f"{path}: {problems}; record or copy the episode again") from error


def _load_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise InputError(f"{path}: larger than {_MAX_JSON} bytes, so not of an episode; pass a folder that `chaosgym record` wrote")
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file, so this is no whole episode; `chaosgym record` makes episodes") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); it is truncated or foreign: record or copy the episode again") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds a {type(document).__name__}, not an object; record or copy the episode again")
    return document  # pyright: ignore[reportUnknownVariableType]


def read_header(path: Path | str) -> EpisodeHeader:
    """Read the header alone, about 0.1 ms."""
    return read_json(Path(path) / HEADER_FILE, EpisodeHeader)


def read_episode(path: Path | str) -> Episode:
    """Open an episode's folder: the header now, the tables on first use. Raises InputError."""
    return Episode(Path(path), read_header(path))


def validate_episode(path: Path | str) -> Episode:
    """Read everything that is public and cross-check it; InputError names what is wrong and where."""
    episode = read_episode(path)
    for name, table in episode.tables.items():
        times = table.column(0)
        if times.null_count:
            raise InputError(f"{episode.path / name}.parquet: {times.null_count} rows without a time; record or convert the episode again")
        values = times.to_numpy()
        if (values[1:] < values[:-1]).any():
            raise InputError(f"{episode.path / name}.parquet: not sorted by {table.schema[0].name}; sort it and write it again")
    if episode.header.status == "ok" and not any(table.num_rows for table in episode.tables.values()):
        raise InputError(f"{episode.path}: status is ok but there is no telemetry at all; record it again")
    return episode


def list_episodes(directory: Path | str) -> list[Path]:
    """Folders of whole episodes in `directory` by name; itself when it is one. InputError when there is no such directory."""
    root = Path(directory)
    if (root / HEADER_FILE).is_file():
        return [root]
    try:
        names = sorted(entry.name for entry in os.scandir(root) if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise InputError(f"{root}: cannot list episodes ({error.strerror}); `chaosgym record --out {root}` makes some") from error
    return [root / name for name in names if (root / name / HEADER_FILE).is_file()]


def write_episode(
    directory: Path | str, header: EpisodeHeader, tables: Mapping[str, pa.Table], truth: BaseModel | None = None
) -> Path:
    """Write an episode's folder under `directory`, whole or not at all, and return its path.

    Raises InputError when the folder exists already, InfrastructureError when the file system refuses (disk full).
    """
    final = Path(directory) / header.id
    if final.exists():
        raise InputError(f"{final}: exists already; remove it or record with another seed or directory")
    partial = Path(directory) / f".{header.id}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a writer that was killed
    try:
        partial.mkdir(parents=True)
        write_tables(partial, tables)
        if truth is not None:
            (partial / TRUTH_FILE).write_text(truth.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (partial / HEADER_FILE).write_text(header.model_dump_json(indent=1) + "\n", encoding="utf-8")
        partial.rename(final)
    except OSError as error:
        raise _write_failure(final, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _write_failure(path: Path, error: OSError) -> InfrastructureError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space" if full else "check the path and its permissions"
    return InfrastructureError(f"{path}: cannot write the episode ({error.strerror or error}); {remedy} and record again (others stay)")

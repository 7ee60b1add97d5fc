"""A Store: episodes at an address that many machines reach, where each stands once however many processes record it.

    file:///episodes              a folder that they share: a volume, NFS
    s3://bucket/episodes          a store of objects; any that fsspec knows, with the driver installed

Whoever records works in a folder of its own and puts whole episodes here. `episode.json` is the mark that one is whole; it
comes last, and one that has it is never touched again. In a folder an episode is written under a hidden name and renamed,
which only one can do. A store of objects renames nothing, so there each writer's files lie apart, under the digest of
its header: whichever header becomes the mark leads to the files that belong to it.

    ADDRESS/<id>/{episode.json,truth.json,*.parquet}                     in a folder, as `chaosgym.episode` reads them
    ADDRESS/<id>/episode.json, <id>/<digest>/{truth.json,*.parquet}      in a store of objects
"""

from __future__ import annotations

import errno
import hashlib
import secrets
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chaosgym.episode import HEADER_FILE
from chaosgym.errors import ChaosgymError, InfrastructureError, InputError, PrerequisiteError
from chaosgym.extras import install_line

__all__ = ["Store", "fetch_episodes", "is_address", "open_store"]

_DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}


def is_address(text: str) -> bool:
    """Whether it names a store rather than a folder of this machine."""
    return "://" in text


def open_store(address: str) -> Store:
    """The store at `address`. Raises InputError for a scheme that nobody knows, PrerequisiteError for a missing driver."""
    scheme = urlsplit(address).scheme
    try:
        import fsspec  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise PrerequisiteError(f"{address}: needs the package fsspec; run: {install_line('fsspec')}") from error
    try:
        fs, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        driver = _DRIVERS.get(scheme, "the package that it names")
        raise PrerequisiteError(f"{address}: {error}; run: pip install {driver}") from error
    except ValueError as error:
        raise InputError(f"{address}: {error}; known are file://, s3://, gs://, abfs:// and what else fsspec lists") from error
    return Store(address.rstrip("/"), str(root).rstrip("/"), Path(root) if scheme == "file" else None, fs)


@dataclass(frozen=True)
class Store:
    """Where episodes are; made by `open_store`. Every method raises InfrastructureError when the place cannot be reached."""

    address: str
    root: str
    """The address as its file system says it."""
    folder: Path | None
    """Of a `file://` address."""
    fs: Any = field(repr=False, compare=False)
    """fsspec's."""

    def finished(self) -> frozenset[str]:
        """Ids of the episodes that are whole."""
        with self._reaching():
            names = (path.removeprefix(f"{self.root}/").split("/") for path in self._find(self.root))
            return frozenset(parts[0] for parts in names if len(parts) == 2 and parts[1] == HEADER_FILE and not parts[0].startswith("."))

    def is_episode(self) -> bool:
        """Whether the address is that of a single episode."""
        with self._reaching():
            return bool(self.fs.exists(f"{self.root}/{HEADER_FILE}"))

    def put(self, episode: Path) -> bool:
        """Copy an episode's folder there, whole or not at all; False when another one of its id stands there, which stays."""
        with self._reaching():
            return self._put_objects(episode) if self.folder is None else _put_folder(episode, self.folder)

    def get(self, identity: str, into: Path, names: Iterable[str] | None = None) -> Path:
        """Copy an episode's files (or those of `names`) into a folder of its id under `into`, all at once, and return that."""
        final, draft = into / identity, into / f".{identity}.{secrets.token_hex(6)}.draft"
        with self._reaching():
            try:
                draft.mkdir(parents=True)
                mark = self.fs.cat_file(f"{self.root}/{identity}/{HEADER_FILE}")
                for path in self._files(identity, mark):
                    name = path.rpartition("/")[2]
                    if name != HEADER_FILE and (names is None or name in names):
                        self.fs.get_file(path, str(draft / name))
                (draft / HEADER_FILE).write_bytes(mark)
                shutil.rmtree(final, ignore_errors=True)
                draft.rename(final)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return final

    def mirror(self, into: Path) -> Path:
        """Make `into` hold exactly the episodes of this store, copying only what is new or has changed; returns `into`."""
        into.mkdir(parents=True, exist_ok=True)
        here, there = {path.parent.name for path in into.glob(f"[!.]*/{HEADER_FILE}")}, self.finished()
        for name in here - there:
            shutil.rmtree(into / name, ignore_errors=True)
        with self._reaching():
            marks = {name: self.fs.cat_file(f"{self.root}/{name}/{HEADER_FILE}") for name in sorted(here & there)}
        for name in sorted(there):
            if name not in marks or (into / name / HEADER_FILE).read_bytes() != marks[name]:
                self.get(name, into)
        return into

    def _find(self, path: str) -> list[str]:
        try:
            return [str(each) for each in self.fs.find(path)]
        except FileNotFoundError:
            return []

    def _files(self, identity: str, mark: bytes) -> list[str]:
        """Those that belong to the header; one that was copied there by other means has them beside it."""
        place = f"{self.root}/{identity}"
        return self._find(f"{place}/{_digest(mark)}") or [path for path in self._find(place) if path.count("/") == place.count("/") + 1]

    def _put_objects(self, episode: Path) -> bool:
        header = (episode / HEADER_FILE).read_bytes()
        mark, attempt = f"{self.root}/{episode.name}/{HEADER_FILE}", f"{self.root}/{episode.name}/{_digest(header)}"
        if self.fs.exists(mark):
            return False
        for path in sorted(episode.iterdir()):
            if path.name != HEADER_FILE:
                self.fs.put_file(str(path), f"{attempt}/{path.name}")
        try:
            self.fs.pipe_file(mark, header, mode="create")
        except Exception:  # noqa: BLE001 - each driver has errors of its own; the mark tells what has happened
            if not self.fs.exists(mark):  # it may know no such condition
                self.fs.pipe_file(mark, header)
                return True
            if self.fs.cat_file(mark) != header:
                self.fs.rm(attempt, recursive=True)
            return False
        return True

    @contextmanager
    def _reaching(self) -> Generator[None]:
        try:
            yield
        except ChaosgymError:
            raise
        except Exception as error:  # each driver has errors of its own
            why = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            remedy = "check the address, the credentials and the permissions"
            raise InfrastructureError(f"{self.address}: cannot be read or written ({why}); {remedy}, then run the same again") from error


def _digest(header: bytes) -> str:
    return hashlib.sha256(header).hexdigest()[:16]


def _put_folder(episode: Path, folder: Path) -> bool:
    final, draft = folder / episode.name, folder / f".{episode.name}.{secrets.token_hex(6)}.draft"
    if (final / HEADER_FILE).exists():
        return False
    try:
        draft.mkdir(parents=True)
        for path in sorted(episode.iterdir(), key=lambda path: path.name == HEADER_FILE):
            shutil.copyfile(path, draft / path.name)
        draft.rename(final)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (final / HEADER_FILE).exists():  # somebody was faster
            return False
        raise
    finally:
        with suppress(OSError):
            shutil.rmtree(draft)
    return True


def fetch_episodes(place: str, cache: Path) -> Path:
    """The folder that holds the episodes of `place`: itself, or a copy under `cache` when it is the address of a store.

    The address may also be that of one episode. Raises InputError when there is nothing.
    """
    if not is_address(place):
        return Path(place)
    store = open_store(place)
    if store.folder is not None:
        return store.folder
    copy = cache / hashlib.sha256(store.address.encode()).hexdigest()[:16]
    if store.is_episode():
        parent, _, name = store.address.rpartition("/")
        return open_store(parent).get(name, copy)
    if not any(store.mirror(copy).iterdir()):
        raise InputError(f"{place}: holds no episodes; `chaosgym record --out {place}` makes some")
    return copy

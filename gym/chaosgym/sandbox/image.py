"""The image of every component's container, made from this machine's own Python: no registry, no Docker daemon.

    image_reference()      chaosgym/component:TAG, the tag a hash of what is in it
    cached_image()         the archive, built on first use and kept
    build_image(target)    a docker-archive, as `docker load` and `ctr images import` read it

With `kind="runner"` all of them are about the other image, `chaosgym/runner`, in which chaosgym itself runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from chaosgym.errors import PrerequisiteError
from chaosgym.sandbox.image_contents import Contents, ImageKind, find_contents
from chaosgym.sandbox.image_root import APP_UID, PYTHON, TEMPLATE, lay_out, postgres_home
from chaosgym.sandbox.image_runner import find_runner_contents

__all__ = ["REPOSITORY", "build_image", "cached_image", "image_contents", "image_path", "image_reference"]

REPOSITORY = "chaosgym"
_KEPT = 2
"""Archives of a kind in the cache: today's, and that of the tree beside it."""
_STALE = 3600.0
"""Seconds after which nobody is writing a draft any more."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MORE_ENV: dict[ImageKind, list[str]] = {"component": [], "runner": ["HOME=/tmp"]}
_OF_APP = ("run/app", TEMPLATE)

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Nobody listens."""


@cache
def image_contents(kind: ImageKind = "component") -> Contents:
    """What the image holds; looked up once, as this process's own code is that of its start. Raises PrerequisiteError."""
    return find_contents() if kind == "component" else find_runner_contents()


def image_reference(kind: ImageKind = "component") -> str:
    """`chaosgym/KIND:TAG`, without building it. Raises PrerequisiteError when something for it is not installed."""
    return f"{REPOSITORY}/{kind}:{image_contents(kind).tag}"


def image_path(kind: ImageKind = "component") -> Path:
    """Where `cached_image` keeps the archive, there or not."""
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache_folder / "chaosgym" / "images" / f"{'' if kind == 'component' else f'{kind}-'}{image_contents(kind).tag}.tar"


def cached_image(progress: Progress = _silent, kind: ImageKind = "component") -> Path:
    """The archive, built if it is not there; of those who build at once the last rename wins, and all are the same."""
    path = image_path(kind)
    if path.exists():
        with suppress(OSError):
            os.utime(path)  # the newest are kept: those in use
        return path
    build_image(path, progress, kind)
    _remove_old(path.parent, kind)
    return path


def _remove_old(folder: Path, kind: ImageKind) -> None:
    def written(path: Path) -> float:
        try:
            return path.stat().st_mtime
        except OSError:  # somebody else removed it
            return 0.0

    drafts = [path for path in folder.glob(".*.draft") if written(path) < time.time() - _STALE]
    archives = [path for path in folder.glob("*.tar") if path.name.startswith("runner-") == (kind == "runner")]
    for path in [*sorted(archives, key=written)[:-_KEPT], *drafts]:
        path.unlink(missing_ok=True)


def build_image(target: Path, progress: Progress = _silent, kind: ImageKind = "component") -> str:
    """Write the archive to `target`, whole or not at all, and return the reference under which it loads."""
    contents, reference = image_contents(kind), image_reference(kind)
    with _writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="chaosgym-image-") as scratch:
        Path(scratch).chmod(0o755)
        folder, layer = Path(scratch, "root"), Path(scratch, "layer.tar")
        folder.mkdir()
        lay_out(folder, contents, progress)
        progress("writing the archive")
        _write_layer(folder, layer)
        with _writing(target), _draft(target) as draft:
            _write_archive(layer, _config(contents, _sha256(layer)), reference, draft)
    return reference


@contextmanager
def _writing(place: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise PrerequisiteError(f"{place}: cannot be written ({error.strerror or error}); check space and permissions") from error


@contextmanager
def _draft(target: Path) -> Generator[Path]:
    draft = target.with_name(f".{target.name}.{os.getpid()}.{time.time_ns()}.draft")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(target)
    finally:
        with suppress(OSError):
            draft.unlink()


# ── the layer ────────────────────────────────────────────────────────────────────────────────────────


def _write_layer(folder: Path, layer: Path) -> None:
    """The folder as a tar whose bytes depend on nothing but names, modes and contents."""
    with tarfile.open(layer, "w") as tar:
        for path in sorted(folder.rglob("*")):
            info = _entry(path, path.relative_to(folder).as_posix())
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)


def _entry(path: Path, name: str) -> tarfile.TarInfo:
    info, found = tarfile.TarInfo(name), path.lstat()
    of_app = name.startswith(_OF_APP)
    private = name.startswith(TEMPLATE)
    info.uid = info.gid = APP_UID if of_app else 0
    if stat.S_ISLNK(found.st_mode):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
    elif stat.S_ISDIR(found.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o700 if private else 0o755
    else:
        info.size, info.mode = found.st_size, 0o600 if private else 0o755 if found.st_mode & 0o100 else 0o644
    return info


# ── the archive ──────────────────────────────────────────────────────────────────────────────────────


def _config(contents: Contents, layer: str) -> dict[str, Any]:
    path = ("/opt/python/bin", f"/{postgres_home(contents)}/bin", "/usr/local/bin", "/usr/bin", "/bin")
    return {
        "architecture": _ARCHITECTURES.get(contents.machine, contents.machine),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": f"{APP_UID}:{APP_UID}",
            "Env": [f"PATH={':'.join(path)}", "LC_ALL=C.UTF-8", "TZ=UTC", *_MORE_ENV[contents.kind]],
            "WorkingDir": "/tmp",
            "Entrypoint": [f"/{PYTHON}", "-m", contents.entry],
            "Labels": {"dev.chaosgym": contents.kind},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "chaosgym image build"}],
    }


def _write_archive(layer: Path, config: dict[str, Any], reference: str, target: Path) -> None:
    described = json.dumps(config, indent=1).encode()
    names = f"{hashlib.sha256(described).hexdigest()}.json", f"{config['rootfs']['diff_ids'][0].removeprefix('sha256:')}/layer.tar"
    manifest = [{"Config": names[0], "RepoTags": [reference], "Layers": [names[1]]}]
    with tarfile.open(target, "w") as tar:
        for name, data in ((names[0], described), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo(names[1])
        info.size = layer.stat().st_size
        with layer.open("rb") as file:
            tar.addfile(info, file)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

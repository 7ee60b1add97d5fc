"""The root file system of an image, laid out in a folder from what this machine's Python has.

    /opt/python                   the base Python with the distributions and modules of `Contents`, all compiled
    /usr/lib/postgresql/*/        PostgreSQL, where `find_postgres` looks; /usr/bin/redis-server likewise
    /opt/postgres-template        what initdb makes, so that no container runs it
    /lib/…                        the shared libraries of all these, and the loader; there is no shell
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from chaosgym.errors import PrerequisiteError
from chaosgym.sandbox.image_contents import ENTRY, Contents, service_modules

__all__ = ["APP_UID", "PYTHON", "TEMPLATE", "Root", "lay_out", "postgres_home", "postgres_version"]

APP_UID = 10001
PYTHON = "opt/python/bin/python3"
TEMPLATE = "opt/postgres-template"
_NOBODY = 65534
"""initdb refuses root, and wants its user to have a name on this machine."""
_NOT_IN_LIBRARY = (
    "test", "tests", "idlelib", "tkinter", "turtle.py", "turtledemo", "ensurepip", "lib2to3", "distutils", "pydoc_data", "__pycache__",
    "site-packages", "dist-packages", "config-*", "sitecustomize.py", "curses", "dbm", "sqlite3", "venv",
    *(f"{name}.*so" for name in ("_tkinter", "_test*", "_xxtest*", "_ctypes_test", "xxlimited*", "_codecs_*", "_curses*", "readline")),
    *(f"{name}.*so" for name in ("_sqlite3", "_dbm", "_gdbm", "nis", "ossaudiodev")),
)  # fmt: skip
"""For developers, for terminals and screens, or dragging in libraries that no component needs."""
_NOT_IN_PACKAGES = ("*.pyc", "*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.pth", "RECORD", "direct_url.json")
"""Compiled anew, for compilers and type checkers alone, or telling where on this machine something lay."""
_ON_DEMAND = ("libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2", "libpthread.so.0", "libresolv.so.2")
"""Libraries that glibc loads by name, so that no program lists them."""
_CHECK = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
_FILES = {
    "etc/passwd": f"root:x:0:0:root:/:/sbin/nologin\napp:x:{APP_UID}:{APP_UID}:app:/tmp:/sbin/nologin\n",
    "etc/group": f"root:x:0:\napp:x:{APP_UID}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass
class Root:
    """A root file system under `folder`, and the programs and libraries of this machine that went into it."""

    folder: Path
    elves: list[Path] = field(default_factory=list[Path])
    """ELF files where they came from: a library beside one is found from there."""
    libraries: Path | None = None
    """Where the loader looks without being told; set by `_copy_libraries`."""

    def copy(self, source: str | Path, target: str | Path) -> str:
        """Copy a file; `target` is within `folder`, or lies there already (as `shutil.copytree` says it)."""
        path = self.folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
        with open(source, "rb") as file:
            if file.read(4) == b"\x7fELF":
                self.elves.append(Path(source))
        return str(path)

    def copy_tree(self, source: Path, target: str | Path, without: Sequence[str] = ()) -> None:
        """Copy a folder; what its links point to is copied in their place."""
        shutil.copytree(source, self.folder / target, copy_function=self.copy, ignore=shutil.ignore_patterns(*without),
                        ignore_dangling_symlinks=True, dirs_exist_ok=True)

    def run(self, program: str, *arguments: str, user: int | None = None) -> str:
        """What a program in it prints; it runs here, not in a container. Raises PrerequisiteError with its last words."""
        env = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
        if self.libraries:
            env["LD_LIBRARY_PATH"] = str(self.libraries)
        done = subprocess.run([self.folder / program, *arguments], capture_output=True, text=True, env=env, cwd="/", user=user, group=user,
                              stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            last = " ".join((done.stderr or done.stdout).strip().splitlines()[-1:])
            raise PrerequisiteError(f"the image cannot be built: its {program} ended with {done.returncode}: {last}")
        return done.stdout.strip()


def lay_out(folder: Path, contents: Contents, progress: Callable[[str], None]) -> Root:
    """Make the root file system in `folder`, which is empty, and prove that what a component imports is there."""
    folder.chmod(0o755)  # initdb runs as somebody else
    root = Root(folder)
    progress(f"copying Python {contents.python}")
    _copy_python(root)
    progress(f"copying {len(contents.distributions)} distributions and {len(contents.sources)} modules of chaosgym")
    _copy_packages(root, contents)
    progress("copying PostgreSQL and Redis")
    _copy_servers(root, contents)
    progress(f"copying the shared libraries of {len(root.elves)} files")
    _copy_libraries(root, within_packages=contents.kind == "component")
    progress("compiling")
    _compile(root)
    progress("making the PostgreSQL template")
    _make_template(root, contents)
    progress("importing what it runs")
    _check(root, contents)
    for name, text in _FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in ("tmp", "run/app", "proc", "sys", "dev"):
        (folder / name).mkdir(parents=True)
    return root


def _copy_python(root: Root) -> None:
    binary, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    name = "python{}.{}".format(*sys.version_info)
    root.copy(binary, f"opt/python/bin/{name}")
    for alias in ("python3", "python"):
        (root.folder / "opt/python/bin" / alias).symlink_to(name)
    root.copy_tree(library, f"opt/python/{sys.platlibdir}/{name}", _NOT_IN_LIBRARY)


def _site(root: Root) -> Path:
    """Where the copied Python looks for packages; Debian's looks elsewhere than others."""
    return Path(root.run(PYTHON, "-I", "-c", "import site; print(site.getsitepackages()[0])"))


def _copy_packages(root: Root, contents: Contents) -> None:
    site = _site(root)
    for name, found in contents.distributions.items():
        if found.files is None:
            raise PrerequisiteError(f"{name} was not installed by pip, so its files are unknown; install chaosgym into a venv")
        for file in found.files:
            if ".." not in file.parts and "tests" not in file.parts and not any(fnmatch(file.name, each) for each in _NOT_IN_PACKAGES):
                root.copy(Path(str(found.locate_file(file))), site / file)
    for target, source in contents.sources.items():
        root.copy(source, site / target)


def postgres_version(contents: Contents) -> str:
    """As in `18.4`."""
    said = subprocess.run([contents.postgres, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[-1]


def postgres_home(contents: Contents) -> str:
    """Named after the major version, as a distributor's is; there `find_postgres` looks."""
    return f"usr/lib/postgresql/{postgres_version(contents).partition('.')[0]}"


def _copy_servers(root: Root, contents: Contents) -> None:
    source, target = contents.postgres.parents[1], postgres_home(contents)
    for name in ("postgres", "initdb"):
        root.copy(source / "bin" / name, f"{target}/bin/{name}")
    root.copy_tree(source / "share", f"{target}/share", ("vector*",))
    root.copy_tree(source / "lib" / "postgresql", f"{target}/lib/postgresql", ("pgxs", "bitcode", "vector.so"))
    root.copy(contents.redis, "usr/bin/redis-server")


# ── shared libraries ─────────────────────────────────────────────────────────────────────────────────


def _copy_libraries(root: Root, within_packages: bool) -> None:
    """Put all of them where libc is: the loader looks there without being told, whatever search path a file was built with.

    Without `within_packages`, those that a distribution brings along are left where its own files look for them.
    """
    libraries, loader = _linked(root.elves)
    there = set[Path]() if within_packages else {path.resolve() for path in root.elves}
    libc = libraries.get("libc.so.6")
    if libc is None or loader is None:
        raise PrerequisiteError("this Python is not linked with the GNU C library, so no image can be made from it; use one that is")
    libraries |= {name: path for name in _ON_DEMAND if (path := libc.with_name(name)).exists()}
    more, _ = _linked([path.resolve() for path in libraries.values()])
    folder = libc.parent.relative_to("/")
    for name, path in sorted({**more, **libraries}.items()):
        if path.resolve() not in there:
            root.copy(path.resolve(), folder / name)
    root.copy(loader.resolve(), loader.relative_to("/"))
    (root.folder / loader.relative_to("/")).chmod(0o755)
    root.libraries = root.folder / folder


def _linked(elves: Sequence[Path]) -> tuple[dict[str, Path], Path | None]:
    """The libraries that the loader finds for `elves`, by the names they are asked for; and the loader."""
    try:
        said = subprocess.run(["ldd", *elves], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}, check=False).stdout
    except OSError as error:
        raise PrerequisiteError(f"ldd does not run here ({error.strerror}); as root: apt-get install libc-bin") from error
    libraries = {name: Path(path) for name, path in re.findall(r"^\s+([^/\s]+) => (/\S.*) \(0x", said, re.MULTILINE)}
    loader = re.search(r"^\s+(?:\S+ => )?(/\S*/ld-linux\S*) \(0x", said, re.MULTILINE)
    return libraries, Path(loader[1]) if loader else None


# ── what is made in it, and the proof ────────────────────────────────────────────────────────────────


def _compile(root: Root) -> None:
    """Bytecode that is never compared with its source: times are lost in a layer, and a read-only root takes no new one."""
    root.run(PYTHON, "-I", "-W", "ignore", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
             "-s", str(root.folder), "-p", "/", str(root.folder / "opt/python"))


def _make_template(root: Root, contents: Contents) -> None:
    user = _NOBODY if os.getuid() == 0 else None
    parent = root.folder / "made"
    parent.mkdir()
    if user is not None:
        os.chown(parent, user, user)
    root.run(f"{postgres_home(contents)}/bin/initdb", "-D", str(parent / "data"), "-U", "postgres", "--auth-local=trust",
             "--auth-host=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=16", user=user)
    (parent / "data").rename(root.folder / TEMPLATE)
    parent.rmdir()


def _check(root: Root, contents: Contents) -> None:
    from chaosgym.services.main import PRELOAD

    root.run(PYTHON, "-I", "-B", "-c", _CHECK, *PRELOAD, *service_modules(), ENTRY, *contents.proof)
    root.run("usr/bin/redis-server", "--version")

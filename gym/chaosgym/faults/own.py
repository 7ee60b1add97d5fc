"""Faults of a user's own: from entry points of installed distributions, and from a file that is named for one command.

    chaosgym --faults slow_disk.py run slow-disk.yaml        # tried, without installing anything

What a process has loaded from files its sandboxes' workers load too (`loaded_files`).
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from chaosgym.errors import InputError
from chaosgym.faults.base import Fault
from chaosgym.plugin import FAULTS_GROUP, installed
from chaosgym.taxonomy import declared_type, fault_types, register

__all__ = ["load_file", "loaded_files", "own_faults", "read_file"]

_read: dict[Path, type[Fault]] = {}
_loaded: dict[Path, type[Fault]] = {}


def own_faults() -> dict[str, type[Fault]]:
    """By label, those from files first. InputError when two claim one label, or when an installed one is none."""
    fault_types()  # says what is wrong with the declaration of an installed one
    found: dict[str, tuple[type[Fault], str]] = {}
    for fault, where in _sources():
        other, first = found.setdefault(fault.label, (fault, where))
        if other is not fault:
            raise InputError(f"fault {fault.label!r} is both in {first} and in {where}; leave one of them out")
    return {label: fault for label, (fault, _) in found.items()}


def _sources() -> Iterator[tuple[type[Fault], str]]:
    for path, fault in _loaded.items():
        yield fault, str(path)
    for plugin in installed(FAULTS_GROUP):
        if not _is_fault(plugin.value):
            raise InputError(f"{plugin.where}: {plugin.value!r} is no class on chaosgym.faults.base.Fault; name the class itself")
        yield plugin.value, plugin.where


def loaded_files() -> list[Path]:
    """The files whose faults are known in this process, in the order of loading."""
    return list(_loaded)


def load_file(path: Path) -> type[Fault]:
    """Make the fault of a file known in this process; the same file again is no matter. InputError says what is in the way."""
    fault = read_file(path)
    register(declared_type(fault))
    _loaded.setdefault(path.resolve(), fault)
    return fault


def read_file(path: Path) -> type[Fault]:
    """The one fault class of a Python file, which is run once for it. InputError with file and line when it cannot be."""
    place = path.resolve()
    if place not in _read:
        _read[place] = _only_fault(_run(path), path)
    return _read[place]


def _run(path: Path) -> ModuleType:
    """Import a file under a name of its own; pydantic looks the module up by it."""
    if path.suffix != ".py" or not path.is_file():
        what = "no such file" if path.suffix == ".py" else "a fault's file ends in .py"
        raise InputError(f"{path}: {what}; `chaosgym faults new` writes one")
    name = f"chaosgym_own_{len(_read)}_{path.stem}"
    spec = spec_from_file_location(name, path.resolve())
    assert spec is not None  # of a file in .py there always is one
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the code of somebody else, which may fail in any way
        raise InputError(f"{path}:{_line(error, path)}: {type(error).__name__}: {_first_line(error)}") from error
    return module


def _line(error: Exception, path: Path) -> int:
    """The line of the file that was running, or that cannot be read."""
    if isinstance(error, SyntaxError):
        return error.lineno or 1
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.resolve()]
    return (frames[-1].lineno if frames else None) or 1


def _first_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return text.splitlines()[0] if text else "no reason given"


def _only_fault(module: ModuleType, path: Path) -> type[Fault]:
    here: list[type[Fault]] = [value for value in vars(module).values() if _is_fault(value) and value.__module__ == module.__name__]
    public = [fault for fault in here if not fault.__name__.startswith("_")]
    if len(public) != 1:
        names = ", ".join(fault.__name__ for fault in public) or "none"
        raise InputError(f"{path}: a file holds one class on chaosgym.faults.base.Fault, this one has {names}; '_' in front hides a class")
    return public[0]


def _is_fault(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, Fault) and value is not Fault

"""What every fault class must keep to, its own and a user's: `problems(YourFault)` lists what it does not.

    assert await problems(YourFault, {"strength": 3}) == []

The class is tried on a sandbox that acts on nothing (`chaosgym.faults.double`): whichever of its calls
fails, `heal` has to leave the sandbox as it was, twice over and in silence. That the fault breaks
something is for a test on a real sandbox to see. On the command line: `chaosgym faults check FILE.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from chaosgym.errors import FaultError, InfrastructureError, InputError
from chaosgym.faults.base import Fault, FaultParameters
from chaosgym.faults.double import RecordingSandbox
from chaosgym.sandbox.base import Capability
from chaosgym.taxonomy import declared_type, find, type_problem

__all__ = ["problems"]

_KINDS = frozenset({"gateway", "service", "worker", "postgres", "redis"})
_TELLTALE = re.compile(r"chaos|fault|inject|toxic|\btest|broken|buggy|wrong|defect", re.IGNORECASE)
_HEAL_TIMEOUT = 10.0
_VERIFY_TIMEOUT = 0.05
"""Nothing happens on the double, so nothing is worth waiting for."""
_BUGS = (AttributeError, LookupError, NameError, TypeError, ValueError)
"""What the code of a fault raises when it is wrong in itself."""
_DECLARED = ("label", "kinds", "needs", "symptoms", "Parameters")


async def problems(fault: type[Fault], parameters: Mapping[str, Any] | None = None) -> list[str]:
    """Everything that is wrong with `fault`, a sentence each; `parameters` are those it cannot do without."""
    found = [*_missing(fault)] or [*_declaration_problems(fault), *_parameter_problems(fault, dict(parameters or {}))]
    if found:
        return found
    return [problem for target in _targets(fault) for problem in await _behaviour_problems(fault, target, dict(parameters or {}))]


def _missing(fault: type[Fault]) -> Iterator[str]:
    """What the class does not have at all, so that nothing else can be asked of it."""
    absent = [name for name in _DECLARED if not hasattr(fault, name)]
    if absent:
        yield f"no {', '.join(absent)}; `chaosgym faults new` writes a class that has everything"
    if inspect.isabstract(fault):
        yield f"no {', '.join(sorted(fault.__abstractmethods__))}; a fault has inject, verify and heal"


def _declaration_problems(fault: type[Fault]) -> Iterator[str]:
    if find(fault.label) is None:
        yield from _own_type_problems(fault)
    if not _own_doc(fault):
        yield "no docstring: say what happens in reality and what an operator sees"
    if not fault.kinds or fault.kinds - _KINDS:
        yield f"kinds {sorted(fault.kinds)} must be some of {', '.join(sorted(_KINDS))}"
    if not fault.needs or fault.needs - set(get_args(Capability)):
        yield f"needs {sorted(fault.needs)} must be some of {', '.join(sorted(get_args(Capability)))}"
    if not fault.symptoms:
        yield "no symptoms: a fault that cannot be seen cannot be diagnosed"
    for symptom in fault.symptoms:
        if (symptom.signal in ("log", "event")) != bool(symptom.pattern):
            yield f"{symptom}: a pattern belongs to the signals 'log' and 'event', and only there"
        elif symptom.pattern:
            yield from _pattern_problems(symptom.pattern)


def _own_type_problems(fault: type[Fault]) -> Iterator[str]:
    try:
        problem = type_problem(declared_type(fault))
    except InputError as error:
        problem = str(error)
    if problem is not None:
        yield problem


def _pattern_problems(pattern: str) -> Iterator[str]:
    try:
        matcher = re.compile(pattern)
    except re.error as error:
        yield f"pattern {pattern!r}: {error}"
        return
    if matcher.search("") is not None:
        yield f"pattern {pattern!r} matches every line"


def _own_doc(cls: type) -> str:
    return inspect.cleandoc(cls.__dict__.get("__doc__") or "")


def _parameter_problems(fault: type[Fault], parameters: dict[str, Any]) -> Iterator[str]:
    model = fault.Parameters
    if model is FaultParameters:
        yield "Parameters must be a class of the fault's own, on FaultParameters"
        return
    for name, field in model.model_fields.items():
        if not field.description:
            yield f"parameter {name!r} has no docstring"
    try:
        model.model_validate({**parameters, "no_such_parameter": 1})
        yield "Parameters takes unknown names"
    except ValidationError:
        pass
    try:
        model.model_validate(parameters)
    except ValidationError as error:
        yield f"{parameters} do not fit Parameters: {error.errors()[0]['msg']}; pass an example of what it cannot do without"


def _targets(fault: type[Fault]) -> list[str]:
    """One component of the small application for every kind."""
    components = RecordingSandbox().plan.app.spec.components
    return [next(role for role, c in components.items() if c.kind == kind) for kind in sorted(fault.kinds)]


async def _behaviour_problems(fault: type[Fault], target: str, parameters: dict[str, Any]) -> list[str]:
    trial = _Trial(fault, target, parameters)
    found = [*await trial.heal_alone(), *await trial.inject_and_heal(None, takes_effect=False)]
    for number in range(trial.calls):
        for takes_effect in (False, True):
            found += await trial.inject_and_heal(number, takes_effect=takes_effect)
    return found


class _Trial:
    """One fault class on one component of the double, tried again and again."""

    def __init__(self, fault: type[Fault], target: str, parameters: dict[str, Any]) -> None:
        self.fault, self.target, self.parameters = fault, target, parameters
        self.calls = 0
        """That `inject` makes when nothing fails."""

    async def heal_alone(self) -> list[str]:
        """Heal what was never broken."""
        sandbox = RecordingSandbox()
        return await self._heal(self.fault(self.target, self.parameters), sandbox, "heal before inject")

    async def inject_and_heal(self, fail_at: int | None, *, takes_effect: bool) -> list[str]:
        """Inject, with one call failing or none, and heal twice."""
        sandbox = RecordingSandbox(fail_at=fail_at, takes_effect=takes_effect)
        fault = self.fault(self.target, self.parameters)
        try:
            await fault.inject(sandbox)
        except (InfrastructureError, OSError) as error:
            if fail_at is None and isinstance(error, FaultError):
                return [f"inject on {self.target!r} refuses a component of a kind that it declares: {error}"]
        except _BUGS as error:
            return [f"inject on {self.target!r} raises {type(error).__name__}: {error}"]
        made = len(sandbox.calls)
        found = list(self._call_problems(sandbox))
        if fail_at is None:
            self.calls = made
            found += await self._verify(fault, sandbox)
        what = "heal" if fail_at is None else f"heal after call {fail_at} of inject failed{' having taken effect' if takes_effect else ''}"
        return [*found, *await self._heal(fault, sandbox, what)]

    async def _verify(self, fault: Fault, sandbox: RecordingSandbox) -> list[str]:
        """Whether it can be run; that it finds the fault in force is more than the double can show."""
        try:
            await asyncio.wait_for(fault.verify(sandbox), _VERIFY_TIMEOUT)
        except (AttributeError, NameError, TypeError) as error:
            return [f"verify on {self.target!r} raises {type(error).__name__}: {error}"]
        except Exception:  # noqa: BLE001 - it says in its own way that it sees nothing, and nothing is there
            return []
        return []

    def _call_problems(self, sandbox: RecordingSandbox) -> Iterator[str]:
        used = {capability for capability, _, _ in sandbox.calls}
        if used - self.fault.needs:
            yield f"inject uses {', '.join(sorted(used - self.fault.needs))}, which `needs` does not declare"
        for capability, role, asked in sandbox.calls:
            version = asked[0] if capability == "restart" else None
            if version is not None and _TELLTALE.search(version):
                yield f"the version {version!r} of {role!r}, which everybody sees, gives it away"

    async def _heal(self, fault: Fault, sandbox: RecordingSandbox, what: str) -> list[str]:
        for turn in ("", " again"):
            try:
                await asyncio.wait_for(fault.heal(sandbox), _HEAL_TIMEOUT)
            except TimeoutError:
                return [f"{what}{turn} on {self.target!r} takes longer than {_HEAL_TIMEOUT:g} s"]
            except (InfrastructureError, OSError, *_BUGS) as error:
                return [f"{what}{turn} on {self.target!r} raises {type(error).__name__}: {error}"]
            if sandbox.residue:
                return [f"{what}{turn} on {self.target!r} leaves {sandbox.residue}"]
        return []

"""The faults that chaosgym knows, by label; `chaosgym.faults.base` says what a fault is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from chaosgym.errors import InputError, did_you_mean
from chaosgym.faults.application import BadDeploy, RetryStorm
from chaosgym.faults.base import Fault
from chaosgym.faults.configuration import Credential
from chaosgym.faults.dependency import CacheMemory, Connections, Lock
from chaosgym.faults.network import Latency, Partition
from chaosgym.faults.process import Crash, Hang
from chaosgym.faults.resource import Cpu, FileDescriptors, MemoryLeak
from chaosgym.sandbox.base import Capability

__all__ = ["FAULTS", "fault_class", "make_fault", "refusal"]

FAULTS: dict[str, type[Fault]] = {
    fault.label: fault
    for fault in (
        Crash, Hang, Cpu, MemoryLeak, FileDescriptors, Latency, Partition,
        Connections, Lock, CacheMemory, Credential, BadDeploy, RetryStorm,
    )
}


def fault_class(label: str) -> type[Fault]:
    """The class behind a label. Raises InputError with the nearest one."""
    if label not in FAULTS:
        raise InputError(f"there is no fault {label!r}{did_you_mean(label, FAULTS)}; `chaosgym faults list` names them all")
    return FAULTS[label]


def make_fault(label: str, target: str, parameters: Mapping[str, Any] | None = None) -> Fault:
    """A fault on a component (by role). Raises InputError for an unknown label or parameters that do not fit."""
    fault = fault_class(label)
    try:
        return fault(target, dict(parameters or {}))
    except ValidationError as error:
        known = ", ".join(fault.Parameters.model_fields) or "none"
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'parameters'}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise InputError(f"{label} on {target!r}: {problems}. Its parameters: {known}; see `chaosgym faults show {label}`") from error


def refusal(fault: type[Fault], kind: str, capabilities: Collection[Capability]) -> str | None:
    """Why a sandbox with `capabilities` cannot break a component of this kind so; None when it can."""
    if kind not in fault.kinds:
        return f"{fault.label} cannot hit a {kind}; it fits {', '.join(sorted(fault.kinds))}"
    missing = sorted(fault.needs - set(capabilities))
    if missing:
        return f"{fault.label} needs what this sandbox cannot do: {', '.join(missing)}"
    return None

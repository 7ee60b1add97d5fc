"""The faults that chaosgym knows, by label; `chaosgym.faults.base` says what a fault is, `.own` how a user adds one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from chaosgym.errors import InputError, did_you_mean
from chaosgym.faults.application import (
    BadDeploy,
    BlockingCall,
    ConnectionLeak,
    Deadlock,
    IncompatibleAnswer,
    RepeatedQueries,
    RetryStorm,
    SlowRelease,
)
from chaosgym.faults.base import Fault
from chaosgym.faults.cache import CacheClients, CacheEviction, CacheFlush, CachePassword, CachePermission, CacheReadOnly, SlowCommands
from chaosgym.faults.configuration import (
    BodyLimit,
    Credential,
    DatabaseName,
    DebugLogging,
    FeatureFlag,
    HostName,
    MemoryLimit,
    MissingVariable,
    Port,
    RateLimit,
    Route,
    Stream,
    Timeout,
)
from chaosgym.faults.data import (
    CacheCorruption,
    CacheType,
    Constraint,
    MissingColumn,
    MissingTable,
    NotNull,
    PoisonMessage,
    SequenceReset,
)
from chaosgym.faults.database import (
    DatabaseCrash,
    ExpensiveReport,
    PasswordRotation,
    Privilege,
    ReadOnly,
    RoleConnections,
    SequenceExhausted,
    SlowWrites,
)
from chaosgym.faults.dependency import CacheMemory, Connections, Lock, RowLock
from chaosgym.faults.network import (
    Corruption,
    Latency,
    Loss,
    OneWay,
    Partition,
    Refusal,
    Reset,
    Truncation,
    Unavailable,
)
from chaosgym.faults.own import own_faults
from chaosgym.faults.platform import PLATFORM_FAULTS
from chaosgym.faults.process import Crash, CrashLoop, Hang, SlowStart
from chaosgym.faults.resource import Cpu, CpuThrottle, FileDescriptors, FileLeak, MemoryLeak, ThreadLeak
from chaosgym.faults.traffic import LargeRequests, Probing, Scraper, SlowClients, Surge
from chaosgym.sandbox.base import Capability

__all__ = ["FAULTS", "all_faults", "fault_class", "make_fault", "refusal"]

FAULTS: dict[str, type[Fault]] = {
    fault.label: fault
    for fault in (
        Crash, Hang, CrashLoop, SlowStart,
        Cpu, MemoryLeak, FileDescriptors, CpuThrottle, FileLeak, ThreadLeak,
        Latency, Partition, Loss, OneWay, Refusal, Reset, Truncation, Corruption, Unavailable,
        Connections, Lock, RowLock, RoleConnections, ReadOnly, SequenceExhausted, Privilege, PasswordRotation, SlowWrites,
        ExpensiveReport, DatabaseCrash,
        CacheMemory, CacheReadOnly, CachePassword, CachePermission, CacheClients, CacheEviction, CacheFlush, SlowCommands,
        Credential, DatabaseName, Port, HostName, Route, Timeout, RateLimit, BodyLimit, DebugLogging, MissingVariable, FeatureFlag,
        Stream, MemoryLimit,
        BadDeploy, RetryStorm, BlockingCall, SlowRelease, Deadlock, RepeatedQueries, ConnectionLeak, IncompatibleAnswer,
        MissingColumn, MissingTable, SequenceReset, Constraint, NotNull, CacheType, CacheCorruption, PoisonMessage,
        Surge, Scraper, Probing, SlowClients, LargeRequests,
        *PLATFORM_FAULTS,
    )
}


def all_faults() -> dict[str, type[Fault]]:
    """Those of chaosgym, then those of users' own that are installed or loaded from a file."""
    return FAULTS | own_faults()


def fault_class(label: str) -> type[Fault]:
    """The class behind a label. Raises InputError with the nearest one."""
    if label in FAULTS:  # without a look at what is installed
        return FAULTS[label]
    known = all_faults()
    if label not in known:
        raise InputError(f"there is no fault {label!r}{did_you_mean(label, known)}; `chaosgym faults list` names them all")
    return known[label]


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

"""What each fault looks like in telemetry, written down as a human would tell it: one function per fault type.

A signature looks at one component and returns how well it fits, from 0 (not at all) to about 1 (all that this
fault should show is there). Everything it knows is in `Findings`: no names, no scenario, no constants of one app.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from chaosgym.agents.suspect import Suspect, loud
from chaosgym.telemetry.signals import Change, ComponentSignals, EdgeSignals

__all__ = ["SIGNATURES"]


_NO_ANSWER = ("timeout", "noconnect", "unreachable")
_MEMORY_FLOOR = 8 * 2**20
_FEW_A_SECOND = 0.7
"""Added to both sides of a ratio of rates, so that small numbers do not make large ratios."""


def _ramp(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, a straight line between; 0 for what is not known."""
    return 0.0 if math.isnan(value) else min(1.0, max(0.0, (value - low) / (high - low)))


def _fell(change: Change) -> float:
    """0 to 1: how much of a flow that was there is gone."""
    return 0.0 if math.isnan(change.before) or change.before < 1 else _ramp(1 - (change.after or 0) / change.before, 0.4, 0.95)


def _dead(x: Suspect) -> float:
    return _ramp(x.signals.process_quiet, 0.4, 0.8)


def _silent(x: Suspect) -> float:
    return _ramp(x.signals.quiet, 0.5, 0.9) * (1 - _dead(x))


def _is_program(signals: ComponentSignals) -> bool:
    """Whether it serves requests or messages; anything else is taken for a datastore."""
    return signals.kind in ("gateway", "service", "worker")


def _serves(x: Suspect) -> bool:
    return _is_program(x.signals)


def crash(x: Suspect) -> float:
    """It exited, callers are refused, and it does not come back."""
    ended = x.happened("exit")
    fits = 0.45 * ended + 0.3 * _ramp(x.failing("refused", "reset"), 0.02, 0.3) + 0.35 * _dead(x)
    return fits - 0.5 * x.happened("restart") - 0.6 * _out_of_memory(x)


def hang(x: Suspect) -> float:
    """Callers wait in vain, the process is there, but nothing comes from it any more."""
    return _silent(x) * (0.5 + 0.5 * _ramp(x.failing("timeout"), 0.05, 0.4)) - 0.4 * x.happened("exit")


def busy(x: Suspect) -> float:
    """It burns CPU that its requests do not explain."""
    return _ramp(x.signals.cpu.growth, 0.1, 0.45) * (1 - _ramp(_leak(x), 0.3, 1))


def _leak(x: Suspect) -> float:
    """During a rollout two processes are there at once, which is no leak."""
    low, high = (2.2, 3.2) if x.happened("deployment", "config_change") else (1.3, 2.0)
    return _ramp(x.signals.memory.ratio(_MEMORY_FLOOR), low, high)


def memory_leak(x: Suspect) -> float:
    """Its memory grows, perhaps until it is killed for it and comes back."""
    killed = any(event.killed for event in x.events)
    return min(1.0, 0.65 * _leak(x) + 0.3 * killed * _leak(x) + 0.7 * _out_of_memory(x))


def _out_of_memory(x: Suspect) -> bool:
    return any(event.oom for event in x.events)


def file_descriptors(x: Suspect) -> float:
    """It says so itself, or it stands at its limit."""
    return min(1.0, x.says("toofiles") + 0.6 * _ramp(x.signals.files_share.after, 0.9, 1.0))


def _waits(x: Suspect) -> float:
    """Seconds more that half of the calls to it lose on the way: the median of its callers, by their calls.

    A datastore does not say how long it took itself, so that there the whole call counts. A caller that is
    unwell measures its own slowness, and is not asked.
    """
    seen = [(edge.calls.gap if _serves(x) else edge.calls.p50, edge) for edge in x.incoming if not _unwell(x.everyone.get(edge.source))]
    known = sorted((time.growth, edge.calls.rate.after) for time, edge in seen if not math.isnan(time.after - time.before))
    left = sum(rate for _, rate in known) / 2
    for growth, rate in known:
        left -= rate
        if left <= 0:
            return growth
    return 0.0


def _unwell(caller: ComponentSignals | None) -> bool:
    return caller is not None and (caller.cpu.growth > 0.3 or caller.memory.ratio(_MEMORY_FLOOR) > 2.2)


def _vanished(x: Suspect) -> float:
    """0 to 1: of the calls to it that got no answer, the share that left no trace at it either.

    A datastore tells nothing of single calls: there it is how far its work has come to rest.
    """
    if math.isnan(x.signals.served.rate.before):
        return _fell(Change(100 * x.signals.cpu.before, 100 * x.signals.cpu.after))
    calls = [(edge.calls.rate.after, dict(edge.calls.kinds)) for edge in x.incoming if edge.calls.rate.after > 0]
    unanswered = sum(rate * kinds.get(kind, 0.0) for rate, kinds in calls for kind in _NO_ANSWER)
    sent = sum(rate * (1 - kinds.get("opened", 0.0)) for rate, kinds in calls)
    missing = _ramp((sent - (x.signals.served.rate.after or 0.0)) / unanswered, 0.2, 0.8) if unanswered > 0 else 0.0
    return missing * (1 - _works_on(x))


def _works_on(x: Suspect) -> float:
    """0 to 1: how far it goes on calling others, which it would not if nothing reached it."""
    return max((_ramp(e.calls.rate.after / e.calls.rate.before, 0.5, 1.0) for e in x.outgoing if e.calls.rate.before > 1), default=0.0)


def latency(x: Suspect) -> float:
    """Every caller waits longer than the component itself needs, and requests still arrive."""
    slow = _ramp(_waits(x), 0.02, 0.08)
    excuse = max(locks(x), connections(x), cache_memory(x), _silent(x), _dead(x), 0.7 * busy(x), 0.9 * _storm(x))
    return slow * (1 - 0.8 * excuse) * (1 - 0.8 * max(_vanished(x), 0.8 * x.hears("noconnect")))


def partition(x: Suspect) -> float:
    """Callers get no connection or no answer, nothing arrives, and yet it is alive and well."""
    unconnected = max(_ramp(x.failing("noconnect", "unreachable"), 0.03, 0.2), 0.8 * x.hears("noconnect"))
    lost = max(unconnected, _ramp(x.failing("timeout"), 0.1, 0.5) * _vanished(x))
    return lost * (1 - _silent(x)) * (1 - _dead(x)) * (1 - max(locks(x), connections(x)))


def _told_of(x: Suspect, sign: str) -> float:
    """0 to 1: how loudly a datastore says this of itself, or its clients of it."""
    return 0.0 if _serves(x) else max(x.says(sign), x.hears(sign))


def connections(x: Suspect) -> float:
    """A database that has no slot left."""
    return min(1.0, 0.7 * _told_of(x, "toomany") + 0.4 * _ramp(x.signals.slots.after, 0.8, 0.98))


def locks(x: Suspect) -> float:
    """Sessions of a database wait for each other."""
    return min(1.0, 0.7 * _ramp(x.signals.locks.growth, 0.5, 2) + 0.4 * _told_of(x, "lockwait"))


def cache_memory(x: Suspect) -> float:
    """A cache that is full refuses commands."""
    return min(1.0, 0.7 * _told_of(x, "oomcmd") + 0.4 * _ramp(x.signals.full.after, 0.85, 0.99))


def credential(x: Suspect) -> float:
    """It is refused by name and password, as it says or as the other side does, since it was deployed or reconfigured."""
    if not _serves(x):
        return 0.0
    stores = (edge for edge in x.outgoing if edge.target in x.everyone and not _is_program(x.everyone[edge.target]))
    told = (_ramp(edge.calls.errors.growth, 0.1, 0.5) * loud(x.answers[edge.target], "badauth") for edge in stores)
    return max(x.says("badauth"), *told, 0.0) * (0.7 + 0.3 * x.happened("deployment", "config_change"))


def bad_deploy(x: Suspect) -> float:
    """A new version, and exceptions of its own; without both, failures that nothing it calls explains."""
    deployed, throws = x.happened("deployment"), x.says("exception")
    other = max(credential(x), file_descriptors(x))
    downstream = max((edge.calls.errors.growth for edge in x.outgoing if not math.isnan(edge.calls.errors.growth)), default=0.0)
    fails = max(_ramp(x.signals.served.errors.growth, 0.02, 0.2), 0.6 * throws)
    unexplained = fails * (0.4 + 0.35 * deployed + 0.3 * throws) * (1 - 0.8 * _ramp(downstream, 0.02, 0.2))
    return max(0.9 * deployed * throws, unexplained) * (1 - 0.8 * other)


def _asked(signals: ComponentSignals) -> Change:
    """Requests a second that it was asked for: a request that was given up is seen by its caller alone."""
    sides = zip(signals.served.rate, signals.seen.rate, strict=True)
    return Change(*(max(0.0 if math.isnan(rate) else rate for rate in pair) for pair in sides))


def _repeats(edge: EdgeSignals, caller: ComponentSignals | None) -> float:
    """0 to 1: how far calls per request grew beyond the one repetition that is customary, most of them in vain."""
    asked = Change() if caller is None else _asked(caller)
    if not asked.before > 0:
        return 0.0
    expected = edge.calls.rate.before * asked.after / asked.before
    grown = (edge.calls.rate.after + _FEW_A_SECOND) / (expected + _FEW_A_SECOND)
    return _ramp(grown, 1.5, 2.5) * _ramp(edge.calls.errors.growth, 0.1, 0.4)


def _storm(x: Suspect) -> float:
    """How far others repeat their calls to it."""
    return max((_repeats(edge, x.everyone.get(edge.source)) for edge in x.incoming), default=0.0)


def retry_storm(x: Suspect) -> float:
    """It calls another many times per request of its own, since it was reconfigured."""
    repeats = max((_repeats(edge, x.signals) for edge in x.outgoing), default=0.0)
    changed = x.happened("config_change", "deployment")
    return min(1.0, repeats * (0.55 + 0.5 * changed) + 0.5 * changed * x.says("retrying"))


SIGNATURES: Mapping[str, Callable[[Suspect], float]] = {
    "process.crash": crash,
    "resource.memory_leak": memory_leak,
    "resource.file_descriptors": file_descriptors,
    "dependency.connections": connections,
    "dependency.lock": locks,
    "dependency.cache_memory": cache_memory,
    "configuration.credential": credential,
    "application.retry_storm": retry_storm,
    "application.bad_deploy": bad_deploy,
    "resource.cpu": busy,
    "process.hang": hang,
    "network.partition": partition,
    "network.latency": latency,
}
"""By fault label: first those that a component shows itself, last those that only others can tell of."""

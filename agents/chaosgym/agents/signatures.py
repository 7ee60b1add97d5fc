"""What each fault looks like in telemetry, written down as a human would tell it: one function per fault type.

A signature looks at one component and returns how well it fits, from 0 (not at all) to about 1 (all that this
fault should show is there). Everything it knows is in `Findings`: no names, no scenario, no constants of one app.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from chaosgym.agents.suspect import Suspect, loud, matcher
from chaosgym.agents.telltales import telltale
from chaosgym.faults import FAULTS
from chaosgym.telemetry.signals import EDGE, Change, ComponentSignals, EdgeSignals

__all__ = ["SIGNATURES"]


_AFTER_MILLISECONDS = r"(?:within|after) \d ms"
_ON_ROWS = r"ShareLock on transaction|ExclusiveLock on tuple"
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
    return _silent(x) * (0.3 + 0.7 * _ramp(x.failing("timeout"), 0.05, 0.4)) - 0.4 * x.happened("exit")


def _burns(x: Suspect) -> float:
    """0 to 1: how far its CPU went up; on a crowded machine it gets less than it asks for, and yet many times what it had."""
    up = max(_ramp(x.signals.cpu.growth, 0.1, 0.45), _ramp(x.signals.cpu.ratio(0.02), 3, 7))
    return up * (1 - _ramp(_leak(x), 0.3, 1))


def busy(x: Suspect) -> float:
    """It burns CPU that its requests do not explain."""
    more = _ramp(_asked(x.signals).ratio(3.0), 1.5, 3.0)
    return _serves(x) * _burns(x) * (1 - 0.5 * x.happened("deployment")) * (1 - 0.7 * more)


def slow_release(x: Suspect) -> float:
    """It burns CPU in its requests, since a version went out."""
    works = max(_burns(x), _ramp(x.signals.cpu.ratio(0.01), 1.6, 3.0))
    late = max(_ramp(x.signals.served.p50.growth, 0.005, 0.03), _ramp(x.failing("timeout"), 0.05, 0.3))
    return _serves(x) * x.happened("deployment") * works * (0.7 + 0.3 * _slow_itself(x)) * late


def _slow_itself(x: Suspect) -> float:
    """0 to 1: its requests take longer, and what it calls does not."""
    slower = max((edge.calls.p50.growth for edge in x.outgoing if not math.isnan(edge.calls.p50.growth)), default=0.0)
    slower *= 1 - _late_everywhere(x)  # who is slow himself hears everybody late
    failing = max((edge.calls.errors.growth for edge in x.outgoing if not math.isnan(edge.calls.errors.growth)), default=0.0)
    return _ramp(x.signals.served.p50.growth - slower, 0.03, 0.1) * (1 - _ramp(failing, 0.05, 0.3))


def blocking_call(x: Suspect) -> float:
    """Everything that it serves is slow since a version went out, without CPU and without anybody below it being slow."""
    idle = 1 - _ramp(x.signals.cpu.ratio(0.01), 1.4, 2.5)
    stuck = _late_everywhere(x) * _ramp(x.signals.served.p50.growth, 0.1, 0.3)
    return max(_slow_itself(x), stuck) * idle * (0.35 + 0.6 * x.happened("deployment")) * (1 - _repeated(x))


def cpu_throttle(x: Suspect) -> float:
    """Some of its requests take long, and its callers wait longer still, and it works no more than before; nothing was changed."""
    seen = max((edge.calls.p95.growth for edge in x.incoming), default=0.0)
    if not _serves(x) or math.isnan(seen):
        return 0.0
    waits = _ramp(seen, 0.04, 0.1) * (1 - _slow_below(x))
    late = max(_slow_itself(x), _ramp(x.signals.served.p95.growth, 0.03, 0.08))
    idle = 1 - _ramp(x.signals.cpu.ratio(0.01), 2.5, 4.0)
    failing = max((e.calls.errors.growth for e in x.outgoing if not math.isnan(e.calls.errors.growth)), default=0.0)
    changed = x.happened("deployment", "config_change")
    return waits * late * idle * (0.6 - 0.25 * changed) * (1 - _silent(x)) * (1 - _ramp(failing, 0.03, 0.2))


def _slow_below(x: Suspect) -> float:
    """0 to 1: somebody whom it calls keeps all of its callers waiting."""
    below = [x.everyone[edge.target] for edge in x.outgoing if edge.target in x.everyone]
    growth = [c.seen.p95.growth if _is_program(c) else c.seen.p50.growth for c in below]
    return max((_ramp(g, 0.015, 0.06) for g in growth if not math.isnan(g)), default=0.0)


def _late_everywhere(x: Suspect) -> float:
    """0 to 1: most of whom it calls seem slow to it: it is slow to hear them."""
    seen = [e.calls.gap.growth if not math.isnan(e.calls.gap.growth) else e.calls.p50.growth for e in x.outgoing]
    slow = [_ramp(growth, 0.01, 0.05) for growth in seen if not math.isnan(growth)]
    return sum(slow) / len(slow) if slow else 0.0


def deadlock(x: Suspect) -> float:
    """Requests come in and do not go out again, while it goes on measuring itself."""
    held = _ramp(x.signals.active.growth, 1, 3)
    quick = 1 - _ramp(x.signals.served.p50.growth, 0.1, 0.3)  # what does come out was not kept waiting
    quick *= 1 - 0.8 * _burns(x)  # nor does it wait with all its might
    return held * _fell(x.signals.served.rate) * quick * (0.7 + 0.3 * x.happened("deployment")) * (1 - _silent(x))


def _repeated(x: Suspect) -> float:
    """0 to 1: how far its statements per request multiplied, none of them in vain."""
    stores = (e for e in x.outgoing if x.everyone.get(e.target) is not None and x.everyone[e.target].kind == "postgres")
    return max((_ramp(e.again.ratio(0.5), 2, 5) * (1 - _ramp(e.calls.errors.growth, 0.1, 0.5)) for e in stores), default=0.0)


def repeated_queries(x: Suspect) -> float:
    """Its statements per request multiplied since a version went out."""
    return _repeated(x) * (0.7 + 0.3 * x.happened("deployment"))


def thread_leak(x: Suspect) -> float:
    """Its threads grow, and do not stop growing."""
    return _serves(x) * _ramp(x.signals.threads.growth, 8, 30)


def file_leak(x: Suspect) -> float:
    """Its open files grow, and they are no sockets."""
    sockets = 0.0 if math.isnan(x.signals.sockets.growth) else x.signals.sockets.growth
    return _serves(x) * _ramp(x.signals.files.growth - sockets, 30, 100)


def slow_clients(x: Suspect) -> float:
    """The entry holds many more sockets than its requests need."""
    return _is_entry(x) * _ramp(x.signals.sockets.growth, 30, 120)


def _is_entry(x: Suspect) -> bool:
    return any(edge.source == EDGE for edge in x.incoming)


def _users(x: Suspect) -> Change:
    return next((edge.calls.rate for edge in x.incoming if edge.source == EDGE), Change())


def surge(x: Suspect) -> float:
    """Users come in far greater numbers than a changing day explains."""
    return _is_entry(x) * _ramp(_users(x).ratio(5.0), 1.85, 2.4)


def scraper(x: Suspect) -> float:
    """It serves more requests than its users send."""
    users, served = _users(x), x.signals.served.rate
    return _is_entry(x) * _ramp((served.after - users.after) - (served.before - users.before), 5, 20)


def probing(x: Suspect) -> float:
    """Its log fills with requests for what well-known software has; one such client at times is nothing new."""
    match = matcher(next(s.pattern for s in FAULTS["traffic.probing"].symptoms))
    return _ramp(sum(log.after - log.before for log in x.logs if match(f"{log.template} {log.example}")), 11, 24)


def loss(x: Suspect) -> float:
    """Some calls to it wait very long or get no answer, the others are as fast as ever; it is well."""
    spread = (
        (1 - _ramp(e.calls.p50.growth, 0.02, 0.08)) * max(_ramp(e.calls.p95.growth, 0.1, 0.2), _ramp(_share(e, *_NO_ANSWER), 0.03, 0.15))
        * (1 - _ramp(_share(e, *_NO_ANSWER), 0.6, 0.9))
        for e in x.incoming if e.source != EDGE and not _unwell(x.everyone.get(e.source))
    )  # fmt: skip
    weights = [e.calls.rate.after for e in x.incoming if e.source != EDGE and not _unwell(x.everyone.get(e.source))]
    shares = [(share, weight) for share, weight in zip(spread, weights, strict=True) if weight > 0]
    seen = sum(share * weight for share, weight in shares) / sum(weight for _, weight in shares) if shares else 0.0
    held = _ramp(x.signals.active.growth, 1, 3)
    late = _ramp(x.signals.served.p95.growth, 0.1, 0.2)
    excuse = max(locks(x), row_lock(x), connections(x), _silent(x), _dead(x), _slow_itself(x), _storm(x), late, held, _burns(x))
    return 0.85 * seen * (1 - 0.9 * excuse)


def _share(edge: EdgeSignals, *kinds: str) -> float:
    return sum(share for kind, share in edge.calls.kinds if kind in kinds)


def _serves_on(x: Suspect) -> float:
    """0 to 1: how far it goes on serving as much as before, without errors."""
    served = x.signals.served
    if math.isnan(served.rate.before) or served.rate.before < 0.5:
        return 0.0
    return _ramp(served.rate.after / served.rate.before, 0.4, 0.8) * (1 - _ramp(served.errors.growth, 0.05, 0.3))


def _inside(x: Suspect) -> bool:
    """Whether others than users call it: what users suffer may lie anywhere behind the entry."""
    return any(edge.source != EDGE for edge in x.incoming)


def one_way(x: Suspect) -> float:
    """Its callers wait in vain, and it has answered them all, quickly."""
    hasty = x.shows(x.near, _AFTER_MILLISECONDS)
    quick = 1 - _ramp(x.signals.served.p50.growth, 0.05, 0.15)
    return _inside(x) * _ramp(x.failing("timeout"), 0.2, 0.6) * _serves_on(x) * (1 - 0.8 * hasty) * quick


def refusal(x: Suspect) -> float:
    """Its callers are refused, and it is there, with nothing to do."""
    alive = (1 - _dead(x)) * (1 - 0.9 * x.happened("exit", "restart"))
    return _inside(x) * 0.95 * _ramp(x.failing("refused", "reset"), 0.1, 0.5) * alive * _widely(x, "refused", "reset") * max(
        _fell(x.signals.served.rate), 0.8 * (not _serves(x)))


def _widely(x: Suspect, *kinds: str) -> float:
    """Share of its callers that fail so: what one alone suffers is that one's own."""
    callers = [e for e in x.incoming if e.calls.count.after > 0]
    return sum(_share(e, *kinds) > 0.1 for e in callers) / len(callers) if callers else 0.0


def reset(x: Suspect) -> float:
    """Its callers lose their connections in the middle, and it has served them."""
    alive = (1 - _dead(x)) * (1 - 0.9 * x.happened("exit", "restart"))
    told = 1 - max((x.shows(x.logs, r"terminat|recovery"), x.shows(x.near, r"max number of clients|NOAUTH|recovery mode")))
    return _inside(x) * _ramp(x.failing("reset"), 0.08, 0.3) * alive * told * (_serves_on(x) if _serves(x) else 0.8)


def proxy_unavailable(x: Suspect) -> float:
    """Its callers are told 503, and it has not been asked."""
    quiet = _fell(x.signals.served.rate) * (1 - _dead(x)) * (1 - x.happened("exit"))
    quiet *= (1 - x.says("exception")) * (1 - _ramp(x.signals.served.errors.after, 0.1, 0.5))
    return _inside(x) * _ramp(x.failing("server"), 0.2, 0.6) * quiet


def _on_the_way(fits: Callable[[Suspect], float]) -> Callable[[Suspect], float]:
    """For what is done to answers on their way: the component has served them."""
    return lambda x: fits(x) * _serves_on(x) * _ramp(max((e.calls.errors.growth for e in x.incoming), default=0.0), 0.03, 0.2)


def cache_corruption(x: Suspect) -> float:
    """Whoever reads from a cache throws on what it gets, and has not become another meanwhile."""
    readers = {log.component for log in x.near if log.sign in ("unreadable", "exception")}
    return telltale(FAULTS["data.cache_corruption"])(x) * (1 - 0.8 * bool(readers & x.deployed))


def expensive_report(x: Suspect) -> float:
    """A database that burns CPU, and not in what is written to it."""
    return 0.9 * (x.signals.kind == "postgres") * _burns(x) * (1 - 0.8 * slow_writes(x))


def slow_writes(x: Suspect) -> float:
    """A database that says how long its writes take, and burns CPU meanwhile."""
    late = max((_ramp(e.calls.p95.growth, 0.06, 0.15) for e in x.incoming), default=0.0)
    said = max(x.shows(x.logs, r"duration: .*(?:insert|update)"), 0.8 * x.shows(x.logs, r"duration:"), 0.7 * late)
    return (x.signals.kind == "postgres") * said * (0.4 + 0.6 * _burns(x)) * (1 - 0.8 * locks(x))


def slow_commands(x: Suspect) -> float:
    """A cache that burns CPU while everybody waits."""
    return (x.signals.kind == "redis") * _burns(x)


def cache_eviction(x: Suspect) -> float:
    """A cache that throws away what it has."""
    return (x.signals.kind == "redis") * _ramp(x.signals.evicted.growth, 1, 8)


def memory_limit(x: Suspect) -> float:
    """Killed for its memory since it was reconfigured, without having grown."""
    return _out_of_memory(x) * x.happened("config_change") * (1 - 0.5 * _leak(x))


def stream(x: Suspect) -> float:
    """A worker that was reconfigured and has nothing to do any more."""
    well = (1 - _dead(x)) * (1 - _ramp(x.signals.served.errors.after, 0.1, 0.5))
    return 0.85 * (x.signals.kind == "worker") * x.happened("config_change") * (0.4 + 0.6 * _fell(x.signals.served.rate)) * well


def _leak(x: Suspect) -> float:
    """During a rollout two processes are there at once, which is no leak."""
    low, high = (2.2, 3.2) if x.happened("deployment", "config_change") else (1.3, 2.0)
    return _ramp(x.signals.memory.ratio(_MEMORY_FLOOR), low, high)


def memory_leak(x: Suspect) -> float:
    """Its memory grows, perhaps until it is killed for it and comes back."""
    killed = any(event.killed for event in x.events)
    return min(1.0, 0.65 * _leak(x) + 0.3 * killed * _leak(x) + 0.7 * _out_of_memory(x) * (1 - 0.5 * x.happened("config_change")))


def _out_of_memory(x: Suspect) -> bool:
    return any(event.oom for event in x.events)


def file_descriptors(x: Suspect) -> float:
    """It says so itself, or it stands at its limit."""
    full = min(1.0, x.says("toofiles") + 0.6 * _ramp(x.signals.files_share.after, 0.9, 1.0))
    return full * (1 - 0.7 * max(file_leak(x), slow_clients(x)))


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
    throttled = _serves(x) * _late_everywhere(x)
    excuse = max(
        locks(x), connections(x), cache_memory(x), _silent(x), _dead(x), 0.7 * _burns(x), 0.9 * _storm(x), _slow_itself(x), throttled
    )
    gone = max(_vanished(x), 0.8 * x.hears("noconnect"), _ramp(x.failing("timeout"), 0.45, 0.7))
    leaked = x.shows(x.near, r"connections in use: \d+ of \d+")
    return slow * (1 - 0.8 * excuse) * (1 - 0.8 * gone) * (1 - 0.7 * leaked)


def partition(x: Suspect) -> float:
    """Callers get no connection or no answer, nothing arrives, and yet it is alive and well."""
    unconnected = max(_ramp(x.failing("noconnect", "unreachable"), 0.03, 0.2), 0.8 * x.hears("noconnect"))
    lost = max(unconnected, _ramp(x.failing("timeout"), 0.1, 0.5) * _vanished(x))
    excuse = max(locks(x), connections(x)) * (1 - _ramp(_lost_share(x), 0.85, 1.0))
    held = _ramp(x.signals.active.growth, 1, 3)
    hasty = x.shows(x.near, _AFTER_MILLISECONDS)
    thorough = (0.4 + 0.6 * _ramp(_lost_share(x), 0.6, 0.95)) * (1 - 0.7 * _still_served(x)) * (1 - 0.8 * held) * (1 - 0.8 * hasty)
    return lost * thorough * (1 - _silent(x)) * (1 - _dead(x)) * (1 - excuse)


def _still_served(x: Suspect) -> float:
    """0 to 1: how much of its work still reaches it, where it tells."""
    served = x.signals.served.rate
    return 0.0 if math.isnan(served.before) or served.before < 0.5 else _ramp(served.after / served.before, 0.25, 0.6)


def _lost_share(x: Suspect) -> float:
    """Of all calls to it, the share that fails."""
    calls = [(e.calls.rate.after, e.calls.errors.after) for e in x.incoming if e.calls.rate.after > 0]
    sent = sum(rate for rate, _ in calls)
    return sum(rate * errors for rate, errors in calls if not math.isnan(errors)) / sent if sent else 0.0


def _told_of(x: Suspect, sign: str) -> float:
    """0 to 1: how loudly a datastore says this of itself, or its clients of it."""
    return 0.0 if _serves(x) else max(x.says(sign), x.hears(sign))


def connections(x: Suspect) -> float:
    """A database that has no slot left."""
    elsewhere = x.shows((*x.logs, *x.near), r"too many connections for role")
    return (x.signals.kind == "postgres") * min(1.0, 0.7 * _told_of(x, "toomany") + 0.4 * _ramp(x.signals.slots.after, 0.8, 0.98)) * (
        1 - 0.7 * elsewhere)


def locks(x: Suspect) -> float:
    """Sessions of a database wait for each other."""
    waits = min(1.0, 0.7 * _ramp(x.signals.locks.growth, 0.5, 2) + 0.4 * _told_of(x, "lockwait"))
    return waits * (1 - 0.7 * x.shows(x.logs, _ON_ROWS)) * (1 - 0.6 * _ramp(_lost_share(x), 0.9, 1.0))


def row_lock(x: Suspect) -> float:
    """Sessions of a database wait for a transaction of another."""
    return x.shows(x.logs, _ON_ROWS) * (1 - 0.8 * _ramp(_lost_share(x), 0.85, 1.0))


def cache_memory(x: Suspect) -> float:
    """A cache that is full refuses commands."""
    full = min(1.0, 0.7 * _told_of(x, "oomcmd") + 0.4 * _ramp(x.signals.full.after, 0.85, 0.99))
    return full * (1 - 0.7 * _ramp(x.signals.evicted.growth, 1, 8))


def cache_flush(x: Suspect) -> float:
    """Nothing is left of what a cache held, streams and groups included, though it has room."""
    return telltale(FAULTS["dependency.cache_flush"])(x) * (1 - 0.8 * _ramp(x.signals.full.after, 0.85, 0.99))


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


def _unreached(x: Suspect) -> float:
    """0 to 1: callers are refused at once."""
    return _ramp(x.failing("refused", "unreachable", "reset", "noconnect", "timeout"), 0.05, 0.4)


def selector(x: Suspect) -> float:
    """Its pods are there and well, and its service leads to none of them."""
    none = x.signals.endpoints.before > 0 and x.signals.endpoints.after == 0
    return none * (x.signals.pods.after > 0) * (0.5 + 0.5 * _unreached(x)) * (1 - x.reported("Readiness probe failed"))


def readiness_probe(x: Suspect) -> float:
    """It runs, and its probe finds it unready for good: a pod on its way out is unready for a moment only."""
    none = x.signals.pods.after == 0 and x.signals.endpoints.after == 0
    alive = 1 - _ramp(x.signals.process_quiet, 1.5, 3.0)
    return x.reported("Readiness probe failed") * none * alive * (1 - x.reported(r"liveness probe|Back-off restarting"))


def target_port(x: Suspect) -> float:
    """Its service leads to it, it is well, and callers are refused."""
    leads = x.signals.endpoints.after > 0 and x.signals.pods.after > 0
    refused = _ramp(x.failing("refused", "unreachable"), 0.05, 0.4)
    return leads * (1 - _dead(x)) * refused * _fell(x.signals.served.rate) * (0.5 + 0.5 * x.happened("config_change"))


def scaled_to_zero(x: Suspect) -> float:
    """It was scaled down, and no pod is left."""
    return float(x.happened("scale") and x.signals.pods.after == 0)


def container_memory(x: Suspect) -> float:
    """It is rolled out, ends at once, and is started later and later, and nothing else is said of it."""
    back = x.reported(r"Back-off restarting failed container") * x.happened("deployment")
    other = x.reported(r"executable file not found|no such file or directory|liveness probe")
    return max(float(x.happened("OOMKilled")), 0.9 * back * (1 - other))  # of the container, and not of a process that leaks in it


_WRITTEN: Mapping[str, Callable[[Suspect], float]] = {
    "process.crash": crash,
    "platform.readiness_probe": readiness_probe,
    "platform.selector": selector,
    "platform.target_port": target_port,
    "platform.scaled_to_zero": scaled_to_zero,
    "platform.memory_limit": container_memory,
    "resource.memory_leak": memory_leak,
    "resource.file_descriptors": file_descriptors,
    "dependency.connections": connections,
    "dependency.lock": locks,
    "dependency.row_lock": row_lock,
    "dependency.cache_flush": cache_flush,
    "data.cache_corruption": cache_corruption,
    "dependency.cache_memory": cache_memory,
    "configuration.credential": credential,
    "application.retry_storm": retry_storm,
    "application.bad_deploy": bad_deploy,
    "resource.cpu": busy,
    "process.hang": hang,
    "network.partition": partition,
    "network.latency": latency,
    "configuration.memory_limit": memory_limit,
    "configuration.stream": stream,
    "application.slow_release": slow_release,
    "application.blocking_call": blocking_call,
    "application.deadlock": deadlock,
    "application.repeated_queries": repeated_queries,
    "resource.cpu_throttle": cpu_throttle,
    "resource.thread_leak": thread_leak,
    "resource.file_leak": file_leak,
    "network.loss": loss,
    "network.one_way": one_way,
    "network.refusal": refusal,
    "network.reset": reset,
    "network.proxy_unavailable": proxy_unavailable,
    "dependency.slow_writes": slow_writes,
    "dependency.expensive_report": expensive_report,
    "dependency.cache_slow_commands": slow_commands,
    "dependency.cache_eviction": cache_eviction,
    "traffic.surge": surge,
    "traffic.scraper": scraper,
    "traffic.slow_clients": slow_clients,
    "traffic.probing": probing,
    "network.truncation": _on_the_way(telltale(FAULTS["network.truncation"])),
    "network.corruption": _on_the_way(telltale(FAULTS["network.corruption"])),
}

SIGNATURES: Mapping[str, Callable[[Suspect], float]] = {
    **_WRITTEN,
    **{label: telltale(fault) for label, fault in FAULTS.items() if label not in _WRITTEN},
}
"""By fault label: first those that a component shows itself, last those that only others can tell of."""

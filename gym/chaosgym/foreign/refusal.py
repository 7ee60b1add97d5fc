"""Which faults a foreign application can have, and why not the others.

Three things must agree: the fault fits the component's kind, the file allows what it needs, and the engine can do it here. Beyond
that, some faults of the catalogue are for chaosgym's own applications alone, as what they do to data could not be put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chaosgym.errors import InputError, did_you_mean
from chaosgym.faults import all_faults, refusal
from chaosgym.faults.base import Fault
from chaosgym.foreign.app import ForeignComponent
from chaosgym.foreign.load import LoadedApp
from chaosgym.foreign.plan import kind_of, make_app
from chaosgym.sandbox.base import Capability
from chaosgym.scenario import Scenario
from chaosgym.scenarios.case import cases

__all__ = ["Lacks", "granted", "possible_faults", "refuse", "why_not"]

Lacks = Mapping[str, Mapping[Capability, str]]
"""By role: what cannot be done to it here, with the reason. Empty before the engine has been asked."""

_LOST = "it would take rights, limits or rows that you have given, and could not put them back exactly"
_SHAPED = "it knows its way about chaosgym's own tables only"
_BYTES = "it changes bytes or timing on the way, which rules of a firewall cannot do"
_KEYS = "it would overwrite or delete data of yours"
_NOT_HERE: Mapping[str, str] = {
    **dict.fromkeys(("dependency.role_connections", "dependency.privilege", "dependency.password_rotation"), _LOST),
    **dict.fromkeys(("dependency.sequence_exhausted", "data.sequence_reset", "dependency.cache_permission"), _LOST),
    **dict.fromkeys(("data.missing_column", "data.constraint", "data.not_null"), _SHAPED),
    **dict.fromkeys(("network.latency", "network.reset", "network.truncation", "network.corruption", "network.proxy_unavailable"), _BYTES),
    **dict.fromkeys(("data.cache_type", "data.cache_corruption", "dependency.cache_flush", "dependency.cache_eviction"), _KEYS),
    "data.poison_message": "it would leave messages in your streams",
    "dependency.cache_read_only": "a replica throws its own data away",
    "dependency.cache_password": "it could lock your application out for good",
    "dependency.cache_clients": "it would cut off clients that are not part of this application",
}


def granted(component: ForeignComponent) -> frozenset[Capability]:
    """What its file allows."""
    found: set[Capability] = {*component.allow}
    return frozenset({*found, "packets"} if "link" in found else found)


def why_not(fault: type[Fault], role: str, component: ForeignComponent, lacks: Lacks) -> str | None:
    """Why this component cannot have this fault; None when it can."""
    kind = kind_of(component)
    allowed = granted(component)
    if fault.label in _NOT_HERE:
        return f"{fault.label} is for chaosgym's own applications: {_NOT_HERE[fault.label]}"
    if kind not in fault.kinds:
        return refusal(fault, kind, allowed)
    if alien := sorted(fault.needs & {"restart", "defect", "platform"}):
        return f"{fault.label} needs {', '.join(alien)}, which takes chaosgym's own programs"
    if missing := sorted(fault.needs - allowed - {"packets"}):
        now = f"[{', '.join(component.allow)}]" if component.allow else "nothing"
        return f"{fault.label} needs {' and '.join(missing)}, and the file allows {now} on '{role}'; if that is meant, add it to `allow`"
    for need in sorted(fault.needs):
        if why := lacks.get(role, {}).get(need):
            return f"{fault.label} needs {need}, which cannot be done to '{role}' here: {why}"
    if "table" in fault.Parameters.model_fields and not component.tables:
        return f"{fault.label} acts on a table, and the file names none of '{role}'; name them under `tables`"
    return None


def possible_faults(loaded: LoadedApp, role: str, lacks: Lacks) -> list[str]:
    """Labels of all that the component can have."""
    component = loaded.app.spec.components[role]
    return [label for label, fault in all_faults().items() if why_not(fault, role, component, lacks) is None]


def refuse(loaded: LoadedApp, scenario: Scenario, lacks: Lacks) -> None:
    """Raise InputError with every reason why `scenario` may not or cannot happen; each points into the application's file."""
    problems = list(dict.fromkeys(_problems(loaded, scenario, lacks)))
    if problems:
        raise InputError("\n".join(problems))


def _problems(loaded: LoadedApp, scenario: Scenario, lacks: Lacks) -> Iterator[str]:
    components, known = loaded.app.spec.components, all_faults()
    app = make_app(loaded.app)
    for decoy in scenario.spec.decoys:
        if decoy.kind in ("deploy", "config"):
            yield f"scenario '{scenario.metadata.name}': a decoy of kind {decoy.kind} rolls out chaosgym's own programs; leave it out here"
    for index, spec in enumerate(scenario.spec.faults):
        for (case,) in cases(scenario, app, [index]):
            if case.target not in components:
                names = f"{', '.join(components)}{did_you_mean(case.target, components)}"
                yield loaded.source.message(("spec", "components"), f"there is no component '{case.target}' to break; there are {names}")
                continue
            why = why_not(known[spec.fault], case.target, components[case.target], lacks)
            if why is not None:
                loc = ("spec", "components", case.target, "allow")
                yield loaded.source.message(loc, f"{why}; {_instead(loaded, spec.fault, case.target, lacks)}")
            elif (table := case.value(spec.parameters.get("table"))) is not None and table not in components[case.target].tables:
                tables = components[case.target].tables
                text = f"'{case.target}' has no table '{table}'; the file names {', '.join(tables)}{did_you_mean(str(table), tables)}"
                yield loaded.source.message(("spec", "components", case.target, "tables"), text)


def _instead(loaded: LoadedApp, label: str, role: str, lacks: Lacks) -> str:
    """Which of its kin would work here, and where this one would."""
    able = possible_faults(loaded, role, lacks)
    kin = [each for each in able if each.split(".")[0] == label.split(".")[0]]
    fault = all_faults()[label]
    others = [r for r, c in loaded.app.spec.components.items() if r != role and why_not(fault, r, c, lacks) is None]
    here = f"'{role}' can have {_some(kin or able)}" if able else f"'{role}' can have no fault as the file stands"
    return f"{here}; {label} can be had by {_some(others)}" if others else here


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "")

"""A rotating sample of the library, for a check that may not take an hour: `python -m chaosgym.gates.sample [--count 4] [CHANGED FILE]...`

Prints names of shipped scenarios: as many as asked for, others every day, so that all of them have their turn; and
those that changed files concern, by their own file or by that of a fault that they use.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from chaosgym.faults import fault_class
from chaosgym.scenario import Scenario
from chaosgym.scenarios import load_scenario, runs_on, scenario_path, shipped_scenarios

__all__ = ["concerned", "main", "rotating"]

_MOST = 12
"""More than this were not judged within the minutes that a check has; of a change to many faults a sample is checked."""


def rotating(names: Sequence[str], day: int, count: int) -> list[str]:
    """`count` of `names` on day number `day`: neighbours in a list sorted by family are spread over the days."""
    step = -(-len(names) // count)  # rounded up: days until all had their turn
    return list(names[day % step :: step])


def concerned(changed: Sequence[Path], scenarios: Mapping[str, Scenario]) -> list[str]:
    """Those whose file, or whose fault's module, is among `changed` (paths are compared from their end)."""
    ends = {path.parts[-2:] for path in changed}
    return [name for name, scenario in scenarios.items() if any(path.parts[-2:] in ends for path in _files(name, scenario))]


def _files(name: str, scenario: Scenario) -> list[Path]:
    return [scenario_path(name), *(Path(inspect.getfile(fault_class(fault.fault))) for fault in scenario.spec.faults)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the names, one a line."""
    parser = argparse.ArgumentParser(description="Names of the scenarios to check today.")
    parser.add_argument("changed", nargs="*", type=Path, help="files that the last commits touched")
    parser.add_argument("--count", type=int, default=4, help="how many beside those that the files concern (4)")
    parser.add_argument("--day", type=int, default=datetime.now(UTC).toordinal(), help="number of the day (today's)")
    options = parser.parse_args(arguments)
    names = [name for name in shipped_scenarios() if "local" in runs_on(load_scenario(name))]
    today = rotating(names, options.day, options.count)
    touched = [name for name in concerned(options.changed, {name: load_scenario(name) for name in names}) if name not in today]
    room = max(_MOST - len(today), 1)
    print("\n".join((*today, *(touched if len(touched) <= room else rotating(touched, options.day, room)))))


if __name__ == "__main__":
    main()

"""The shipped library of apps and scenarios, how files of your own are loaded, and the static check.

`.draft` writes a scenario to start from, `.explain` says one in plain words.

>>> scenario = load_scenario("process-crash")
>>> app = load_app(scenario.spec.app)
>>> check_scenario("process-crash")
[]
"""

from __future__ import annotations

from chaosgym.scenarios.check import check_scenario, refuse_impossible, runs_on
from chaosgym.scenarios.load import find_scenarios, library, load_app, load_scenario, scenario_path, shipped_apps, shipped_scenarios

__all__ = [
    "check_scenario",
    "find_scenarios",
    "library",
    "load_app",
    "load_scenario",
    "refuse_impossible",
    "runs_on",
    "scenario_path",
    "shipped_apps",
    "shipped_scenarios",
]

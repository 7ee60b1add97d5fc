"""The shipped library of apps and scenarios, and how files of your own are loaded.

>>> scenario = load_scenario("process-crash")
>>> app = load_app(scenario.spec.app)
"""

from __future__ import annotations

from chaosgym.scenarios.load import find_scenarios, library, load_app, load_scenario, shipped_apps, shipped_scenarios

__all__ = ["find_scenarios", "library", "load_app", "load_scenario", "shipped_apps", "shipped_scenarios"]

"""What diagnoses: models, rules, and the rails that say what a score is worth.

`Agent` is the protocol, `make_agent` makes one by name. Only the oracle may know the truth.
"""

from __future__ import annotations

from chaosgym.agents.agent import Agent, Investigation, Investigator
from chaosgym.agents.make import AGENT_NAMES, make_agent
from chaosgym.agents.oracle import OracleAgent, right_answer
from chaosgym.agents.rails import MajorityAgent, NullAgent, RandomAgent
from chaosgym.agents.rules import RulesAgent
from chaosgym.agents.shortcuts import FirstAnomalyAgent, GrepAgent, LatestDeployAgent, MostErrorsAgent, MostNotableAgent

__all__ = [
    "AGENT_NAMES",
    "Agent",
    "FirstAnomalyAgent",
    "GrepAgent",
    "Investigation",
    "Investigator",
    "LatestDeployAgent",
    "MajorityAgent",
    "MostErrorsAgent",
    "MostNotableAgent",
    "NullAgent",
    "OracleAgent",
    "RandomAgent",
    "RulesAgent",
    "make_agent",
    "right_answer",
]

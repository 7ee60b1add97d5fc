"""Environments. Importing this registers `chaosgym/RootCause-v0` and `chaosgym/Investigate-v0` with Gymnasium.

    import gymnasium
    import chaosgym.envs

    env = gymnasium.make("chaosgym/RootCause-v0", episodes="episodes")                      # replays recordings
    env = gymnasium.make("chaosgym/RootCause-v0", sandbox="local", scenarios="shop-*")      # breaks real services
    env = gymnasium.make("chaosgym/Investigate-v0", episodes="episodes")                    # asks tools, many steps
"""

from __future__ import annotations

import gymnasium

from chaosgym.envs.investigate import InvestigateEnv
from chaosgym.envs.root_cause import RootCauseEnv
from chaosgym.envs.vector import ThreadedVectorEnv

__all__ = ["INVESTIGATE", "InvestigateEnv", "ROOT_CAUSE", "RootCauseEnv", "ThreadedVectorEnv"]  # noqa: RUF022 - an id beside its class

ROOT_CAUSE = "chaosgym/RootCause-v0"
INVESTIGATE = "chaosgym/Investigate-v0"

if ROOT_CAUSE not in gymnasium.registry:
    gymnasium.register(
        ROOT_CAUSE,
        entry_point="chaosgym.envs.root_cause:RootCauseEnv",
        vector_entry_point="chaosgym.envs.vector:make_root_cause_vec",
        order_enforce=True,
    )

if INVESTIGATE not in gymnasium.registry:
    gymnasium.register(
        INVESTIGATE,
        entry_point="chaosgym.envs.investigate:InvestigateEnv",
        vector_entry_point="chaosgym.envs.vector:make_investigate_vec",
        order_enforce=True,
    )

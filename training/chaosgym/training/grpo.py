"""`chaosgym train grpo`: reinforcement learning on the reward, with TRL's GRPOTrainer.

Several answers to the same incident are compared with each other; the better ones become likelier.
"""

from __future__ import annotations

from typing import Any

from chaosgym.training.config import GrpoConfig
from chaosgym.training.reinforcement import Method, need_vllm, reinforce
from chaosgym.training.run import open_run
from chaosgym.training.tasks import read_sources

__all__ = ["GrpoConfig", "grpo", "method"]


def grpo(config: GrpoConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train and return the summary; a finished run is not run again when `resume` is set."""
    need_vllm(config)
    run = open_run(config, "grpo", resume)
    if config.task == "investigate":
        from chaosgym.training.inquire import reinforce_inquiries

        return run.summary() or reinforce_inquiries(config, run, method(config))
    return run.summary() or reinforce(config, run, read_sources(config.episodes), method(config))


def method(config: GrpoConfig) -> Method:
    """Trainers and fixed settings of GRPO, for a report or an investigation."""
    from chaosgym.training.asking import AskingGRPOTrainer
    from chaosgym.training.prefix import SharedPrefixGRPOTrainer
    from chaosgym.training.turns import TurnsGRPOTrainer

    # Dividing by a group's deviation would make as much of the small extras as of being right.
    fixed = {"scale_rewards": "none", "epsilon_high": 0.28}
    sharing = TurnsGRPOTrainer if config.task == "investigate" else SharedPrefixGRPOTrainer
    return Method(AskingGRPOTrainer, sharing, fixed, oversample=config.oversample)

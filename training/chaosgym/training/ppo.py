"""`chaosgym train ppo`: reinforcement learning on the reward, with a value head on TRL's GRPOTrainer.

Each token is compared with what the model itself expected before it; what turned out better becomes likelier.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from chaosgym.training.config import PpoConfig
from chaosgym.training.reinforcement import Method, need_vllm, reinforce
from chaosgym.training.run import open_run
from chaosgym.training.tasks import read_sources

__all__ = ["PpoConfig", "method", "ppo"]


def ppo(config: PpoConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train and return the summary; a finished run is not run again when `resume` is set."""
    need_vllm(config)
    run = open_run(config, "ppo", resume)
    if config.task == "investigate":
        from chaosgym.training.inquire import reinforce_inquiries

        return run.summary() or reinforce_inquiries(config, run, method(config))
    return run.summary() or reinforce(config, run, read_sources(config.episodes), method(config))


def method(config: PpoConfig) -> Method:
    """Trainers and fixed settings of PPO, for a report or an investigation."""
    from chaosgym.training.critic import VALUE_FILE, Estimation, PPOTrainer, SharedPrefixPPOTrainer, TurnsPPOTrainer

    def take_over(trainer: PPOTrainer) -> None:
        """Begin with the value head of a model that was trained here before."""
        if (Path(config.model) / VALUE_FILE).is_file():
            trainer.critic.load(Path(config.model))

    by_turn = (config.gae_step or ("turn" if config.task == "investigate" else "token")) == "turn"
    how = Estimation(config.discount, config.gae_lambda, by_turn, config.whiten, config.value_clip, config.value_weight)
    sharing = TurnsPPOTrainer if config.task == "investigate" else SharedPrefixPPOTrainer
    return Method(
        partial(PPOTrainer, estimation=how), partial(sharing, estimation=how),
        {"epsilon": config.policy_clip}, epochs=config.epochs, value_rate=config.value_learning_rate, within="batch", prepare=take_over,
    )

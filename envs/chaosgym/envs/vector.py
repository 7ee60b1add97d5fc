"""Environments side by side in threads: live sandboxes wait for processes and packets, not for the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate

from chaosgym.envs.investigate import InvestigateEnv
from chaosgym.envs.root_cause import RootCauseEnv
from chaosgym.errors import InputError

__all__ = ["ThreadedVectorEnv", "make_investigate_vec", "make_root_cause_vec"]

Env = gymnasium.Env[Any, Any]


class _Moved(NamedTuple):
    """What one environment gave back."""

    observation: Any
    info: dict[str, Any]
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    final: dict[str, Any] | None = None
    """Last observation and info of an episode that was followed by a reset in the same step."""


class ThreadedVectorEnv(SyncVectorEnv[Any, Any]):
    """As `SyncVectorEnv` in spaces, seeds, infos and autoreset modes, but all environments move at once."""

    def __init__(self, env_fns: Sequence[Callable[[], Env]], **options: Any) -> None:
        """Make the environments; `options` as of `SyncVectorEnv`. Raises InputError without any."""
        if not env_fns:
            raise InputError("a vector environment of 0 environments; pass at least one function that makes one")
        super().__init__(env_fns, **options)
        self._threads = ThreadPoolExecutor(len(env_fns), thread_name_prefix="chaosgym-env")
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all, or those of `options["reset_mask"]`; environment i is seeded with `seed + i`, or `seed[i]` of a list."""
        inner = dict(options or {})
        mask = _mask(inner.pop("reset_mask", None), self.num_envs)
        seeds = _seeds(seed, self.num_envs)

        def one(index: int) -> _Moved:
            return _Moved(*self.envs[index].reset(seed=seeds[index], options=dict(inner) or None))

        moved = self._move({index: partial(one, index) for index in np.flatnonzero(mask).tolist()})
        self._ended[mask] = False
        return self._batch(moved), self._infos(moved)

    def step(self, actions: Any) -> tuple[Any, npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Step all; one that ended is reset as `autoreset_mode` says."""
        given = list(iterate(self.action_space, actions))
        if len(given) != self.num_envs:
            raise InputError(f"{len(given)} actions for {self.num_envs} environments; pass one each")
        moved = self._move({index: partial(self._advance, index, action) for index, action in enumerate(given)})
        rewards = np.array([moved[i].reward for i in moved], dtype=np.float64)
        terminated = np.array([moved[i].terminated for i in moved], dtype=np.bool_)
        truncated = np.array([moved[i].truncated for i in moved], dtype=np.bool_)
        self._ended = terminated | truncated
        return self._batch(moved), rewards, terminated, truncated, self._infos(moved)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments and end the threads."""
        if hasattr(self, "_threads"):
            self._threads.shutdown()
        super().close_extras(**kwargs)

    def _advance(self, index: int, action: Any) -> _Moved:
        env = self.envs[index]
        if self._ended[index]:
            if self.autoreset_mode == AutoresetMode.DISABLED:
                raise gymnasium.error.ResetNeeded(f"environment {index} has ended and autoreset is disabled: reset it with a reset_mask")
            if self.autoreset_mode == AutoresetMode.NEXT_STEP:
                return _Moved(*env.reset())
        observation, reward, terminated, truncated, info = env.step(action)
        if self.autoreset_mode == AutoresetMode.SAME_STEP and (terminated or truncated):
            return _Moved(*env.reset(), float(reward), terminated, truncated, {"final_obs": observation, "final_info": info})
        return _Moved(observation, info, float(reward), terminated, truncated)

    def _move(self, work: Mapping[int, Callable[[], _Moved]]) -> dict[int, _Moved]:
        """Run each in a thread; an error is raised when all have ended, so that none moves on behind the caller's back."""
        futures = {index: self._threads.submit(call) for index, call in work.items()}
        wait(futures.values())
        return {index: future.result() for index, future in futures.items()}

    def _batch(self, moved: Mapping[int, _Moved]) -> Any:
        for index, one in moved.items():
            self._env_obs[index] = one.observation
        self._observations = concatenate(self.single_observation_space, self._env_obs, self._observations)
        return deepcopy(self._observations) if self.copy else self._observations

    def _infos(self, moved: Mapping[int, _Moved]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for index, one in moved.items():
            for info in (one.final, one.info):
                infos = self._add_info(infos, info, index) if info else infos
        return infos


def _seeds(seed: int | list[int | None] | None, count: int) -> list[int | None]:
    seeds = seed if isinstance(seed, list) else [None if seed is None else seed + i for i in range(count)]
    if len(seeds) != count:
        raise InputError(f"{len(seeds)} seeds for {count} environments; pass one each, one number or None")
    return seeds


def _mask(mask: Any, count: int) -> npt.NDArray[np.bool_]:
    if mask is None:
        return np.ones(count, dtype=np.bool_)
    if not isinstance(mask, np.ndarray) or mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
        raise InputError(f"options['reset_mask'] is {mask!r}; pass a boolean array of shape ({count},) with at least one True")
    return mask


def make_root_cause_vec(num_envs: int, **arguments: Any) -> ThreadedVectorEnv:
    """`num_envs` environments alike, for `gymnasium.make_vec`; `arguments` as of `RootCauseEnv`."""
    return ThreadedVectorEnv([lambda: RootCauseEnv(**arguments)] * num_envs)


def make_investigate_vec(num_envs: int, **arguments: Any) -> ThreadedVectorEnv:
    """`num_envs` environments alike, for `gymnasium.make_vec`; `arguments` as of `InvestigateEnv`."""
    return ThreadedVectorEnv([lambda: InvestigateEnv(**arguments)] * num_envs)

"""PPO on TRL's GRPOTrainer: TRL generates, scores, clips the policy and keeps it near the reference; here is what it lacks.

    answers, rewards ──TRL──> batch ──> values of the model's own head ──> advantages per token, returns ──> batch
    batch, several times over ──TRL──> policy loss + beta KL ──> + weight * clipped value loss

TRL takes advantages (B, T) from subclasses, and splits and shuffles whatever tensors they add to a batch.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from chaosgym.errors import InputError
from chaosgym.training.asking import AskingGRPOTrainer
from chaosgym.training.gae import advantages, at_the_end, explained_variance, value_loss, whiten
from chaosgym.training.prefix import SharedPrefixGRPOTrainer
from chaosgym.training.turns import TurnsGRPOTrainer

__all__ = ["VALUE_FILE", "Critic", "Estimation", "PPOTrainer", "SharedPrefixPPOTrainer", "TurnsPPOTrainer"]

VALUE_FILE = "value_head.safetensors"
"""Beside the weights in a model's folder and in checkpoints; those who only want answers need not know it."""

_REACH = 32
"""Adam moves every weight by its rate, so a value moves by that times the width; the head's input is scaled to this instead."""


@dataclass(frozen=True)
class Estimation:
    """How advantages and values are made; `PpoConfig` says what each does."""

    discount: float
    trace: float
    by_turn: bool
    whiten: bool
    value_clip: float
    value_weight: float


class Critic:
    """A linear head on a causal model's last hidden states that tells what reward is to be expected before each token.

    The model must have TRL's fused head. The values are computed within the model's own forward, since what wraps a model
    to train it on several processes looks for its parameters there. They are float32 whatever the model is.
    """

    def __init__(self, model: Any) -> None:
        """Hang the head on `model`, where it is `model.value_head`: all zeros, and not saved with the model's weights."""
        device = model.get_output_embeddings().weight.device
        self.head = nn.Linear(model.config.get_text_config().hidden_size, 1, dtype=torch.float32, device=device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._said: list[torch.Tensor] = []
        model.value_head = self.head
        model._keys_to_ignore_on_save = {*(model._keys_to_ignore_on_save or ()), "value_head.weight", "value_head.bias"}
        self._listen(model)

    def _listen(self, model: Any) -> None:
        seen: dict[str, torch.Tensor] = {}
        inner, said = model.forward, self._said
        scale = _REACH / self.head.in_features

        @functools.wraps(type(model).forward)  # `generate` checks its arguments against the signature
        def forward(this: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
            outputs = inner(*args, fused_lm_head=fused_lm_head, **kwargs)
            hidden = seen.pop("hidden", None)
            if fused_lm_head and hidden is not None:
                with torch.autocast(hidden.device.type, enabled=False):
                    values = this.value_head(scale * hidden[:, :-1].to(this.value_head.weight)).squeeze(-1)
                said.append(values)
                outputs["state_values"] = values  # who wraps the model finds the head's gradient through the outputs
            return outputs

        model.base_model.register_forward_hook(lambda _module, _inputs, outputs: seen.update(hidden=outputs.last_hidden_state))
        model.forward = types.MethodType(forward, model)

    def take(self) -> list[torch.Tensor]:
        """The values of the scoring passes since the last call, each (rows, S - 1): column i is before token i + 1."""
        taken = list(self._said)
        self._said.clear()
        return taken

    def unpack(self, by_row: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Put values of rows that hold several answers into one row per answer; the reference's pass has left none."""
        self._said[:] = map(by_row, self._said)

    def gather(self, in_place: Callable[[list[torch.Tensor]], torch.Tensor]) -> None:
        """Put values of several passes into one batch; the reference's passes have left none."""
        if self._said:
            self._said[:] = [in_place(list(self._said))]

    @property
    def untrained(self) -> bool:
        """Whether the head is as it was made."""
        return not bool(self.head.weight.any() or self.head.bias.any())

    def expect(self, reward: float) -> None:
        """Let the head say `reward` everywhere, to begin with."""
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.fill_(reward)

    def save(self, folder: Path) -> None:
        """Write `value_head.safetensors`."""
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.head.state_dict().items()}, folder / VALUE_FILE)

    def load(self, folder: Path) -> None:
        """Read it. Raises InputError when it is missing, broken or of a model of another width."""
        path = folder / VALUE_FILE
        try:
            self.head.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{path}: no value head of this model ({error}); remove the file to begin with a new one") from error


class PPOTrainer(AskingGRPOTrainer):
    """AskingGRPOTrainer with a learned value in place of the group's mean: Schulman et al. 2017, arXiv:1707.06347.

    TRL still groups answers by prompt, two at least; the groups have no part in the advantages.
    """

    def __init__(self, model: Any, *args: Any, estimation: Estimation, **kwargs: Any) -> None:
        """`model` and the rest as in GRPOTrainer; adapters are put on before the head, which is trained whole."""
        super().__init__(model, *args, **kwargs)
        mine: Any = self.model
        self.critic = Critic(mine.get_base_model() if hasattr(mine, "peft_config") else mine)
        self._estimation = estimation
        self._scores = torch.empty(0)
        self._passes: list[torch.Tensor] = []

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(*args, **kwargs)
        weighted = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
        self._scores = weighted.masked_fill(rewards.isnan().all(1), torch.nan)  # of all processes
        return rewards

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, *args: Any, **kwargs: Any
    ) -> Any:
        self.critic.take()
        found = super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
        parts = self.critic.take()
        if parts:  # the reference has no value head
            self._passes.append(torch.cat(parts)[:, -logits_to_keep:])
        return found

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch with `advantages`, `returns`, `old_values`, each (B, T), and `scored` (B,): 0 where there is no reward."""
        self._passes.clear()
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        scores = self._scores
        if self.critic.untrained:
            self.critic.expect(float(scores.nanmean().nan_to_num()))
            self._passes.clear()
        values = self._old_values(batch)
        rank, rows = self.accelerator.process_index, len(inputs)
        mine = scores[rank * rows : (rank + 1) * rows]
        return batch | self._estimate(batch, mine, values)

    def _old_values(self, batch: dict[str, Any]) -> torch.Tensor:
        """Values (B, T) of the model that wrote the answers; the pass that gave its probabilities, if TRL made one, gave them too."""
        if "old_per_token_logps" not in batch or not self._passes:
            self._passes.clear()
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
            with torch.no_grad():
                self._get_per_token_logps_and_entropies(
                    self.model, ids, mask, batch["completion_ids"].size(1), batch_size=self.args.per_device_train_batch_size
                )
        return self._passes[0]

    def _estimate(self, batch: dict[str, Any], scores: torch.Tensor, values: torch.Tensor) -> dict[str, torch.Tensor]:
        how = self._estimation
        scored = (~scores.isnan()).to(values)
        mask = _written(batch) * scored[:, None]
        values = values * mask
        rewards = at_the_end(scores.nan_to_num(), mask)
        found = advantages(rewards, values, mask, how.discount, how.trace, how.by_turn)
        come = advantages(rewards, values, mask, how.discount, 1.0) + values  # what came of it: no value has a part in it
        self._metrics["train"]["explained_variance"].append(explained_variance(values, come, mask, self._over_all))
        total, count = self._over_all(torch.stack([values.sum(), mask.sum()])).tolist()
        self._metrics["train"]["value"].append(total / max(1, count))
        told = whiten(found, mask, self._over_all) if how.whiten else found
        return {"advantages": told, "returns": found + values, "old_values": values, "scored": scored}

    def _over_all(self, sums: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(sums, reduction="sum")  # pyright: ignore[reportReturnType]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._passes.clear()
        policy = super()._compute_loss(model, inputs)
        values = self._passes.pop()
        mask = _written(inputs) * inputs["scored"][:, None]
        value = value_loss(values, inputs["old_values"], inputs["returns"], mask, self._estimation.value_clip)
        kept = self._metrics["train" if torch.is_grad_enabled() else "eval"]
        here = mask.sum()
        total, clipped, count = self._over_all(torch.stack([value.total.detach(), value.clipped * here, here])).tolist()
        kept["value_loss"].append(total / max(1, count))
        kept["value_clip_fraction"].append(clipped / max(1, count))
        return policy + self._estimation.value_weight * value.total / self._tokens(inputs)

    def _tokens(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Tokens of one update per process, by which TRL divides the sum of the policy loss (`loss_type="dapo"`)."""
        args: Any = self.args
        share = self.current_gradient_accumulation_steps / args.steps_per_generation
        return inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes * share

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.critic.save(Path(output_dir or self.args.output_dir or "."))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.critic.load(Path(resume_from_checkpoint))


class SharedPrefixPPOTrainer(PPOTrainer, SharedPrefixGRPOTrainer):
    """PPOTrainer that computes each prompt once for all the answers to it."""

    def _unpacked(self, by_row: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.critic.unpack(by_row)


class TurnsPPOTrainer(PPOTrainer, TurnsGRPOTrainer):
    """PPOTrainer for investigations, which computes no page and no padding in vain."""

    def _gathered(self, in_place: Callable[[list[torch.Tensor]], torch.Tensor]) -> None:
        self.critic.gather(in_place)


def _written(batch: dict[str, Any]) -> torch.Tensor:
    """(B, T), 1 at tokens that the model wrote."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask

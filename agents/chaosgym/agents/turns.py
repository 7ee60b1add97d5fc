"""Turns: a model goes on with many conversations side by side, and never computes again what it has read or written.

    conversations ──> what is new in each, into the cache ──> tokens, until every turn has ended ──> the next turns

A row of the cache holds a conversation without gaps, so that rows of any length share a batch: a token attends to the columns up
to its own position. Rows whose turn has ended wait until the next; those of conversations that do not go on are dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

__all__ = ["Turns", "can_take_turns"]

_KNOWN = ("qwen3", "qwen2", "llama")
_ROOM = 64
"""Columns that a cache grows by."""


def can_take_turns(model: Any) -> bool:
    """Whether every layer attends to all before it, in a way that takes masks of our own."""
    config = model.config
    full = set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
    return config.model_type in _KNOWN and full and config._attn_implementation == "sdpa"


class Turns:
    """Conversations of one model, whose weights must not change meanwhile."""

    def __init__(self, model: Any, ends: Collection[int], longest: int, temperature: float = 0.0) -> None:
        """A turn ends with one of `ends` or after `longest` tokens; at temperature 0 it is the likeliest."""
        self._model, self._ends, self._longest, self._temperature = model, frozenset(ends), longest, temperature
        self._layers = [_Rows() for _ in range(model.config.num_hidden_layers)]
        self._known: list[list[int]] = []

    @torch.no_grad()
    def take(self, conversations: Sequence[Sequence[int]]) -> list[list[int]]:
        """What the model says next in each, its end included.

        A conversation begins, or goes on from one of the last call; those that go on must stand in the order they had there.
        """
        self._keep(conversations)
        news = [list(ids[len(known) :]) for ids, known in zip(conversations, self._known, strict=True)]
        said: list[list[int]] = [[] for _ in news]
        speaking = list(range(len(news)))
        while speaking:
            tokens = self._next(speaking, [news[row] for row in speaking])
            for row, token in zip(speaking, tokens, strict=True):
                said[row].append(token)
                news[row] = [token]
            speaking = [row for row in speaking if said[row][-1] not in self._ends and len(said[row]) < self._longest]
        return said

    def _keep(self, conversations: Sequence[Sequence[int]]) -> None:
        """Let each row hold the conversation that goes on from it, and no token for those that begin."""
        before = enumerate(self._known)
        found = [next((row for row, ids in before if list(text[: len(ids)]) == ids), None) for text in conversations]
        self._known = [[] if row is None else self._known[row] for row in found]
        for layer in self._layers:
            layer.keep([row or 0 for row in found])

    def _next(self, rows: Sequence[int], news: Sequence[Sequence[int]]) -> list[int]:
        """Read what is new in each of `rows`, and choose the token after it."""
        device = self._model.device
        width = max(map(len, news))
        starts = torch.tensor([len(self._known[row]) for row in rows], device=device)
        positions = starts[:, None] + torch.arange(width, device=device)
        ids = torch.tensor([[*new, *[0] * (width - len(new))] for new in news], device=device)
        last = torch.tensor([len(new) - 1 for new in news], device=device)
        columns = int(positions.max()) + 1
        everyone = len(rows) == len(self._known)
        for layer in self._layers:
            layer.aim(None if everyone else torch.tensor(rows, device=device), positions, columns, len(self._known))
        hidden = self._model.model(
            input_ids=ids, position_ids=positions, past_key_values=Cache(layers=list(self._layers)), use_cache=True,
            attention_mask=(torch.arange(columns, device=device) <= positions[:, :, None])[:, None],
        ).last_hidden_state
        for row, new in zip(rows, news, strict=True):
            self._known[row] = [*self._known[row], *new]
        at_last = hidden[torch.arange(len(rows), device=device), last]
        return self._choose(self._model.get_output_embeddings()(at_last).float())

    def _choose(self, logits: torch.Tensor) -> list[int]:
        if not self._temperature:
            return logits.argmax(-1).tolist()
        return torch.multinomial((logits / self._temperature).softmax(-1), 1).squeeze(-1).tolist()


class _Rows(CacheLayerMixin):
    """Keys and values (B, heads, columns, width) of one layer: column i of a row is its token i."""

    is_sliding = False
    is_croppable = False

    def __init__(self) -> None:
        super().__init__()
        self._columns = 0

    def aim(self, rows: torch.Tensor | None, positions: torch.Tensor, columns: int, batch: int) -> None:
        """Say where the next update goes: to `positions` (b, T) of `rows` (b,), or of all `batch` of them."""
        self._rows, self._positions, self._columns, self._batch = rows, positions, columns, batch

    def keep(self, rows: Sequence[int]) -> None:
        """Let row i be what row `rows[i]` was."""
        if self.keys is not None and self.values is not None and list(rows) != list(range(self.keys.size(0))):
            where = torch.tensor(rows, device=self.keys.device)
            self.keys, self.values = self.keys[where], self.values[where]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """As the first keys are."""
        heads, width = key_states.size(1), key_states.size(3)
        self.keys, self.values = (key_states.new_zeros(self._batch, heads, 0, width) for _ in range(2))
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Put them in their places, and give what is there in the rows that are aimed at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = self._put(self.keys, key_states), self._put(self.values, value_states)
        return self._get(self.keys), self._get(self.values)

    def _put(self, held: Any, states: torch.Tensor) -> torch.Tensor:
        if held.size(2) < self._columns:
            held = torch.nn.functional.pad(held, (0, 0, 0, self._columns + _ROOM - held.size(2)))
        rows = torch.arange(held.size(0), device=held.device) if self._rows is None else self._rows
        held[rows[:, None], :, self._positions] = states.transpose(1, 2)
        return held

    def _get(self, held: torch.Tensor) -> torch.Tensor:
        there = held[:, :, : self._columns]
        return there if self._rows is None else there[self._rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns, and where they begin."""
        return self._columns, 0

    def get_seq_length(self) -> int:
        """Tokens of the longest row."""
        return self._columns

    def get_max_length(self) -> int:
        """Any."""
        return -1

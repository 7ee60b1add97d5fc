"""What the commands share that train on investigations: which episodes, how the model is asked, and what it starts as."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chaosgym.agents.investigator import INVESTIGATION
from chaosgym.agents.prompt import PromptFormat
from chaosgym.envs.case import ScorableEpisodes
from chaosgym.envs.dossier import Dossier, RecordedDossiers
from chaosgym.errors import InputError
from chaosgym.training.config import NANO, Answering
from chaosgym.training.conversation import tool_schemas
from chaosgym.training.nano import load_model, prompt_format
from chaosgym.training.phrases import teach_phrases
from chaosgym.training.pretrain import new_model
from chaosgym.training.tasks import SPLIT, label_of, read_sources

__all__ = ["Inquest", "draw_inquests", "inquest_format", "read_inquests", "starting_model"]

_PAGE = {"compact": 150, "readable": 400}
_CALL = {"compact": 32, "readable": 384}
"""Tokens that one call is given room for."""


@dataclass(frozen=True)
class Inquest:
    """A recorded episode that may be asked about; its telemetry is read when it is opened."""

    id: str
    label: str
    """The fault type, or healthy."""
    folder: Path
    dossiers: RecordedDossiers

    def open(self) -> Dossier:
        """Read it, or take it from those kept in memory."""
        return self.dossiers.draw(np.random.default_rng(0), {"episode": self.id})


def read_inquests(folders: Sequence[Path]) -> list[Inquest]:
    """Every episode of split train that may be scored. Raises InputError when a folder has none, or two have the same one."""
    found: dict[str, Inquest] = {}
    for folder in folders:
        episodes, dossiers = ScorableEpisodes(folder, SPLIT), RecordedDossiers(folder, SPLIT)
        for episode, truth in (episodes[i] for i in range(len(episodes))):
            if episode.header.id in found:
                raise InputError(f"{folder}: episode {episode.header.id!r} is in {found[episode.header.id].folder} too; name one of them")
            found[episode.header.id] = Inquest(episode.header.id, label_of(truth), folder, dossiers)
    return list(found.values())


def draw_inquests(inquests: Sequence[Inquest], count: int, seed: int) -> Iterator[tuple[Inquest, int]]:
    """Draw `count` of them, each with a seed of its own, all labels alike often."""
    rng = random.Random(f"inquests {seed}")
    by_label: dict[str, list[Inquest]] = {}
    for inquest in inquests:
        by_label.setdefault(inquest.label, []).append(inquest)
    labels: list[str] = []
    for number in range(count):
        labels = labels or rng.sample(sorted(by_label), len(by_label))
        yield rng.choice(by_label[labels.pop()]), seed * 1_000_003 + number


def inquest_format(config: Answering) -> PromptFormat:
    """How the model of `config` investigates: as its folder says if it does, else as the configuration does."""
    form = prompt_format(config).model_copy(update={"tools": tool_schemas()})
    if form.task == "investigate" and "asking" not in config.model_fields_set:
        return form
    compact, asking = form.rendering == "compact", config.asking
    return form.model_copy(update={
        "task": "investigate", "system": "" if compact else INVESTIGATION, "max_new_tokens": _CALL[form.rendering],
        "calls": asking.calls, "cost": asking.cost, "page": asking.page or _PAGE[form.rendering],
    })


def starting_model(config: Answering, form: PromptFormat) -> tuple[Any, Any]:
    """Model and tokenizer of `config`, a new one where it says so; one that reads compact pages learns the phrases of calls."""
    if config.model == NANO:
        model, tokenizer = new_model(config, read_sources(config.episodes), prompt_format(config))
    else:
        model, tokenizer = load_model(config.model, frozen=bool(config.lora))
    if form.rendering == "compact":
        teach_phrases(model, tokenizer)
    return model, tokenizer

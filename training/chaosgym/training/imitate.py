"""`chaosgym train sft` with `task: investigate`: imitate a careful engineer's questions, in many turns.

    episodes ──> traces ──> conversations ──> tokens, of which the assistant's are to be learnt ──> the loop of all SFT
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training import supervised
from chaosgym.training.config import SftConfig
from chaosgym.training.conversation import budget_of, conversation_sequence, converse
from chaosgym.training.inquests import Inquest, draw_inquests, inquest_format, read_inquests, starting_model
from chaosgym.training.run import Run
from chaosgym.training.traces import make_trace
from chaosgym.training.validation import divide

__all__ = ["conversations", "imitate"]

_log = logging.getLogger(__name__)


def imitate(config: SftConfig, run: Run) -> dict[str, Any]:
    """Train and return the summary."""
    form = inquest_format(config)
    inquests, _ = divide(read_inquests(config.episodes), config.validation)
    model, tokenizer = starting_model(config, form)
    sequences = conversations(config, inquests, form, tokenizer, getattr(model.config, "max_position_embeddings", None))
    return supervised.fit(config, run, model, tokenizer, sequences, form)


def conversations(
    config: SftConfig, inquests: Sequence[Inquest], form: PromptFormat, tokenizer: Any, room: int | None
) -> list[supervised.Sequence]:
    """As many as the run takes, each with other handles and another course; in place of those left out others come twice.

    Raises InputError when less than half of those drawn can be had.
    """
    wanted = list(draw_inquests(inquests, config.steps * config.batch_size, config.seed + 2))
    rows: dict[int, supervised.Sequence] = {}
    left_out: Counter[str] = Counter()
    for number in sorted(range(len(wanted)), key=lambda i: wanted[i][0].id):  # an episode is read once
        inquest, seed = wanted[number]
        dossier = inquest.open()
        trace = make_trace(dossier, seed, budget_of(form), config.confidence)
        row = conversation_sequence(tokenizer, converse(dossier, trace, form)) if trace is not None else None
        if row is None:
            left_out["never get to see the culprit"] += 1
        elif room is not None and len(row["input_ids"]) > room:
            left_out[f"do not fit into {room} positions"] += 1
        else:
            rows[number] = row
    _tell(list(rows.values()), left_out, len(wanted))
    others = itertools.cycle(rows[number] for number in sorted(rows))
    return [rows[number] if number in rows else next(others) for number in range(len(wanted))]


def _tell(rows: Sequence[supervised.Sequence], left_out: Counter[str], wanted: int) -> None:
    why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    if 2 * len(rows) < wanted:
        raise InputError(f"of {wanted} conversations {why}: raise asking.calls and asking.cost, or lower asking.page")
    lengths = sorted(len(row["input_ids"]) for row in rows)
    said = sum(label != -100 for row in rows for label in row["labels"]) / len(rows)
    _log.info(
        "%d conversations of %d to %d tokens, half of them below %d, %.0f of which are to be learnt%s", len(rows), lengths[0], lengths[-1],
        lengths[len(lengths) // 2], said, f"; left out: {why}" if why else "",
    )

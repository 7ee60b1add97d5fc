"""Conversations: traces as a chat template writes them, in the very tokens that a rollout of TRL has.

    <system: tools> <user: opening> │ call <end> │ <user: page> │ call <end> │ ... │ submit <end> │ Submitted. │ <end>
    nothing to learn                  to learn     nothing        to learn

Only what the assistant writes is to be learnt. A rollout is put together from parts that are tokenised by themselves, so a
sequence is, too. The tools are those of `InvestigateTools`, with the schemas that TRL derives.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence as Many
from functools import cache
from typing import Any

from chaosgym.agents.investigator import Message
from chaosgym.agents.prompt import PromptFormat
from chaosgym.diagnosis import Diagnosis
from chaosgym.envs.dossier import Dossier
from chaosgym.envs.trl import InvestigateTools
from chaosgym.incident.inquiry import Budget, Inquiry, write_action
from chaosgym.training.supervised import Sequence
from chaosgym.training.traces import Step, Trace

__all__ = ["budget_of", "conversation_sequence", "converse", "opening_messages", "render", "tool_schemas"]


@cache
def tool_schemas() -> tuple[dict[str, Any], ...]:
    """What a model is told of the tools, in TRL's order."""
    from transformers.utils.chat_template_utils import get_json_schema

    methods = inspect.getmembers(InvestigateTools, predicate=inspect.isfunction)
    return tuple(get_json_schema(method) for name, method in methods if not name.startswith("_") and name not in ("reset", "get_reward"))


def budget_of(form: PromptFormat) -> Budget:
    """What an investigation of a model may use up."""
    return Budget(form.calls, form.cost, form.page)


def opening_messages(form: PromptFormat, opening: str) -> list[Message]:
    """The conversation before the first call."""
    system = [{"role": "system", "content": form.system}] if form.system else []
    return [*system, {"role": "user", "content": opening}]


def converse(dossier: Dossier, trace: Trace, form: PromptFormat) -> list[Message]:
    """Play a trace: compact pages with handles and bare calls, or readable ones with names, and why each call is made."""
    compact = form.rendering == "compact"
    inquiry = Inquiry(dossier.evidence, budget_of(form), trace.handles if compact else {})
    messages = opening_messages(form, inquiry.opening())
    for number, (tool, arguments) in enumerate(trace.actions()):
        given = arguments if compact else _named(arguments, trace)
        step = trace.steps[number] if number < len(trace.steps) else None
        why = "" if compact else _why(step, given, trace)
        call = {"type": "function", "function": {"name": tool, "arguments": given}}
        page = inquiry.ask(write_action(tool, given)).text
        messages += [{"role": "assistant", "content": why, "tool_calls": [call]}, {"role": "tool", "name": tool, "content": page}]
    return [*messages, {"role": "assistant", "content": ""}]  # once submitted there is no more to say


def _named(arguments: dict[str, Any], trace: Trace) -> dict[str, Any]:
    """With names in place of handles."""
    named = dict(arguments)
    if "component" in named:
        named["component"] = trace.handles[named["component"]]
    if "causes" in named:
        named["causes"] = [{**cause, "component": trace.handles[cause["component"]]} for cause in named["causes"]]
    return named


def _why(step: Step | None, given: dict[str, Any], trace: Trace) -> str:
    """A sentence for people and for models that think in words."""
    if step is None:
        return _conclusion(Diagnosis.model_validate(given))
    if "component" not in given:
        return {
            "topology": "First, how the application hangs together.", "events": "Did anything change or stop?",
        }.get(step.tool, "How far does one of the requests get that users complain about?")
    name = given["component"]
    if step.tool == "logs":
        return f"{name} is not as it was. What does it say itself?"
    if not step.because:
        return f"Nothing points to {name}, but nothing explains it all yet either."
    words = step.because.split(" ")
    if ">" in words:
        return f"Calls that {trace.handles.get(words[0], 'users')} makes or gets speak for a look at {name}."
    return f"What was seen of {trace.handles.get(words[0], name)} speaks for a look at {name}."


def _conclusion(diagnosis: Diagnosis) -> str:
    if diagnosis.verdict == "healthy":
        return "Nothing that was seen adds up to a fault."
    return "What was seen fits " + " and ".join(f"{cause.fault} on {cause.component}" for cause in diagnosis.ranked()) + "."


def render(tokenizer: Any, messages: Many[Message], *, prompt: bool) -> str:
    """The text of a conversation with the tools; with `prompt` up to where the model goes on."""
    return tokenizer.apply_chat_template(
        list(messages), tools=list(tool_schemas()), chat_template=_template(tokenizer), tokenize=False, add_generation_prompt=prompt,
        enable_thinking=False,
    )


def conversation_sequence(tokenizer: Any, messages: Many[Message]) -> Sequence:
    """Tokens of a whole conversation that ends with the assistant, of which its words and their ends are to be learnt."""
    start = len(messages) - sum(message["role"] in ("assistant", "tool") for message in messages)
    opens = render(tokenizer, messages[:start], prompt=True).removeprefix(render(tokenizer, messages[:start], prompt=False))
    parts = render(tokenizer, messages, prompt=False).split(opens)
    turns = sum(message["role"] == "assistant" for message in messages)
    if len(parts) != turns + 1:
        raise ValueError(f"a page holds {opens!r}, which opens a turn of the assistant")
    ids = _tokens(tokenizer, parts[0] + opens)
    labels = [-100] * len(ids)
    for number, part in enumerate(parts[1:]):
        said, end, page = part.partition(tokenizer.eos_token)
        own, rest = _tokens(tokenizer, said + end), [] if number == turns - 1 else _tokens(tokenizer, page + opens)
        ids += own + rest
        labels += own + [-100] * len(rest)
    return {"input_ids": ids, "labels": labels}


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _template(tokenizer: Any) -> str | None:
    """As TRL does: one in which a conversation begins with the conversation before it."""
    from trl.chat_template_utils import get_training_chat_template, is_chat_template_prefix_preserving

    known = _TEMPLATES.get(id(tokenizer))
    if known is None:
        settled = is_chat_template_prefix_preserving(tokenizer)
        known = _TEMPLATES[id(tokenizer)] = (tokenizer, None if settled else get_training_chat_template(tokenizer))
    return known[1]


_TEMPLATES: dict[int, tuple[Any, str | None]] = {}
"""By identity of the tokenizer, which is kept so that no other can have it: to find out takes longer than to write a conversation."""

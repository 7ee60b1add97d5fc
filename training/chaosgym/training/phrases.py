"""Phrases: constant parts of an investigation as single tokens of our tokenizer.

What tools there are takes a thousand tokens to say, and is the same in every conversation; of a call little but a handle differs.
With these tokens the tools cost one, a call 2 to 4, and a conversation of 8 calls some 300, so that a model of 2,048 positions holds any.
"""

from __future__ import annotations

from typing import Any

from chaosgym.training.conversation import render
from chaosgym.training.tokenizer import GLUE

__all__ = ["teach_phrases"]

_CALL = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
_WHOLE = (
    *(_CALL.format(name, "{}") for name in ("topology", "alerts", "events")),
    *(_CALL.format("traces", f'{{"order": "{order}", "limit": 1}}') for order in ("failing", "slow")),
    _CALL.format("submit", '{"verdict": "healthy"}'),
    '"}}\n</tool_call>', '}], "evidence": []}}\n</tool_call>',
    "\n<|im_start|>user\n<tool_response>", "Submitted.",
    "\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
"""As they stand."""
_BEFORE_A_HANDLE = (
    *(f'\n{{"name": "{name}", "arguments": {{"component": "' for name in ("metrics", "logs", "events")),
    '\n{"name": "submit", "arguments": {"verdict": "fault", "causes": [{"component": "',
)
"""After `<tool_call>`."""
_ROUND = 64


def teach_phrases(model: Any, tokenizer: Any) -> None:
    """Add the phrases to a tokenizer of ours, and rows for them to its model; what knows them already stays as it is."""
    from tokenizers import AddedToken

    opening = "<|im_start|>user\n"
    tools = render(tokenizer, [{"role": "user", "content": ""}], prompt=False).partition(opening)
    whole = [AddedToken(phrase, normalized=False, special=False) for phrase in (tools[0] + tools[1], *_WHOLE)]
    parts = [AddedToken(phrase + GLUE, normalized=True, special=False) for phrase in _BEFORE_A_HANDLE]
    if not tokenizer.add_tokens([*whole, *parts]):
        return
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(-(-len(tokenizer) // _ROUND) * _ROUND)

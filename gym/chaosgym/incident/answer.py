"""The answer to a compact report: the same JSON as any diagnosis, with handles in place of names.

`answer_text` writes nothing but `ANSWER_FRAGMENTS` and closed words (handles, fault labels, probabilities), so
that an answer with one cause is about seven tokens; the first of them is the verdict, then comes the component.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from chaosgym.diagnosis import Diagnosis
from chaosgym.incident.vocabulary import probability_word

__all__ = ["ANSWER_FRAGMENTS", "answer_text", "read_answer"]

_HEALTHY = '{"verdict": "healthy", "causes": [], "evidence": []}'
_FAULT = '{"verdict": "fault", "causes": [{"component": "'
_TYPE = '", "fault": "'
_PROBABILITY = '", "probability": '
_NEXT = '}, {"component": "'
_END = '}], "evidence": []}'
_EVIDENCE = '}], "evidence": ["'
_MORE = '", "'
_CLOSE = '"]}'

ANSWER_FRAGMENTS: tuple[str, ...] = (_HEALTHY, _FAULT, _TYPE, _PROBABILITY, _NEXT, _END, _EVIDENCE, _MORE, _CLOSE)
"""The constant text between the variable words of an answer; each is one token of our tokenizer."""

_WORD = re.compile(r"(?<![\w.-])c\d+(?![\w.-])")


def answer_text(diagnosis: Diagnosis, handles: Mapping[str, str]) -> str:
    """Write `diagnosis` for a report whose `handles` map handle -> component name.

    Causes come most probable first, probabilities in tenths. Raises KeyError for a component without a handle.
    """
    if diagnosis.verdict == "healthy":
        return _HEALTHY
    names = {name: handle for handle, name in handles.items()}
    causes = [f"{names[c.component]}{_TYPE}{c.fault}{_PROBABILITY}{probability_word(c.probability)}" for c in diagnosis.ranked()]
    text = _FAULT + _NEXT.join(causes)
    evidence = [json.dumps(_shorten(line, names), ensure_ascii=False)[1:-1] for line in diagnosis.evidence]
    return text + (_EVIDENCE + _MORE.join(evidence) + _CLOSE if evidence else _END)


def read_answer(text: str, handles: Mapping[str, str]) -> str:
    """Put the names back in place of the handles; a handle that the report does not have stays as it is."""
    return _WORD.sub(lambda found: json.dumps(handles.get(found[0], found[0]), ensure_ascii=False)[1:-1], text)


def _shorten(line: str, names: Mapping[str, str]) -> str:
    """Replace component names standing as words by their handles, the longest name first."""
    if not names:
        return line
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"(?<![\w.-])(?:{pattern})(?![\w-])", lambda found: names[found[0]], line)

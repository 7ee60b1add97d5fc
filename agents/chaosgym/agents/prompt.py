"""How a model is asked: which rendering of the report, after which instruction, and how its answer is read.

A model folder says so in `chaosgym.json`, which training writes beside the weights; a model without that file
is a foreign one and gets the readable report and the whole instruction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaosgym.agents.certainty import Certainty
from chaosgym.errors import InputError
from chaosgym.incident.answer import read_answer
from chaosgym.incident.findings import Incident
from chaosgym.taxonomy import FAULT_TYPES

__all__ = ["INSTRUCTION", "PROMPT_FILE", "PromptFormat"]

PROMPT_FILE = "chaosgym.json"

INSTRUCTION = (
    "You are the engineer on call. Below is a report of an incident: what users see, the components, how they changed "
    "from the time before, their logs and what happened to them. Say what the root cause is, or that nothing is broken: "
    "a change alone is no fault. Answer with one JSON object and nothing else:\n"
    '{"verdict": "fault", "causes": [{"component": "<name>", "fault": "<type>", "probability": <0 to 1>}], '
    '"evidence": ["<a finding that names a component>"]}\n'
    'or {"verdict": "healthy", "causes": [], "evidence": []}. Name at most 3 causes, the likeliest first, with components as '
    "the report names them. Fault types:\n" + "\n".join(f"- {fault.name}: {fault.summary}" for fault in FAULT_TYPES.values())
)
"""What a foreign model is told; the fault types come from the taxonomy."""


class PromptFormat(BaseModel):
    """How one model wants to be asked; the content of `chaosgym.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    task: Literal["report", "investigate"] = "report"
    """Whether it reads a report, or asks tools and then submits."""
    rendering: Literal["compact", "readable"] = "readable"
    """Which report it reads. `compact` names components by handles, in the answer as well."""
    budget: Annotated[int, Field(ge=50, le=100_000)] = 700
    """Tokens of report that it was trained with."""
    system: str = INSTRUCTION
    """The system message; empty for none."""
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 256
    """Longest answer that it is given room for; of an investigation each call."""
    certainty: Certainty | None = None
    """How sure it is, where `chaosgym train calibrate` has found that out; else it states what it writes."""
    calls: Annotated[int, Field(ge=1)] = 20
    """Of an investigation: actions beside `submit`."""
    cost: Annotated[int, Field(ge=1)] = 30
    """What they may cost together."""
    page: Annotated[int, Field(ge=100)] = 600
    """Tokens of one answer of a tool."""
    tools: tuple[dict[str, Any], ...] = ()
    """Schemas of the tools, as chat templates take them."""

    def messages(self, incident: Incident) -> list[dict[str, str]]:
        """The conversation to continue, for a chat template."""
        report = incident.compact if self.rendering == "compact" else incident.readable
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": report}]

    def read(self, text: str, incident: Incident) -> str:
        """The model's answer with real names: handles of a compact report are put back."""
        return read_answer(text, incident.handles) if self.rendering == "compact" else text

    def save(self, folder: Path | str) -> None:
        """Write `chaosgym.json` into a model's folder."""
        path = Path(folder) / PROMPT_FILE
        partial = path.with_name(f".{PROMPT_FILE}.partial")
        partial.write_text(self.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
        partial.replace(path)

    @classmethod
    def load(cls, folder: Path | str) -> PromptFormat:
        """Read it from a model's folder; the defaults when there is none. Raises InputError for a broken file."""
        path = Path(folder) / PROMPT_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise InputError(f"{path}: {error}; write it as `chaosgym train` does, or remove it to use the defaults") from error

"""The file that `chaosgym faults new` writes: a whole fault of one's own that works, to be changed bit by bit."""

from __future__ import annotations

from chaosgym.errors import InputError
from chaosgym.taxonomy import FaultType, type_problem

__all__ = ["fault_file", "fault_template"]

_TEMPLATE = '''\
"""{label}: a fault of my own. Try it with `chaosgym faults check`, run it with `chaosgym --faults FILE.py run SCENARIO`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.sandbox.base import Sandbox, Toxic
from chaosgym.units import Duration


class {name}(Fault):
    """Every packet to and from the component is `delay` late. Say here what happens in reality.

    And here what an operator sees of it: callers wait, the component itself is as fast as ever.
    """

    label = "{label}"
    summary = "the component answers late"  # in one sentence, what went wrong
    synonyms = ("{synonym}",)  # what else people call it; an answer may say so, too
    kinds = frozenset({{"service", "postgres", "redis"}})  # gateway, service, worker, postgres, redis
    needs = frozenset({{"link"}})  # what the sandbox must be able to do: see chaosgym.sandbox.base
    symptoms = (Symptom("callers", "latency"), Symptom("edge", "latency"))  # one of them must be seen

    class Parameters(FaultParameters):
        delay: Annotated[Duration, Field(ge=0.001, le=5)] = 0.1
        """Added in each direction, `1ms` to `5s`."""

    async def inject(self, sandbox: Sandbox) -> None:
        await sandbox.toxic(self.target, Toxic(latency=self.parameters.delay))

    async def verify(self, sandbox: Sandbox) -> None:
        found = await sandbox.link_toxic(self.target)  # read back, whatever `inject` was told
        if found is None or found.latency != self.parameters.delay:
            raise FaultError(f"{{self.label}}: the link of {{self.target!r}} has {{found}}")

    async def heal(self, sandbox: Sandbox) -> None:
        await sandbox.toxic(self.target, None)  # also after a failed inject, and twice
'''

_IMPORTED = ("Annotated", "Duration", "Fault", "Field", "Sandbox", "Symptom", "Toxic")
"""Names that the class must not have."""


def fault_template(label: str) -> str:
    """The text for a label of one's own. InputError when the label is taken or cannot be one."""
    problem = type_problem(FaultType(label, "the component answers late"))
    if problem is not None:
        raise InputError(problem)
    word = label.split(".")[1]
    synonym = word if type_problem(FaultType(label, "-", (word,))) is None else label.replace(".", "_")
    name = "".join(part.capitalize() for part in word.split("_"))
    return _TEMPLATE.format(label=label, name=f"{name}Fault" if name in _IMPORTED else name, synonym=synonym)


def fault_file(label: str) -> str:
    """The name of the file for a label: `dependency.slow_disk` -> `slow_disk.py`."""
    return f"{label.rsplit('.', 1)[-1]}.py"

"""The line between a service and whoever forked it: JSON, one object a line.

service -> {"ready": true}                      it listens
forker  -> {"defect": {"kind": "leak", ...}}    switch a defect (null: all off); answered with {"ok": true}
"""

from __future__ import annotations

import asyncio
import json
import socket

from pydantic import ValidationError

from chaosgym.services.config import DEFECT
from chaosgym.services.defects import Defects

__all__ = ["Control"]


class Control:
    """The service's end."""

    def __init__(self, end: socket.socket, defects: Defects) -> None:
        self._end, self._defects = end, defects

    async def serve(self) -> None:
        """Say ready, then obey until the other end closes or this is cancelled."""
        reader, writer = await asyncio.open_connection(sock=self._end)
        writer.write(b'{"ready": true}\n')
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._obey(line)).encode() + b"\n")
        except ConnectionError:
            pass  # the forker is gone: nobody to obey
        finally:
            writer.close()

    def _obey(self, line: bytes) -> dict[str, object]:
        try:
            self._defects.switch(DEFECT.validate_python(json.loads(line)["defect"]))
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            return {"ok": False, "error": str(error)}
        return {"ok": True}

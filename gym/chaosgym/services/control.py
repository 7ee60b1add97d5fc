"""The line between a service and whoever forked it: JSON, one object a line.

service -> {"ready": true}                      it listens
forker  -> {"defect": {"kind": "leak", ...}}    switch a defect (null: all off)
forker  -> {"deliver": true}                    send the telemetry gathered so far; answered when sent

An order may carry an `id`; the answer is {"id": ..., "ok": true}, with `error` in place of true when it was refused.
"""

from __future__ import annotations

import asyncio
import json
import socket

from pydantic import ValidationError

from chaosgym.services.config import DEFECT
from chaosgym.services.defects import Defects
from chaosgym.services.instruments import Instruments

__all__ = ["Control"]


class Control:
    """The service's end."""

    def __init__(self, end: socket.socket, defects: Defects, instruments: Instruments) -> None:
        self._end, self._defects, self._instruments = end, defects, instruments

    async def serve(self) -> None:
        """Say ready, then obey until the other end closes or this is cancelled."""
        reader, writer = await asyncio.open_connection(sock=self._end)
        writer.write(b'{"ready": true}\n')
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._obey(line)).encode() + b"\n")
        except ConnectionError:
            pass  # the forker is gone: nobody to obey
        finally:
            writer.close()

    async def _obey(self, line: bytes) -> dict[str, object]:
        number: object = None
        try:
            order = json.loads(line)
            number = order.get("id")
            if "deliver" in order:
                await asyncio.to_thread(self._instruments.deliver)
            else:
                self._defects.switch(DEFECT.validate_python(order["defect"]))
        except (ValueError, KeyError, AttributeError, TypeError, ValidationError) as error:
            return {"id": number, "ok": False, "error": str(error)}
        return {"id": number, "ok": True}

"""Running the steps of an endpoint or of a consumer, one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from chaosgym.services.config import Cache, Call, Compute, Peer, Publish, Query, ServiceConfig, Step
from chaosgym.services.database import Database
from chaosgym.services.defects import Defects, compute
from chaosgym.services.failure import Failure
from chaosgym.services.instruments import Instruments
from chaosgym.services.journal import Journal
from chaosgym.services.peers import Peers
from chaosgym.services.store import Store
from chaosgym.services.work import Work

__all__ = ["Steps"]


class Steps:
    """Everything that a service talks to; made inside the running loop."""

    def __init__(self, config: ServiceConfig, instruments: Instruments, journal: Journal, defects: Defects) -> None:
        self._journal, self._debug = journal, config.debug
        peers = tuple(_moved(peer, config.ports.get(peer.host)) for peer in config.peers)
        self._peers = Peers(config, peers, instruments, journal)
        self._databases = {p.host: Database(p, config, instruments, journal, defects) for p in peers if p.kind == "postgres"}
        self.stores = {p.host: Store(p, instruments, journal) for p in peers if p.kind == "redis"}

    async def close(self) -> None:
        """Close all connections."""
        await self._peers.close()
        for datastore in (*self._databases.values(), *self.stores.values()):
            await datastore.close()

    async def run(self, steps: Sequence[Step], work: Work) -> Any:
        """The result of the last step that has one. Raises Failure."""
        result: Any = None
        for step in steps:
            made = await self._run(step, work)
            result = result if made is None else made
            if self._debug:
                self._tell(step, work, made)
        return result

    def _tell(self, step: Step, work: Work, made: Any) -> None:
        """All about a step, as a forgotten debug level logs it."""
        for key, value in {**dataclasses.asdict(step), "item": work.item, "result": made}.items():
            self._journal.log("DEBUG", "debug", work.trace, step=step.step, key=key, value=value)

    async def _run(self, step: Step, work: Work) -> Any:
        match step:
            case Call():
                return await self._peers.call(step, work)
            case Query():
                return await self._databases[step.host].run(step, work)
            case Cache():
                return await self._cache(step, work)
            case Publish():
                await self.stores[step.host].publish(step, work)
            case Compute():
                compute(step.seconds)
        return None

    async def _cache(self, step: Cache, work: Work) -> Any:
        store = self.stores[step.host]
        if step.operation == "get" and step.otherwise:
            return await self._read_through(step, store, work)
        try:
            match step.operation:
                case "get":
                    return await store.get(step, work)
                case "set":
                    await store.put(step, work, {"id": work.item, "quantity": work.item % 3 + 1})
                case _:
                    await store.change(step, work)
        except Failure as failure:
            self._journal.log("ERROR", "cache_failed", work.trace, operation=step.operation, key=step.prefix, error=failure.text)
            raise
        return None

    async def _read_through(self, step: Cache, store: Store, work: Work) -> Any:
        """From the cache, else from its source: a cache that fails costs time, not the request."""
        try:
            value = await store.get(step, work)
            if value is not None:
                return value
            usable = True
        except Failure as failure:
            usable = False
            self._journal.log("WARN", "cache_bypassed", work.trace, operation="GET", error=failure.text)
        value = await self.run(step.otherwise, work)
        if usable:
            try:
                await store.put(step, work, value)
            except Failure as failure:
                self._journal.log("WARN", "cache_failed", work.trace, operation="SET", key=step.prefix, error=failure.text)
        return value


def _moved(peer: Peer, port: int | None) -> Peer:
    """The peer as a configuration with another port sees it."""
    return peer if port is None else dataclasses.replace(peer, port=port, address=(peer.address[0], port))

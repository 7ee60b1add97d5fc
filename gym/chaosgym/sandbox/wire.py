"""Addresses, logins and tables of one episode: who binds where, who connects where, with which password.

Every component gets a random loopback address. Clients of a component in `plan.proxied` get another one,
where its link listens, so that a link looks like any address.
"""

from __future__ import annotations

import random

__all__ = ["draw_address"]


def draw_address() -> str:
    """A random loopback address, so that sandboxes side by side without a network namespace stay apart."""
    return f"127.{random.randint(16, 250)}.{random.randint(0, 255)}.{random.randint(2, 250)}"

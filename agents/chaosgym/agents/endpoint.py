"""A language model behind an OpenAI-compatible endpoint as an agent: a hosted one, vLLM, Ollama, llama.cpp.

    incident ──> POST URL/chat/completions ──> choices[0].message.content

It reads the readable report after the whole instruction. The key is what the environment variable OPENAI_API_KEY holds.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InfrastructureError, InputError

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["EndpointAgent"]

_KEY = "OPENAI_API_KEY"
_SPEC = re.compile(r"(?P<model>\S+?)@(?P<url>https?://[^\s/?#]+[^\s?#]*)")
_ROOM = 2048
"""Tokens that an answer may take: a model that thinks first needs more than the answer's own."""
_AT_ONCE = 8
"""Requests under way side by side."""
_LONGEST_WAIT = 30.0
"""Seconds between two tries at most, whatever the server asks for."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST loses its body and would carry the key elsewhere."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Refuse; it ends as an error with the status."""
        return


class EndpointAgent:
    """Asks `model` at `url`; a busy or failing server is asked again, each time after twice as long."""

    def __init__(
        self, model: str, url: str, *, temperature: float = 0.0, timeout: float = 120.0, tries: int = 6, wait: float = 1.0
    ) -> None:
        """`url` ends before `/chat/completions`; `timeout` and the first `wait` are in seconds."""
        self.name = f"endpoint:{model}"
        self.format = PromptFormat(max_new_tokens=_ROOM)
        self._model, self._url, self._temperature = model, f"{url.rstrip('/')}/chat/completions", temperature
        self._timeout, self._tries, self._wait = timeout, tries, wait
        self._open = urllib.request.build_opener(_NoRedirect).open

    @classmethod
    def from_spec(cls, spec: str, *, temperature: float = 0.0) -> EndpointAgent:
        """The agent that `MODEL@URL` names. Raises InputError for anything else."""
        found = _SPEC.fullmatch(spec)
        if found is None:
            example = "endpoint:Qwen/Qwen3-8B@http://localhost:8000/v1"
            raise InputError(f"agent 'endpoint:{spec}': not of the form endpoint:MODEL@URL; write it as in {example}")
        return cls(found["model"], found["url"], temperature=temperature)

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident, in their order.

        Raises InputError when the server refuses the request, InfrastructureError when it fails for good.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                return list(pool.map(self._ask, incidents))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _ask(self, incident: Incident) -> str:
        body = {
            "model": self._model, "messages": self.format.messages(incident),
            "temperature": self._temperature, "max_tokens": self.format.max_new_tokens,
        }
        wait, reason = self._wait, ""
        for left in reversed(range(self._tries)):
            try:
                return self._content(self._post(json.dumps(body).encode()))
            except urllib.error.HTTPError as error:
                if error.code != 429 and error.code < 500:
                    raise self._refused(error) from error
                reason, asked = f"status {error.code}: {_said(error)}", _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, broken off
                reason, asked = str(getattr(error, "reason", "") or error or type(error).__name__), 0.0
            if left:
                time.sleep(min(max(wait, asked), _LONGEST_WAIT))
                wait *= 2
        raise InfrastructureError(f"{self._url}: no answer after {self._tries} tries ({reason}); check the server and start again")

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(_KEY):
            headers["Authorization"] = f"Bearer {key}"
        with self._open(urllib.request.Request(self._url, body, headers), timeout=self._timeout) as answer:
            return answer.read()

    def _content(self, body: bytes) -> str:
        try:
            return json.loads(body)["choices"][0]["message"]["content"] or ""  # null where a model thought to the end of its room
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"{self._url}: no chat completion came back ({body[:200]!r}); the URL of an OpenAI-compatible server usually ends in /v1"
            ) from error

    def _refused(self, error: urllib.error.HTTPError) -> InputError:
        remedy = {
            401: f"put its key into {_KEY}", 403: f"put a key that may use it into {_KEY}",
            404: "check the model's name, and that the URL ends as in http://localhost:8000/v1",
        }.get(error.code, "check the model's name and the URL")
        return InputError(f"{self._url}: refused to ask {self._model!r}, status {error.code}: {_said(error)}; {remedy}")


def _said(error: urllib.error.HTTPError) -> str:
    """What the server had to say, short and on one line."""
    try:
        text = error.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    return " ".join(text.split())[:300] or str(error.reason)


def _seconds(header: str | None) -> float:
    """Of a Retry-After in seconds; a date, as some send, counts as nothing said."""
    return float(header) if header is not None and re.fullmatch(r"\d{1,6}", header) else 0.0

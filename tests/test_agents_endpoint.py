"""An OpenAI-compatible endpoint as an agent, against a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.agents import make_agent
from chaosgym.agents.endpoint import EndpointAgent
from chaosgym.agents.prompt import INSTRUCTION
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.incident.findings import Incident

HEALTHY = '{"verdict": "healthy", "causes": [], "evidence": []}'


class Server(ThreadingHTTPServer):
    """Answers with the last word of what it is asked, after the failures that were laid out for it."""

    failures: list[tuple[int, dict[str, str], bytes]]
    asked: list[dict[str, Any]]
    keys: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server, length = cast(Server, self.server), int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        server.keys.append(self.headers["Authorization"])
        server.asked.append({"path": self.path, **body})
        if server.failures:
            self._reply(*server.failures.pop(0))
        else:
            content = body["messages"][-1]["content"].split()[-1]
            self._reply(200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode())

    def do_GET(self) -> None:
        cast(Server, self.server).asked.append({"path": self.path})
        self._reply(200, {}, b"{}")

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.failures, server.asked, server.keys = [], [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def incidents(*words: str) -> list[Incident]:
    return [cast(Incident, SimpleNamespace(readable=f"report {word}", compact="", handles={})) for word in words]


def patient(server: Server, **changes: Any) -> EndpointAgent:
    return EndpointAgent("big", server.url, wait=0.01, **changes)


def test_it_asks_as_a_chat_and_keeps_the_order(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    agent = make_agent(f"endpoint:vendor/big@{server.url}/", temperature=0.7)
    words = [f"w{number}" for number in range(20)]
    assert agent.diagnose(incidents(*words)) == words
    assert agent.name == "endpoint:vendor/big"
    first = next(asked for asked in server.asked if asked["messages"][-1]["content"] == "report w0")
    assert (first["path"], first["model"], first["temperature"]) == ("/v1/chat/completions", "vendor/big", 0.7)
    assert first["messages"][0] == {"role": "system", "content": INSTRUCTION}
    assert set(server.keys) == {"Bearer sesame"}


def test_without_a_key_none_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert patient(server).diagnose(incidents("a")) == ["a"]
    assert server.keys == [None]


def test_a_busy_server_is_asked_again_later_and_later(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    asked = ((429, {}), (503, {"Retry-After": "3"}), (500, {"Retry-After": "soon"}), (429, {"Retry-After": "900"}))
    server.failures = [(status, headers, b"busy") for status, headers in asked]
    assert EndpointAgent("big", server.url, wait=1.0).diagnose(incidents("a")) == ["a"]
    assert [wait for wait in waits if wait >= 1] == [1, 3, 4, 30]


def test_a_server_that_keeps_failing_is_an_infrastructure_error(server: Server) -> None:
    server.failures = [(500, {}, b"out of memory")] * 3
    with pytest.raises(InfrastructureError, match=r"no answer after 3 tries \(status 500: out of memory\); check the server"):
        patient(server, tries=3).diagnose(incidents("a"))
    assert len(server.asked) == 3


def test_nobody_there_is_an_infrastructure_error(server: Server) -> None:
    nobody = EndpointAgent("big", "http://127.0.0.1:9/v1", tries=2, wait=0.01)
    with pytest.raises(InfrastructureError, match=r"no answer after 2 tries \(.*refused"):
        nobody.diagnose(incidents("a"))


def test_what_takes_too_long_is_given_up(server: Server) -> None:
    hold = threading.Event()
    server.RequestHandlerClass = cast(Any, type("Slow", (Handler,), {"do_POST": lambda self: hold.wait(10)}))
    with pytest.raises(InfrastructureError, match=r"no answer after 1 tries \(.*timed out"):
        patient(server, tries=1, timeout=0.1).diagnose(incidents("a"))
    hold.set()


@pytest.mark.parametrize(("status", "remedy"), [(401, "put its key into OPENAI_API_KEY"), (404, "check the model's name"), (400, "check")])
def test_a_refusal_is_not_asked_again(server: Server, status: int, remedy: str) -> None:
    server.failures = [(status, {}, b'{"error": {"message": "no such model"}}')]
    with pytest.raises(InputError, match=f"refused to ask 'big', status {status}: .*no such model.*{remedy}"):
        patient(server).diagnose(incidents("a"))
    assert len(server.asked) == 1


def test_a_redirect_does_not_take_the_key_along(server: Server) -> None:
    server.failures = [(302, {"Location": f"{server.url}/elsewhere"}, b"")]
    with pytest.raises(InputError, match="status 302"):
        patient(server).diagnose(incidents("a"))
    assert [asked["path"] for asked in server.asked] == ["/v1/chat/completions"]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b"[1]"])
def test_what_is_no_completion_is_refused(server: Server, body: bytes) -> None:
    server.failures = [(200, {}, body)]
    with pytest.raises(InputError, match=r"no chat completion came back .* usually ends in /v1"):
        patient(server).diagnose(incidents("a"))


def test_an_empty_answer_is_an_answer(server: Server) -> None:
    server.failures = [(200, {}, b'{"choices": [{"message": {"content": null}}]}')]
    assert patient(server).diagnose(incidents("a")) == [""]


@given(st.text(max_size=60).filter(lambda text: "@http" not in text))
def test_what_names_no_endpoint_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="endpoint:MODEL@URL"):
        EndpointAgent.from_spec(spec)


@given(st.from_regex(r"[\w./:@-]+", fullmatch=True).filter(lambda name: "@http" not in name))
def test_any_name_of_a_model_is_taken_as_it_is(name: str) -> None:
    assert EndpointAgent.from_spec(f"{name}@http://localhost:8000/v1").name == f"endpoint:{name}"


@pytest.mark.parametrize("spec", ["gpt", "gpt@", "@http://a/v1", "gpt@ftp://a", "gpt@http://", "gpt@http://a/v1?x=1"])
def test_half_a_name_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="not of the form endpoint:MODEL@URL"):
        make_agent(f"endpoint:{spec}")

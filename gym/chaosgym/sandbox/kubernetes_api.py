"""The official Kubernetes client, with answers as plain dictionaries.

Its models validate answers against the newest API and refuse those of older servers (the answer to the removal of a
Service from 1.20 is one); the calls, the authentication and the errors are the client's.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from chaosgym.errors import PrerequisiteError

__all__ = ["Api", "connect", "first_line", "make_client", "message"]

_SERVER_TIMEOUT, _FIRST_TIMEOUT = 30, 5
"""Seconds; the first question is asked several times, and tells only whether the server answers."""


def connect(context: str) -> Api:
    """The cluster of that context, or the one we run in. Raises PrerequisiteError with the remedy."""
    try:
        from kubernetes import config
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError
        from yaml import YAMLError
    except ImportError as error:
        raise PrerequisiteError("the Kubernetes client is not installed; run: pip install 'chaosgym[kubernetes]'") from error
    try:
        api = Api(make_client(context))
        api.version()
    except YAMLError as error:
        raise PrerequisiteError(f"your kubeconfig is no YAML ({' '.join(str(error).split())}); see KUBECONFIG") from error
    except config.ConfigException as error:
        known = ", ".join(_contexts()) or "none"
        raise PrerequisiteError(f"context {context!r}: {first_line(error)}; contexts of your kubeconfig: {known}") from error
    except ApiException as error:
        remedy = "the token may have expired: log in to the cluster again" if error.status == 401 else "see `kubectl auth can-i --list`"
        raise PrerequisiteError(f"the cluster of context {context!r} refused: {error.status} {error.reason}; {remedy}") from error
    except (HTTPError, OSError) as error:
        raise PrerequisiteError(f"the cluster of context {context!r} does not answer ({first_line(error)}); is it up?") from error
    return api


def make_client(context: str) -> Any:
    """The client of the cluster of that context, or of the one we run in. Raises what the client raises for a bad kubeconfig."""
    from kubernetes import client, config

    if context == "in-cluster":
        config.load_incluster_config()
        return client.ApiClient()
    read: Any = client.Configuration()
    config.load_kube_config(context=context, client_configuration=read, temp_file_path=_folder())
    return client.ApiClient(read)


@functools.cache
def _folder() -> str:
    """Where the client writes certificates and keys of the kubeconfig; signed, so that `chaosgym clean` removes it after a kill."""
    from chaosgym.sandbox.leftovers import STATE_PREFIX, sign_folder

    folder = tempfile.mkdtemp(prefix=STATE_PREFIX)
    sign_folder(Path(folder))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _contexts() -> list[str]:
    from kubernetes import config

    try:
        found: Any = config.list_kube_config_contexts()
    except config.ConfigException:
        return []
    return [each["name"] for each in found[0]]


class Api:
    """The calls that we make; those that the cluster refuses raise the client's ApiException."""

    def __init__(self, client_: Any) -> None:
        from kubernetes import client

        self._core: Any = client.CoreV1Api(client_)
        self._apps: Any = client.AppsV1Api(client_)
        self._net: Any = client.NetworkingV1Api(client_)
        self._version: Any = client.VersionApi(client_)
        self._groups: Any = client.ApisApi(client_)
        self._rights: Any = client.AuthorizationV1Api(client_)
        self.server: str = client_.configuration.host

    def _owner(self, kind: str) -> Any:
        return self._apps if kind == "deployment" else self._net if kind == "network_policy" else self._core

    def _call(self, owner: Any, name: str, *arguments: Any, **named: Any) -> dict[str, Any]:
        named = {"_request_timeout": _SERVER_TIMEOUT, **named}
        answer = getattr(owner, name)(*arguments, _preload_content=False, **named)
        return json.loads(answer.data)

    def version(self) -> str:
        """Of the server, as `v1.20.2`."""
        return self._call(self._version, "get_code", _request_timeout=_FIRST_TIMEOUT)["gitVersion"]

    def groups(self) -> set[str]:
        """Names of the API groups that the server has, those of extensions among them."""
        return {each["name"] for each in self._call(self._groups, "get_api_versions")["groups"]}

    def nodes(self) -> list[dict[str, Any]]:
        """All of the cluster."""
        return self._call(self._core, "list_node")["items"]

    def some_pods(self, count: int) -> list[dict[str, Any]]:
        """The first ones of the whole cluster."""
        return self._call(self._core, "list_pod_for_all_namespaces", limit=count)["items"]

    def may(self, verb: str, group: str, resource: str) -> bool:
        """Whether we may do that in every namespace; `resource` as `pods` or `pods/log`."""
        name, _, part = resource.partition("/")
        asked = {"verb": verb, "group": group, "resource": name, "subresource": part}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        return bool(self._call(self._rights, "create_self_subject_access_review", body)["status"].get("allowed"))

    def create(self, kind: str, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An object of a namespace; `kind` in the client's spelling, as `network_policy`."""
        return self._call(self._owner(kind), f"create_namespaced_{kind}", namespace, dict(body))

    def read(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        return self._call(self._owner(kind), f"read_namespaced_{kind}", name, namespace)

    def patch(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """A strategic merge patch."""
        self._call(self._owner(kind), f"patch_namespaced_{kind}", name, namespace, dict(body))

    def replace(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> None:
        """Put another in its place."""
        self._call(self._owner(kind), f"replace_namespaced_{kind}", name, namespace, dict(body))

    def delete(self, kind: str, namespace: str, name: str) -> None:
        """Remove it, without grace; one that is not there is fine."""
        from kubernetes.client.exceptions import ApiException

        with _missing_is_fine(ApiException):
            self._call(self._owner(kind), f"delete_namespaced_{kind}", name, namespace, grace_period_seconds=0)

    def list(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a namespace."""
        return self._call(self._owner(kind), f"list_namespaced_{kind}", namespace)["items"]

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Those that carry the labels."""
        return self._call(self._core, "list_namespaced_pod", namespace, label_selector=selector)["items"]

    def pod_log(self, namespace: str, name: str, seconds: int) -> str:
        """Of the last `seconds`, a time before each line; empty when the pod is gone or never began."""
        from kubernetes.client.exceptions import ApiException

        try:
            answer = self._core.read_namespaced_pod_log(
                name, namespace, timestamps=True, since_seconds=seconds, _preload_content=False, _request_timeout=_SERVER_TIMEOUT
            )
        except ApiException as error:
            if error.status in (400, 404):
                return ""
            raise
        return answer.data.decode(errors="replace")

    def create_namespace(self, body: Mapping[str, Any]) -> None:
        """A namespace of ours."""
        self._call(self._core, "create_namespace", dict(body))

    def namespaces(self, selector: str) -> list[dict[str, Any]]:
        """Those that carry the labels."""
        return self._call(self._core, "list_namespace", label_selector=selector)["items"]

    def delete_namespace(self, name: str) -> None:
        """Remove it with all that is in it; one that is not there, or on its way out, is fine."""
        from kubernetes.client.exceptions import ApiException

        with _missing_is_fine(ApiException, 409):
            self._call(self._core, "delete_namespace", name, grace_period_seconds=0)

    def watch_events(self, namespace: str, seconds: int) -> Iterator[dict[str, Any]]:
        """Events of the namespace as they come, for so long."""
        answer = self._core.list_namespaced_event(namespace, watch=True, timeout_seconds=seconds, _preload_content=False)
        buffer = b""
        for chunk in answer.stream(amt=None, decode_content=False):
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)["object"]


@contextlib.contextmanager
def _missing_is_fine(kind: Any, *also: int) -> Generator[None]:
    try:
        yield
    except kind as error:
        if error.status not in (404, *also):
            raise


def message(error: Any) -> str:
    """What the cluster says in an ApiException."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return json.loads(error.body)["message"]
    return first_line(error)


def first_line(error: Exception) -> str:
    """Of what it says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)

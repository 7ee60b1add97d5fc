"""The names of what can go wrong: family.type, with what people also call it.

The taxonomy is data alone, so that the reward, the agents and the reports can read it without
importing a single injector. A fault under `chaosgym.faults` carries one of these labels. A fault of a
user's own brings a type of its own: `register` makes it known, and those of installed distributions
(`chaosgym.plugin`) are looked up when somebody asks for a word that is not here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from chaosgym.errors import InputError
from chaosgym.plugin import FAULTS_GROUP, installed

__all__ = ["FAULT_TYPES", "HEALTHY", "FaultType", "declared_type", "fault_types", "find", "normalise", "register", "type_problem"]

HEALTHY = "healthy"


@dataclass(frozen=True)
class FaultType:
    """One label: `family.type`, one sentence for people, and accepted synonyms."""

    name: str
    summary: str
    synonyms: tuple[str, ...] = ()
    link: bool = False
    """Of a user's own: it acts on the link to its target, so that a plan needs one there. Of ours `chaosgym.drawing` knows."""

    @property
    def family(self) -> str:
        """The part before the dot."""
        return self.name.split(".", 1)[0]


_TYPES = (
    FaultType(
        "process.crash",
        "the process was killed and stays down for a while",
        ("crash", "killed", "service_down", "pod_kill"),
    ),
    FaultType(
        "process.hang",
        "the process is alive and accepts connections, but answers nothing",
        ("hang", "freeze", "stuck", "pause"),
    ),
    FaultType(
        "resource.cpu",
        "the process burns CPU until its requests wait",
        ("cpu_hog", "cpu", "cpu_saturation", "cpu_stress"),
    ),
    FaultType(
        "resource.memory_leak",
        "memory grows until the process is killed for it",
        ("memory_leak", "oom", "oom_kill", "memory"),
    ),
    FaultType(
        "resource.file_descriptors",
        "the process has no file descriptors left",
        ("fd_exhaustion", "file_descriptors", "too_many_open_files", "emfile"),
    ),
    FaultType(
        "network.latency",
        "packets to the component arrive late",
        ("latency", "network_delay", "delay", "slow_network"),
    ),
    FaultType(
        "network.partition",
        "packets to the component vanish",
        ("partition", "blackhole", "network_loss", "unreachable"),
    ),
    FaultType(
        "dependency.connections",
        "the database has no connection slots left",
        ("connection_exhaustion", "too_many_clients", "pool_exhaustion", "max_connections"),
    ),
    FaultType(
        "dependency.lock",
        "somebody holds a table lock that everybody waits for",
        ("lock_contention", "table_lock", "lock", "blocked_queries"),
    ),
    FaultType(
        "dependency.cache_memory",
        "the cache is full and refuses writes",
        ("redis_oom", "cache_oom", "maxmemory", "cache_full"),
    ),
    FaultType(
        "configuration.credential",
        "a deploy came with a credential the other side refuses",
        ("wrong_credential", "auth", "bad_password", "authentication"),
    ),
    FaultType(
        "application.bad_deploy",
        "a new version throws on some inputs",
        ("bad_deploy", "bug", "regression", "exception", "code_bug"),
    ),
    FaultType(
        "application.retry_storm",
        "retries without restraint multiply the load on a slow dependency",
        ("retry_storm", "retries", "thundering_herd", "metastable"),
    ),
    FaultType(
        "process.crash_loop",
        "the process ends shortly after each start, and is started again and again",
        ("crash_loop", "crashloopbackoff", "restart_loop"),
    ),
    FaultType(
        "process.slow_start",
        "the process takes traffic before it is ready for it",
        ("slow_start", "not_ready", "readiness", "warm_up"),
    ),
    FaultType(
        "resource.cpu_throttle",
        "the process may use only a small share of a CPU",
        ("cpu_throttle", "throttling", "cpu_quota", "cfs_throttling"),
    ),
    FaultType(
        "resource.file_leak",
        "files are opened and not closed, until there is no descriptor left",
        ("file_leak", "fd_leak", "descriptor_leak"),
    ),
    FaultType(
        "resource.thread_leak",
        "threads are started and never end",
        ("thread_leak", "thread_exhaustion", "too_many_threads"),
    ),
    FaultType(
        "network.loss",
        "a share of the packets to the component vanishes",
        ("packet_loss", "loss", "lossy_link"),
    ),
    FaultType(
        "network.one_way",
        "requests reach the component, its answers do not come back",
        ("one_way", "asymmetric_partition", "half_open", "asymmetric_route"),
    ),
    FaultType(
        "network.refusal",
        "connections to a component that is well are refused on the way",
        ("refusal", "connection_refused", "firewall_reject", "reject"),
    ),
    FaultType(
        "network.reset",
        "connections are reset when the answer comes",
        ("reset", "connection_reset", "rst", "tcp_reset"),
    ),
    FaultType(
        "network.truncation",
        "answers are cut off on the way",
        ("truncation", "truncated_response", "incomplete_read"),
    ),
    FaultType(
        "network.corruption",
        "answers arrive with wrong bytes",
        ("corruption", "bit_flip", "packet_corruption"),
    ),
    FaultType(
        "network.proxy_unavailable",
        "a proxy before a component that is well answers 503 itself",
        ("proxy_unavailable", "sidecar", "upstream_connect_error", "no_healthy_upstream", "http_abort"),
    ),
    FaultType(
        "dependency.row_lock",
        "a transaction that nobody ends holds the rows that others want to change",
        ("row_lock", "idle_in_transaction", "long_transaction"),
    ),
    FaultType(
        "dependency.role_connections",
        "the logins of the application may open too few connections",
        ("role_connections", "connection_limit", "too_many_connections_for_role"),
    ),
    FaultType(
        "dependency.read_only",
        "the database takes no writes",
        ("read_only", "read_only_database", "readonly_primary"),
    ),
    FaultType(
        "dependency.sequence_exhausted",
        "the sequence of a table has no number left",
        ("sequence_exhausted", "id_exhaustion", "nextval"),
    ),
    FaultType(
        "dependency.privilege",
        "the application has lost rights on its tables",
        ("privilege", "permission_denied", "revoked_privilege", "missing_grant"),
    ),
    FaultType(
        "dependency.password_rotation",
        "the passwords were changed on the server alone",
        ("password_rotation", "rotated_secret", "stale_credential"),
    ),
    FaultType(
        "dependency.slow_writes",
        "each write to a table does far too much work in the database",
        ("slow_writes", "slow_trigger", "slow_query"),
    ),
    FaultType(
        "dependency.expensive_report",
        "a report keeps the database busy",
        ("expensive_report", "analytics_query", "runaway_query", "database_cpu"),
    ),
    FaultType(
        "dependency.database_crash",
        "the database server crashes and recovers, again and again",
        ("database_crash", "postgres_crash", "crash_recovery"),
    ),
    FaultType(
        "dependency.cache_read_only",
        "the cache was made a replica and refuses writes",
        ("cache_read_only", "redis_readonly", "replica_promoted_wrong"),
    ),
    FaultType(
        "dependency.cache_password",
        "the cache asks for a password that nobody has",
        ("cache_password", "noauth", "redis_auth"),
    ),
    FaultType(
        "dependency.cache_permission",
        "the cache does not permit a group of commands any more",
        ("cache_permission", "noperm", "redis_acl"),
    ),
    FaultType(
        "dependency.cache_clients",
        "the cache lets too few clients in",
        ("cache_clients", "maxclients", "redis_max_clients"),
    ),
    FaultType(
        "dependency.cache_eviction",
        "the cache evicts what it was just given",
        ("cache_eviction", "eviction", "cache_thrash"),
    ),
    FaultType(
        "dependency.cache_flush",
        "the cache is emptied again and again",
        ("cache_flush", "flushall", "cache_stampede"),
    ),
    FaultType(
        "dependency.cache_slow_commands",
        "long commands keep the cache from everybody else",
        ("cache_slow_commands", "slow_lua", "blocked_redis", "redis_slow"),
    ),
    FaultType(
        "configuration.database_name",
        "a configuration names a database that does not exist",
        ("database_name", "wrong_database", "invalid_catalog"),
    ),
    FaultType(
        "configuration.port",
        "a configuration has the wrong port of a dependency",
        ("port", "wrong_port", "wrong_address", "target_port"),
    ),
    FaultType(
        "configuration.host_name",
        "a configuration has a host name that cannot be resolved",
        ("host_name", "wrong_host", "dns_name", "unresolvable_host"),
    ),
    FaultType(
        "configuration.route",
        "a configuration has a wrong path to a dependency, which answers 404",
        ("route", "wrong_path", "wrong_route", "misrouting"),
    ),
    FaultType(
        "configuration.timeout",
        "a configuration gives calls too little time",
        ("timeout_misconfiguration", "timeout_too_low", "wrong_timeout"),
    ),
    FaultType(
        "configuration.rate_limit",
        "a configuration limits requests below the usual traffic",
        ("rate_limit", "rate_limiting", "too_many_requests"),
    ),
    FaultType(
        "configuration.body_limit",
        "a configuration allows too small bodies of requests",
        ("body_limit", "payload_too_large", "max_body_size"),
    ),
    FaultType(
        "configuration.debug_logging",
        "a configuration logs everything",
        ("debug_logging", "log_storm", "verbose_logging"),
    ),
    FaultType(
        "configuration.missing_variable",
        "a configuration lacks a variable that the program needs",
        ("missing_variable", "missing_env", "missing_configuration"),
    ),
    FaultType(
        "configuration.feature_flag",
        "a flag switches on what is not finished",
        ("feature_flag", "flag_flip", "toggle"),
    ),
    FaultType(
        "configuration.stream",
        "a configuration has a worker listen to the wrong stream",
        ("wrong_stream", "wrong_queue", "wrong_topic"),
    ),
    FaultType(
        "configuration.memory_limit",
        "a configuration allows too little memory",
        ("memory_limit", "memory_quota", "low_memory_limit"),
    ),
    FaultType(
        "application.blocking_call",
        "a new version blocks its event loop",
        ("blocking_call", "event_loop_block", "sync_call"),
    ),
    FaultType(
        "application.slow_release",
        "a new version computes too much in every request",
        ("slow_release", "performance_regression", "cpu_regression"),
    ),
    FaultType(
        "application.deadlock",
        "a new version waits for a lock that nobody gives back",
        ("deadlock", "lost_wakeup", "stuck_lock"),
    ),
    FaultType(
        "application.repeated_queries",
        "a new version asks the database once for each row",
        ("repeated_queries", "n_plus_one", "n+1", "query_explosion"),
    ),
    FaultType(
        "application.connection_leak",
        "a new version does not give its database connections back",
        ("connection_leak", "pool_leak", "leaked_connections"),
    ),
    FaultType(
        "application.incompatible_answer",
        "a new version answers in a form that its callers cannot read",
        ("incompatible_answer", "contract_mismatch", "api_change", "schema_mismatch"),
    ),
    FaultType(
        "data.missing_column",
        "a column that statements name is not there",
        ("missing_column", "undefined_column", "schema_drift"),
    ),
    FaultType(
        "data.missing_table",
        "a table that statements name is not there",
        ("missing_table", "undefined_table", "half_migration"),
    ),
    FaultType(
        "data.sequence_reset",
        "new rows get numbers that are taken",
        ("sequence_reset", "duplicate_key", "unique_violation"),
    ),
    FaultType(
        "data.constraint",
        "new rows break a rule that was added",
        ("constraint", "check_violation"),
    ),
    FaultType(
        "data.not_null",
        "a column that must not be null is not filled",
        ("not_null", "null_violation"),
    ),
    FaultType(
        "data.cache_type",
        "keys of the cache hold another type",
        ("cache_type", "wrongtype", "key_collision"),
    ),
    FaultType(
        "data.cache_corruption",
        "values in the cache cannot be read",
        ("cache_corruption", "corrupt_cache", "cache_poisoning"),
    ),
    FaultType(
        "data.poison_message",
        "a worker is sent messages that it cannot read",
        ("poison_message", "bad_message", "dead_letter"),
    ),
    FaultType(
        "traffic.surge",
        "many times as many users as usual come",
        ("surge", "traffic_spike", "load_spike", "flash_crowd"),
    ),
    FaultType(
        "traffic.scraper",
        "one client asks for everything of a route",
        ("scraper", "crawler", "abusive_client", "bot"),
    ),
    FaultType(
        "traffic.probing",
        "a scanner asks for paths that are not there",
        ("probing", "scanner", "vulnerability_scan"),
    ),
    FaultType(
        "traffic.slow_clients",
        "slow clients hold the connections of the edge",
        ("slow_clients", "slowloris", "connection_hogging"),
    ),
    FaultType(
        "traffic.large_requests",
        "a client sends far too large requests",
        ("large_requests", "oversized_payload", "large_payload"),
    ),
    FaultType(
        "platform.image_pull",
        "the image of the new pods cannot be pulled",
        ("image_pull_backoff", "err_image_pull", "bad_image", "wrong_image"),
    ),
    FaultType(
        "platform.readiness_probe",
        "its readiness probe fails for a pod that is well",
        ("readiness_probe", "wrong_readiness_probe", "never_ready"),
    ),
    FaultType(
        "platform.liveness_probe",
        "its liveness probe kills a container that is well",
        ("liveness_probe", "wrong_liveness_probe", "probe_restarts"),
    ),
    FaultType(
        "platform.selector",
        "the selector of its service matches no pod",
        ("wrong_selector", "selector_mismatch", "no_endpoints"),
    ),
    FaultType(
        "platform.target_port",
        "its service leads to a port at which nobody listens",
        ("wrong_target_port", "service_port_mismatch"),
    ),
    FaultType(
        "platform.quota",
        "the namespace is over its quota and its pod is not made again",
        ("quota_exceeded", "resource_quota", "exceeded_quota"),
    ),
    FaultType(
        "platform.unschedulable",
        "its pod asks for a node that does not exist",
        ("node_selector_mismatch", "wrong_node_selector", "node_affinity"),
    ),
    FaultType(
        "platform.capacity",
        "its pod asks for more than any node has left",
        ("insufficient_cpu", "insufficient_resources", "pending_pod"),
    ),
    FaultType(
        "platform.config_missing",
        "its pod needs a config map that does not exist",
        ("missing_configmap", "configmap_not_found"),
    ),
    FaultType(
        "platform.secret_missing",
        "its pod needs a secret that does not exist",
        ("missing_secret", "secret_not_found"),
    ),
    FaultType(
        "platform.volume_missing",
        "its pod waits for a volume that does not exist",
        ("failed_mount", "mount_failure", "missing_volume"),
    ),
    FaultType(
        "platform.service_account",
        "its pod is to run as a service account that does not exist",
        ("missing_service_account", "service_account_not_found"),
    ),
    FaultType(
        "platform.scaled_to_zero",
        "it was scaled to no pod at all",
        ("scale_to_zero", "zero_replicas", "scaled_down"),
    ),
    FaultType(
        "platform.command",
        "its container starts a program that the image does not have",
        ("wrong_command", "bad_entrypoint", "executable_not_found"),
    ),
    FaultType(
        "platform.memory_limit",
        "its container's memory limit is too small to start",
        ("container_memory_limit", "oom_at_start"),
    ),
    FaultType(
        "platform.security_context",
        "its container is not allowed to run as it asks to",
        ("run_as_root", "security_context_violation", "pod_security"),
    ),
)

FAULT_TYPES: dict[str, FaultType] = {t.name: t for t in _TYPES}
"""Ours alone: the closed vocabulary of the compact report is made from them, whatever is installed."""
_BY_WORD: dict[str, str] = {s: t.name for t in _TYPES for s in (t.name, *t.synonyms)}

_LABEL = re.compile(r"[a-z][a-z0-9_]{0,39}\.[a-z][a-z0-9_]{0,39}")
_own: dict[str, FaultType] = {}
_own_words: dict[str, str] = {}


def normalise(word: str) -> str | None:
    """Return the label that `word` stands for (itself or a synonym, any case, `-`, `/` or space as separators), or None."""
    key = _key(word)
    if key in _BY_WORD:
        return _BY_WORD[key]
    _look_up_installed()
    return _own_words.get(key)


def find(label: str) -> FaultType | None:
    """The type of a label, ours or a user's own; None for one that nobody knows."""
    if label in FAULT_TYPES:
        return FAULT_TYPES[label]
    _look_up_installed()
    return _own.get(label)


def fault_types() -> dict[str, FaultType]:
    """Every type by label: ours, then those of users' own that are installed or registered."""
    _look_up_installed()
    return FAULT_TYPES | _own


def register(own: FaultType) -> None:
    """Make a type of a user's own known in this process; the same one again is no matter.

    Raises InputError when its name or a synonym is taken or cannot be read.
    """
    if _own.get(own.name) == own:
        return
    problem = type_problem(own)
    if problem is not None:
        raise InputError(problem)
    _own[own.name] = own
    _own_words.update({_key(word): own.name for word in (own.name, *own.synonyms)})


def type_problem(own: FaultType) -> str | None:
    """Why a type of a user's own cannot be known beside the others; None when it can."""
    if _LABEL.fullmatch(own.name) is None:
        return f"label {own.name!r} should be family.type in lower case, digits and '_', as in 'dependency.slow_disk'"
    if own.name in FAULT_TYPES:
        return f"label {own.name!r} is one of chaosgym's own ({FAULT_TYPES[own.name].summary}); choose another"
    if not own.summary.strip():
        return f"label {own.name!r} is not in chaosgym.taxonomy, and its class has no `summary`; say in one sentence what went wrong"
    taken = _BY_WORD | _own_words
    for word in (own.name, *own.synonyms):
        if taken.get(_key(word), own.name) != own.name:
            return f"{own.name}: synonym {word!r} already stands for {taken[_key(word)]}; leave it out"
    if own.name in _own and _own[own.name] != own:
        return f"label {own.name!r} is known already, with another meaning ({_own[own.name].summary}); choose another"
    return None


def declared_type(fault: Any) -> FaultType:
    """The type that a fault class of a user's own declares. InputError when it is no fault class."""
    try:
        if isinstance(fault.synonyms, str):
            raise TypeError(f"synonyms should be several, as in ({fault.synonyms!r},)")
        return FaultType(str(fault.label), str(fault.summary), tuple(fault.synonyms), "link" in fault.needs)
    except (AttributeError, TypeError) as error:
        raise InputError(f"{fault!r} is no class on chaosgym.faults.base.Fault with a label, a summary and needs: {error}") from error


def _look_up_installed() -> None:
    for plugin in installed(FAULTS_GROUP):
        try:
            register(declared_type(plugin.value))
        except InputError as error:
            raise InputError(f"{plugin.where}: {error}") from error


def _key(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_").replace("/", ".")

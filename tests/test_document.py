"""Documents: what YAML is accepted, and that every error names file, line, column, path and remedy."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from chaosgym.app import App
from chaosgym.document import digest, parse_document, read_document
from chaosgym.errors import InputError
from chaosgym.scenario import Scenario
from chaosgym.scenarios import library
from chaosgym.source import MAX_BYTES, Mark, parse_source

SHOP = (library() / "apps" / "shop.yaml").read_text(encoding="utf-8")
STORM = (library() / "application" / "retry-storm.yaml").read_text(encoding="utf-8")


def errors(text: str, model: type[App] | type[Scenario]) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse_document(parse_source(text, "x.yaml"), model)
    return str(caught.value).splitlines()


def damaged(text: str, old: str, new: str) -> tuple[str, str]:
    """The text with `old` replaced by `new`, and `line:column` of the `^` in `new` (which is taken out)."""
    text = changed(text, old, new)
    at = text.index("^")
    return text.replace("^", "", 1), f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


# ── one mistake, one line, at the right place ──────────────────────────────────────────────────────

SHOP_MISTAKES = [
    ("kind: worker", "kind: ^wroker", "spec.components.notifications.kind", "did you mean 'worker'?"),
    ("timeout: 800ms", "timeout: ^600", "endpoints.checkout.steps.0.timeout", "write milliseconds as '250ms'"),
    ("timeout: 800ms", "timeout: ^6 parsecs", "endpoints.checkout.steps.0.timeout", "as in '250ms'"),
    ("retries: 0}", "retries: ^'0'}", "endpoints.home.steps.0.retries", "should be a valid integer, not '0'"),
    ("retries: 0}", "^retry: 0}", "endpoints.home.steps.0.retry", "did you mean 'retries'?"),
    ("{call: cart,", "^{cal: cart,", "endpoints.add.steps.0", "did you mean 'call'?"),
    ("table: stock,", "table: ^stok,", "endpoints.check.steps.0.table", "did you mean 'stock'?"),
    ("call: payments", "call: ^paiments", "endpoints.place.steps.1.call", "did you mean 'payments'?"),
    ("call: payments", "call: ^database", "endpoints.place.steps.1.call", "'database' is a postgres"),
    ("endpoint: charge", "endpoint: ^chrge", "endpoints.place.steps.1.endpoint", "did you mean 'charge'?"),
    ("stream: placed\n", "stream: ^paced\n", "notifications.consumes.stream", "did you mean 'placed'?"),
    ("requests: [search]", "requests: [^serch]", "journeys.search.requests.0", "did you mean 'search'?"),
    ("vocabulary: cart", "vocabulary: ^carts", "components.cart.vocabulary", "did you mean 'cart'?"),
    ("apiVersion: chaosgym.dev/v1", "apiVersion: ^chaosgym.dev/v9", "apiVersion", "upgrade chaosgym"),
    ("    cart:\n", "    ^Cart_1:\n", "spec.components.Cart_1", "should match the pattern"),
    ("errors: 0.05", "errors: ^2", "spec.slo.errors", "less than or equal to 1, not 2"),
    ("entry: gateway", "entry: ^gatewya", "spec.entry", "did you mean 'gateway'?"),
    ("entry: gateway", "entry: ^database", "spec.entry", "users talk to a gateway or a service"),
    ("spec:\n  entry: gateway\n", "^spec:\n", "spec", "key 'entry' is missing"),
    ("kind: redis\n", "kind: redis\n      ^tables: {a: {}}\n", "spec.components.cache.tables", "a redis has no tables"),
    ("operation: set", "operation: ^put", "cart.endpoints.add.steps.1.operation", "should be 'get', 'set', 'increment' or 'delete'"),
]


@pytest.mark.parametrize(("old", "new", "path", "says"), SHOP_MISTAKES, ids=[new.strip() for _, new, *_ in SHOP_MISTAKES])
def test_a_mistake_in_an_app_is_named_where_it_stands(old: str, new: str, path: str, says: str) -> None:
    text, where = damaged(SHOP, old, new)
    found = [line for line in errors(text, App) if says in line]
    assert len(found) == 1
    assert found[0].startswith(f"x.yaml:{where}: ")
    assert f"{path}: " in found[0]


def test_a_request_that_calls_itself_is_told_with_the_whole_circle() -> None:
    circle = "{call: gateway, endpoint: checkout}"
    (line,) = errors(changed(SHOP, "{call: payments, endpoint: charge, timeout: 350ms}", circle), App)
    assert "a request calls itself: gateway.checkout -> orders.place -> gateway.checkout; break the cycle" in line


def test_a_component_that_nothing_uses_is_told() -> None:
    (line,) = errors(changed(SHOP, "{call: payments, endpoint: charge, timeout: 350ms}", "{compute: 1ms}"), App)
    assert "spec.components.payments: no request that starts at 'gateway' uses it" in line


STORM_MISTAKES = [
    ("${retries}", "^${retry}", "faults.0.parameters.retries", "did you mean 'retries'?"),
    ("${pair.caller}", "^${pair.calle}", "faults.0.target", "did you mean 'caller'?"),
    ("${pair.caller}", "^${pair}", "faults.0.target", "write ${pair.caller}"),
    ("${pair.caller}", "^x${pair.caller}", "faults.0.target", "is not a reference"),
    ("[4, 8]", "^[8, 4]", "parameters.retries.uniform", "write the lower end first"),
    ("[60ms, 120ms]", "^[150ms, 3]", "parameters.delay.loguniform", "mixes durations and whole numbers"),
    ("[60ms, 120ms]", "^[0ms, 3ms]", "parameters.delay.loguniform", "above zero"),
    ("{uniform: [4, 8]}", "{^uniform: [4]}", "parameters.retries.uniform", "item 2 is missing"),
    ("{uniform: [4, 8]}", "^{unifrom: [4, 8]}", "parameters.retries", "did you mean 'uniform'?"),
    ("application.retry_storm", "^retry_storm", "faults.0.fault", "did you mean 'application.retry_storm'?"),
    ("application.retry_storm", "^application.retry_strom", "faults.0.fault", "did you mean 'application.retry_storm'?"),
    ("difficulty: hard", "difficulty: ^harder", "metadata.difficulty", "did you mean 'hard'?"),
    ("{caller: orders, dependency: inventory}", "^{caller: orders, other: inventory}", "pair.choice.1", "all have the same keys"),
    ("    delay: {log", "    ^spare: {choice: [1]}\n    delay: {log", "parameters.spare", "is not used"),
    ("retries: ${retries}", "retries: ^[1]", "faults.0.parameters.retries", "a valid number or a valid boolean, not a list"),
]


@pytest.mark.parametrize(("old", "new", "path", "says"), STORM_MISTAKES, ids=[new.strip() for _, new, *_ in STORM_MISTAKES])
def test_a_mistake_in_a_scenario_is_named_where_it_stands(old: str, new: str, path: str, says: str) -> None:
    text, where = damaged(STORM, old, new)
    found = [line for line in errors(text, Scenario) if says in line and path in line]
    assert len(found) == 1
    assert found[0].startswith(f"x.yaml:{where}: ")


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    text = changed(changed(SHOP, "kind: worker", "kind: wroker"), "weight: 25", "weight: -3")
    lines = errors(text, App)
    assert [line.split(": ")[1] for line in lines] == ["spec.components.notifications.kind", "spec.journeys.browse.weight"]


def test_a_flood_of_errors_is_cut_and_counted() -> None:
    extra = "".join(f"  key{i}: {i}\n" for i in range(80))
    lines = errors(changed(SHOP, "metadata:\n", f"metadata:\n{extra}"), App)
    assert len(lines) == 51
    assert lines[-1] == "x.yaml: and 30 more"


def test_an_unknown_key_lists_those_of_its_own_kind_of_step() -> None:
    (line,) = errors(changed(SHOP, "operation: search}", "operation: search, retries: 1}"), App)
    assert "unknown key 'retries'; allowed: operation, query, table, timeout" in line


# ── YAML ───────────────────────────────────────────────────────────────────────────────────────────

REFUSED = [
    ("a: 1\na: 2\n", "x.yaml:2:1: key 'a' stands twice; it is already on line 1"),
    ("on: 1\n", "x.yaml:1:1: key on is not read as a text; quote it: 'on'"),
    ("a: on\n", "x.yaml:1:4: YAML 1.1 reads on as true; write true, or quote it: 'on'"),
    ("a: [1, No]\n", "x.yaml:1:8: YAML 1.1 reads No as false; write false, or quote it: 'No'"),
    ("a: 12:30:00\n", "x.yaml:1:4: 12:30:00 is read differently"),
    ("a: 010\n", "x.yaml:1:4: 010 is read differently"),
    ("a: 0x1F\n", "x.yaml:1:4: 0x1F is read differently"),
    ("a: 1_000\n", "x.yaml:1:4: 1_000 is read differently"),
    ("a: 1e3\n", "x.yaml:1:4: 1e3 is read differently"),
    ("a: 2024-01-01\n", "x.yaml:1:4: 2024-01-01 is read differently"),
    ("a: .inf\n", "x.yaml:1:4: .inf is read differently"),
    ("<<: {a: 1}\n", "x.yaml:1:1: merge keys ('<<') are not allowed"),
    ("1: a\n", "x.yaml:1:1: key 1 is not read as a text; quote it: '1'"),
    ("a: &x 1\n", "x.yaml:1:4: anchor '&x' is not allowed"),
    ("a: *x\n", "x.yaml:1:4: alias '*x' is not allowed"),
    ("a: !!python/name:os.system x\n", "x.yaml:1:4: tag 'tag:yaml.org,2002:python/name:os.system' is not allowed"),
    ("a: !!str 1\n", "x.yaml:1:4: tag 'tag:yaml.org,2002:str' is not allowed"),
    ("? {a: 1}\n: 2\n", "x.yaml:1:3: a key must be a text"),
    ("a: 1\n---\nb: 2\n", "x.yaml:2:1: a second document begins here"),
    ("a:\n\tb: 1\n", "x.yaml:2:1: not valid YAML: while scanning for the next token, found character that cannot start any token; indent"),
    ("a: [1, 2\nb: 3\n", "x.yaml:2:2: not valid YAML"),
    (
        "a: {b: ${c}}\n",
        "x.yaml:1:9: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'; within",
    ),
    ("a: \x01\n", "x.yaml:1:4: not valid YAML"),
    ("", "x.yaml:1:1: expected a mapping of keys to values at the top, found nothing"),
    ("- a\n", "x.yaml:1:1: expected a mapping of keys to values at the top, found a list"),
    ("a: " + "[" * 100, "x.yaml:1:63: nested more than 60 levels deep"),
    ("{" * 100_000, "x.yaml:1:2: "),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:20].strip() or "empty" for text, _ in REFUSED])
def test_yaml_that_readers_disagree_on_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_source(text, "x.yaml")
    assert str(caught.value).startswith(message)


def test_marks_lead_to_keys_and_values() -> None:
    source = parse_source("a:\n  b: [1, {c: x}]\n", "x.yaml")
    assert source.data == {"a": {"b": [1, {"c": "x"}]}}
    assert source.where(("a", "b", 1, "c")) == Mark(2, 14)
    assert source.where(("a", "b", 1, "c"), key=True) == Mark(2, 11)
    assert source.where(("a", "b", "<tag>", 1, "gone")) == Mark(2, 10)
    assert source.message(("a", "b"), "wrong") == "x.yaml:2:6: a.b: wrong"


words = st.text(string.ascii_letters, min_size=1, max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(string.printable, max_size=20)
numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
trees = st.recursive(scalars | numbers, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4))


def problems_of(text: str) -> list[str]:
    """The lines of the InputError, none when the text is read."""
    try:
        parse_source(text, "x.yaml")
    except InputError as error:
        return str(error).splitlines()
    return []


@given(st.dictionaries(words, trees, max_size=5), st.booleans())
def test_what_yaml_writes_is_read_back_the_same(data: dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(data, default_flow_style=flow, sort_keys=False, allow_unicode=True)
    problems = problems_of(text)
    if problems:  # PyYAML leaves `1e3` and the like without quotes
        assert all("is read differently" in line for line in problems)
    else:
        assert parse_source(text, "x").data == data


@given(st.text(st.characters(codec="utf-8"), max_size=200))
@example("a: 1\r\nb: 2\r\n")
@example("\ufeffa: 1")
@example("%YAML 1.3\n---\na: 1")
@example('"a\\ud800": 1')
@example("a: '\ud7ff\u2028'")
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    for line in problems_of(text):
        name, row, column, _ = line.split(":", 3)
        assert name == "x.yaml"
        assert int(row) >= 1
        assert int(column) >= 1


@given(st.binary(max_size=200))
def test_any_bytes_in_a_file_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("any", numbered=True) / "x.yaml"
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"x\.yaml"):
        read_document(path, App)


lines_of_shop = SHOP.splitlines(keepends=True)


@given(st.integers(0, len(lines_of_shop) - 1), st.sampled_from(["", "    bogus: 1\n", "x: 1\n", "  - 1\n", "\ta: 1\n", "{\n"]))
def test_a_damaged_app_is_never_a_crash(index: int, line: str) -> None:
    text = "".join([*lines_of_shop[:index], line, *lines_of_shop[index + 1 :]])
    try:
        problems = [] if parse_document(parse_source(text, "x.yaml"), App) else ["empty"]
    except InputError as error:
        problems = str(error).splitlines()
    assert all(problem.startswith("x.yaml:") for problem in problems)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "orders.yaml").write_text("a: 1\n")
    with pytest.raises(InputError, match=r"order\.yaml: no such file - did you mean 'orders\.yaml'\?"):
        read_document(tmp_path / "order.yaml", App)


def test_a_folder_is_not_a_document(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_document(tmp_path, App)


def test_a_file_over_a_mebibyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_document(path, App)


def test_bytes_that_are_no_text_are_located(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(InputError, match=r"latin\.yaml:2:7: not UTF-8 text \(byte 0xe9\)"):
        read_document(path, App)


def test_the_digest_is_of_the_meaning() -> None:
    app = parse_document(parse_source(SHOP, "a"), App)
    same = parse_document(parse_source("# a comment\n" + changed(SHOP, "800ms", "0.8s"), "b"), App)
    other = parse_document(parse_source(changed(SHOP, "800ms", "801ms"), "c"), App)
    assert digest(app) == digest(same) != digest(other)
    assert len(digest(app)) == 64

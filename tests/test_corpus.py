"""`chaosgym corpus build`: what comes in, what stays, what is scrubbed, and what is said of bad input."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from chaosgym.episode import EpisodeHeader, write_episode
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.training.corpus.build import build_corpus
from chaosgym.training.corpus.config import CorpusConfig, Source
from chaosgym.training.corpus.quality import normalise
from chaosgym.training.corpus.scrub import scrub
from chaosgym.training.corpus.shards import read_corpus
from chaosgym.training.corpus.sources import read_source
from chaosgym.training.tokenizer import build_tokenizer
from chaosgym.truth import Truth

pytest.importorskip("datasketch")

PROSE = (
    "The connection pool of the service was exhausted because a slow query held every connection for longer than the timeout "
    "allowed, and new requests waited until they failed. Raising the size of the pool only moved the queue into the database."
)
OTHER = (
    "A cache that loses its keys at the same moment sends all readers to the database at once. Spread the times at which entries "
    "expire, or let a single reader refresh an entry while the others are served what is stale."
)
GERMAN = (
    "Der Dienst war nicht erreichbar, weil die Datenbank keine Verbindungen mehr annahm und alle Anfragen warten mussten, "
    "bis sie nach einer Minute scheiterten und der Benutzer eine Meldung über den Fehler bekam."
)


def texts(*sources: dict[str, Any]) -> list[str]:
    """What the readers of `sources` yield."""
    adapter: TypeAdapter[Source] = TypeAdapter(Source)
    return [document.text for source in sources for document in read_source(adapter.validate_python(source), 0) if not document.skip]


def config(out: Path, *sources: dict[str, Any], **changes: Any) -> CorpusConfig:
    return CorpusConfig.model_validate({"sources": sources, "out": out, **changes})


def jsonl(path: Path, *rows: str) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return {"kind": "text", "path": path}


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one", encoding="utf-8")
    (tmp_path / "b.md.gz").write_bytes(gzip.compress(b"two"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"text": "three"}\n\n{"text": "four"}\n'))
    pq.write_table(pa.table({"text": ["five", "six"]}), tmp_path / "d.parquet")
    (tmp_path / "e.bin").write_bytes(b"\xff")
    assert texts({"kind": "text", "path": tmp_path}) == ["one", "two", "three", "four", "five", "six"]
    assert texts({"kind": "text", "path": tmp_path, "documents": 2}) == ["one", "two"]


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.jsonl", b'{"body": "x"}\n', r"a.jsonl:1: field 'text' is missing; set `column` to one of: body"),
    ("a.jsonl", b'{"text": "x"}\n[1]\n', r"a.jsonl:2: holds a list"),
    ("a.jsonl", b"{\n", r"a.jsonl:1: not valid JSON"),
    ("a.txt", b"\xff\xfe", r"a.txt: is not UTF-8"),
    ("a.txt.gz", gzip.compress(b"long" * 99)[:-9], r"a.txt.gz: cannot be read .*fetch it again"),
    ("a.parquet", b"PAR1 and no more", r"a.parquet: cannot be read"),
    ("a.pdf", b"x", r"a.pdf: of a kind that is not read; allowed: .txt"),
])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        texts({"kind": "text", "path": tmp_path / name})


def test_a_missing_column_is_answered_with_those_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["x"], "size": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"column 'contents' is missing; set `column` to one of: content, size - did you mean 'content'"):
        texts({"kind": "text", "path": tmp_path / "a.parquet", "column": "contents"})
    with pytest.raises(InputError, match="column 'size' holds int64, not text"):
        texts({"kind": "text", "path": tmp_path / "a.parquet", "column": "size"})


def test_questions_are_joined_with_their_accepted_answers(tmp_path: Path) -> None:
    posts = tmp_path / "Posts.xml"
    posts.write_text("""<?xml version="1.0"?><posts>
<row Id="1" PostTypeId="1" AcceptedAnswerId="4" Title="Why?" Body="&lt;p&gt;It is &lt;b&gt;slow&lt;/b&gt; &amp;amp; late&lt;/p&gt;"/>
<row Id="2" PostTypeId="1" Title="Nobody knows" Body="x"/>
<row Id="3" PostTypeId="2" ParentId="1" Body="wrong"/>
<row Id="4" PostTypeId="2" ParentId="1" Body="&lt;pre&gt;&lt;code&gt;EXPLAIN&lt;/code&gt;&lt;/pre&gt;"/>
</posts>""", encoding="utf-8")
    assert texts({"kind": "stackexchange", "path": posts}) == ["Why?\n\nIt is slow & late\n\nEXPLAIN"]
    posts.write_text(posts.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(InputError, match="not whole XML"):
        texts({"kind": "stackexchange", "path": posts})


def test_a_dataset_is_streamed(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", PROSE, OTHER)
    hub = {"kind": "hub", "dataset": "json", "files": [str(tmp_path / "a.jsonl")]}
    assert texts(hub) == [PROSE, OTHER]
    with pytest.raises(InputError, match="column 'body' is missing; set `column` to one of: text"):
        texts({**hub, "column": "body"})
    with pytest.raises(InputError, match="cannot be opened"):
        texts({**hub, "files": [str(tmp_path / "none.jsonl")]})


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(*_: Any, **__: Any) -> Iterator[dict[str, str]]:
        yield {"text": PROSE}
        raise ConnectionResetError("peer went away")

    monkeypatch.setattr("datasets.load_dataset", rows)
    with pytest.raises(InfrastructureError, match=r"some/data: the download broke off after 1 rows \(peer went away\)"):
        build_corpus(config(tmp_path / "out", {"kind": "hub", "dataset": "some/data"}))
    assert list(tmp_path.iterdir()) == []


def episode(folder: Path, split: Any) -> None:
    buffer = TelemetryBuffer()
    buffer.spans.append((1, 4_000_001, "front", "t", "s", None, "GET /", "server", "error", None, None, 503, "Refused", "{}"))
    spoiled = {"status": "unscorable", "reason": "for the test"} if split == "spoiled" else {}
    header = EpisodeHeader.model_validate({
        "id": f"e-{split}", "baseline": (0, 5), "incident": (5, 9), "entry": "front", "components": [{"name": "front", "kind": "gateway"}],
        **spoiled,
    })
    truth = Truth(scenario="secret-scenario", app="shop", verdict="healthy", split="train" if split == "spoiled" else split)
    write_episode(folder, header, buffer.tables(), truth)


def test_episodes_give_telemetry_and_reports_and_no_truth(tmp_path: Path) -> None:
    episode(tmp_path, "train")
    episode(tmp_path, "spoiled")
    found = texts({"kind": "episodes", "path": tmp_path})
    assert "front server GET / 4.0ms error 503 Refused" in found
    assert any(text.startswith("alert") for text in found)
    assert "secret-scenario" not in "".join(found)


@pytest.mark.parametrize("split", ["seeds", "apps", "faults", "backend", "foreign"])
def test_episodes_that_are_kept_to_be_judged_on_are_refused(tmp_path: Path, split: str) -> None:
    episode(tmp_path, "train")
    episode(tmp_path, split)
    with pytest.raises(InputError, match=f"e-{split}: is of split {split}, which is kept to be judged on"):
        texts({"kind": "episodes", "path": tmp_path})


def test_what_repeats_or_is_foreign_goes_and_is_counted(tmp_path: Path) -> None:
    bad = ("too few words", "= - 1 2 " * 40, "same words each time here\n" * 20)
    source = jsonl(tmp_path / "a.jsonl", PROSE, PROSE, PROSE + " Again.", OTHER, GERMAN, *bad)
    report = build_corpus(config(tmp_path / "out", source))
    assert list(read_corpus(tmp_path / "out")) == [PROSE, OTHER]
    assert report["sources"]["text"]["dropped"] == {
        "exact duplicate": 1, "language de": 1, "near duplicate": 1, "odd words": 1, "repeated lines": 1, "too short": 1,
    }
    assert "near duplicate" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_the_same_configuration_gives_the_same_files_and_another_is_refused(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", PROSE, OTHER)
    build_corpus(config(tmp_path / "one", source))
    build_corpus(config(tmp_path / "two", source))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["part-00000.parquet", "report.json", "report.md"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    (tmp_path / "a.jsonl").unlink()
    assert build_corpus(config(tmp_path / "one", source))["kept"] == 2, "a finished corpus is not built again"
    with pytest.raises(InputError, match="holds a corpus of another configuration"):
        build_corpus(config(tmp_path / "one", source, near=0.5))
    with pytest.raises(InputError, match="holds something that is no corpus"):
        build_corpus(config(tmp_path, source))


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no document is left \(2 too short\)"):
        build_corpus(config(tmp_path / "out", jsonl(tmp_path / "a.jsonl", "x", "y")))
    assert not (tmp_path / "out").exists()


def test_a_broken_corpus_is_not_read(tmp_path: Path) -> None:
    build_corpus(config(tmp_path / "out", jsonl(tmp_path / "a.jsonl", PROSE)))
    (tmp_path / "out" / "part-00000.parquet").unlink()
    with pytest.raises(InputError, match="holds 0 documents where its report says 1"):
        list(read_corpus(tmp_path / "out"))


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
SECRETS = {
    "AKIA" + "IOSFODNN7EXAMPLE": "secret", "ghp_" + "a1B2" * 9: "secret", JWT: "secret", "jane.doe@example.org": "email",
    "8.8.4.4": "ip", "2001:4860:4860::8888": "ip", "xoxb-" + "123456789012-123456789012-abcdefabcdefabcdefabcdef": "secret",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----": "private-key",
}


@pytest.mark.parametrize(("value", "kind"), SECRETS.items())
def test_secrets_are_scrubbed_and_only_masked_in_the_report(tmp_path: Path, value: str, kind: str) -> None:
    assert scrub(f"was {value} there").text == f"was <{kind}> there"
    build_corpus(config(tmp_path / "out", jsonl(tmp_path / "a.jsonl", f"{PROSE} We saw {value} there.", f"short {value}", OTHER)))
    reports = [path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("report.*")]
    assert all(value not in text for text in ["".join(read_corpus(tmp_path / "out")), *reports])


def test_a_value_after_its_name_goes_and_the_name_stays() -> None:
    assert scrub('db_password = "hunter2hunter2", port = 5432').text == 'db_password = "<secret>", port = 5432'
    assert scrub("Authorization: Bearer abcdefghijklmnop1234").text == "Authorization: Bearer <secret>"


@pytest.mark.parametrize("text", ["10.0.0.1", "127.0.0.1", "::1", "fe80::1", "version 1.2.3.4.5", "12:30:45", "std::string", PROSE])
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub(text) == (text, ())


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=80))
def test_text_of_a_corpus_comes_back_from_the_tokenizer(text: str) -> None:
    tokenizer = TOKENIZER
    clean = normalise(text + "<|im_end|>\r\n\ue000 x")
    ids = tokenizer(clean, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == clean
    assert tokenizer.eos_token_id not in ids


TOKENIZER: Any = build_tokenizer([PROSE, OTHER, GERMAN] * 5, 900)

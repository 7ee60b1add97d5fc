"""The tokenizer, the exercises and the configuration: what training reads, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.errors import InputError
from chaosgym.incident.answer import answer_text
from chaosgym.incident.vocabulary import CLOSED_WORDS, HANDLES
from chaosgym.training.config import GrpoConfig, PretrainConfig, SftConfig, read_config
from chaosgym.training.quiz import exercises
from chaosgym.training.tokenizer import GLUE, build_tokenizer, load_tokenizer

REPORT = """alert fail3 wait4 timeout c4
components
c4 gateway up err3 lat4
c11 service up fail4 wait5
c7 service up
edges
c4 > c11 fail4 wait5
c11 > c7
logs
c4 error new n3 timeout c11 request failed with 504 (c7): retry=c4"""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer([REPORT, "request failed again and again"] * 20, 700)


def test_a_closed_word_is_one_token_wherever_it_stands(tokenizer: Any) -> None:
    alone = {word: tokenizer(f"alert {word}")["input_ids"][1:] for word in CLOSED_WORDS if not word.isspace()}
    assert all(len(ids) == 1 for ids in alone.values())
    for word, ids in alone.items():
        for place in ("x\n{}", 'x\n"{}"', "x ({})", "x: {}", "x={}"):
            assert ids[0] in tokenizer(place.format(word))["input_ids"] or not word[0].isalnum(), (word, place)


def test_the_closed_part_of_a_report_costs_one_token_a_word(tokenizer: Any) -> None:
    closed = REPORT.split("\nlogs")[0]
    words = closed.replace("\n", " \n ").split(" ")
    assert len(tokenizer(closed)["input_ids"]) == len(words)


def test_an_answer_with_one_cause_is_seven_tokens(tokenizer: Any) -> None:
    answer = answer_text(Diagnosis(verdict="fault", causes=(Cause(component="x", fault="network.latency", probability=0.9),)), {"c7": "x"})
    ids = tokenizer(answer)["input_ids"]
    assert len(ids) == 7
    assert tokenizer.decode(ids) == answer
    assert len(tokenizer(answer_text(Diagnosis(verdict="healthy"), {}))["input_ids"]) == 1


@given(st.text(st.characters(exclude_characters=GLUE, exclude_categories=("Cs",)), max_size=60))
def test_any_text_comes_back(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"], skip_special_tokens=False) == text


@given(st.lists(st.sampled_from([*CLOSED_WORDS, "(", "): ", '"', " ", "/", ".", "x"]), max_size=20))
def test_any_mix_of_words_and_marks_comes_back(tokenizer: Any, words: list[str]) -> None:
    for text in ("".join(words), " ".join(words)):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_template_costs_four_tokens_and_an_answer_continues_the_prompt(tokenizer: Any) -> None:
    user = {"role": "user", "content": REPORT}
    prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, enable_thinking=False, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template([user, {"role": "assistant", "content": "{}"}], return_dict=True)["input_ids"]
    assert len(prompt) == len(tokenizer(REPORT)["input_ids"]) + 4
    assert whole[: len(prompt)] == prompt
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.eos_token_id in whole[len(prompt) :]


def test_a_saved_tokenizer_is_the_same(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again: Any = load_tokenizer(tmp_path)
    assert again(REPORT)["input_ids"] == tokenizer(REPORT)["input_ids"]
    assert again.padding_side == "left"


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        load_tokenizer(tmp_path)


def test_exercises_ask_what_stands_in_the_report() -> None:
    text = exercises(REPORT, 12, 3)
    assert text.startswith(REPORT + "\n= ")
    assert text == exercises(REPORT, 12, 3)
    questions = text.removeprefix(REPORT).strip().split("\n")
    assert len(questions) == len(set(questions)) <= 12
    rows = [line for line in REPORT.split("\n") if line.startswith("c")]
    for question in questions:
        words = question.split(" ")[1:]
        assert set(words) <= set(REPORT.split()) | {"edges", ">"}, question
        if words[0] in HANDLES and words[1] in ("gateway", "service"):
            assert " ".join(words) in "\n".join(rows)


@given(st.text(max_size=80), st.integers(0, 5))
def test_exercises_take_any_report(report: str, seed: int) -> None:
    assert exercises(report, 4, seed).startswith(report)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_configuration_is_short(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "episodes: [episodes]\nout: runs/a\n"), SftConfig)
    assert (config.model, config.rendering, config.micro_batch_size) == ("nano", None, None)


@pytest.mark.parametrize(("kind", "text", "message"), [
    (SftConfig, "episodes: [e]\nout: o\nstep: 3\n", r"train.yaml:3:1: step: unknown key 'step'.*did you mean 'steps'"),
    (SftConfig, "episodes: []\nout: o\n", "episodes"),
    (SftConfig, "episodes: [e]\nout: o\nbatch_size: 32\nmicro_batch_size: 5\n", "5 does not divide batch_size 32"),
    (SftConfig, "episodes: [e]\nout: o\nlora: {rank: 4}\n", "lora adapts an existing model"),
    (PretrainConfig, "episodes: [e]\nout: o\nmodel: other\n", "has been pretrained by others"),
    (GrpoConfig, "episodes: [e]\nout: o\n", "knows nothing yet"),
    (GrpoConfig, "episodes: [e]\nout: o\nmodel: nano\n", "knows nothing yet"),
    (GrpoConfig, "episodes: [e]\nout: o\nmodel: m\ngenerations: 7\n", "7 does not divide 64"),
])
def test_a_wrong_configuration_says_what_and_where(tmp_path: Path, kind: Any, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config(write(tmp_path, text), kind)

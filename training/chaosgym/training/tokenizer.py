"""Our tokenizer: one token per word of the compact report, wherever the word stands, and byte-level BPE for the rest.

    text ──> a glue mark before each word that follows no space ──> words with their space ──> closed word or BPE

A byte-level BPE knows `c7` and ` c7` as two tokens, so a model would have to learn each handle twice. Here a word
always carries the space before it. Where it has none (after a newline, a quote, a bracket), a glue mark is put
in that takes the space back, and it belongs to the character before: `\\n`+glue is one token, and so is a whole
constant fragment of an answer. Decoding drops each glue mark with the space that follows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaosgym.errors import InputError
from chaosgym.incident.answer import ANSWER_FRAGMENTS
from chaosgym.incident.vocabulary import CLOSED_WORDS, SECTIONS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["GLUE", "NO_THINKING", "build_tokenizer", "load_tokenizer"]

GLUE = "\ue000"
"""A private-use character; text that holds it comes back without it."""

NO_THINKING = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""How the Qwen3 template opens an answer without thoughts."""

_END_OF_TEXT, _END_OF_TURN = "<|endoftext|>", "<|im_end|>"
_SPECIAL = (
    _END_OF_TEXT, _END_OF_TURN, "<|im_start|>", "<|im_start|>user\n", "<|im_start|>system\n", "<|im_start|>assistant\n", NO_THINKING,
)
_MARKUP = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
_BEFORE_WORDS = "\n\t\"'`()[]{}<>=:;,/\\|!?@#$%&*+-^~…·⟨⟩"
"""What a word may follow without a space; a dot too, where it does not join two words."""
_PIECES = rf"\n{GLUE}?| ?\w+(?:\.\w+)*| ?[^\s\w]+|\s"


def build_tokenizer(texts: Iterable[str], size: int = 2048) -> PreTrainedTokenizerFast:
    """Train on `texts` (compact reports) and return a tokenizer of at most about `size` tokens with the Qwen3 chat template."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    whole = [_spaced(word) for word in CLOSED_WORDS] + [*SECTIONS, f"\n{GLUE}", f'"{GLUE}', f"({GLUE}", f":{GLUE}", f"={GLUE}"]
    vocabulary, merges = _learn(texts, size - len(whole) - len(_SPECIAL) - len(_MARKUP) - len(ANSWER_FRAGMENTS))
    for word in map(_as_bytes, whole):
        vocabulary.setdefault(word, len(vocabulary))
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    _wrap(core)
    _add_fragments(core)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=_END_OF_TURN, pad_token=_END_OF_TEXT, clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"], padding_side="left", extra_special_tokens=list(_SPECIAL[2:]),
    )
    tokenizer.chat_template = _qwen3_template()
    return tokenizer


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of a model folder or hub id, padding on the left; InputError when there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), padding_side="left")
    except (OSError, ValueError) as error:
        reason = _first_line(error)
        raise InputError(f"{name}: no tokenizer can be loaded ({reason}); pass a folder with tokenizer.json or a hub id") from error
    if tokenizer.chat_template is None:
        raise InputError(f"{name}: its tokenizer has no chat template; pass an instruction-tuned model or one that chaosgym trained")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _spaced(word: str) -> str:
    return word if word.isspace() else f" {word}"


def _as_bytes(text: str) -> str:
    """The spelling of `text` in a byte-level vocabulary."""
    from tokenizers import pre_tokenizers

    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)


def _wrap(core: Any) -> None:
    """Give a tokenizer core our normalizer, pre-tokenizer and decoder."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    # One replacement per character, because an empty match (a look-behind alone) breaks the offsets of `tokenizers`.
    glued = [normalizers.Replace(Regex(rf"{re.escape(mark)}(?=\w)"), f"{mark}{GLUE} ") for mark in _BEFORE_WORDS]
    core.normalizer = normalizers.Sequence([*glued, normalizers.Replace(Regex(r"(?<!\w)\.(?=\w)"), f".{GLUE} ")])
    core.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    core.decoder = decoders.Sequence([
        decoders.ByteLevel(), decoders.Fuse(), decoders.Replace(f"{GLUE} ", ""), decoders.Replace(GLUE, ""),
    ])


def _learn(texts: Iterable[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE of `size` tokens, in which closed words take no part."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    _wrap(core)
    closed = {_as_bytes(_spaced(word)) for word in CLOSED_WORDS}
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, 300), min_frequency=4, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(list(_open_text(core, texts, closed)), trainer)  # a generator that uses `core` would deadlock
    model = json.loads(core.to_str())["model"]
    return dict(model["vocab"]), [(left, right) for left, right in model["merges"]]


def _open_text(core: Any, texts: Iterable[str], closed: set[str]) -> Iterator[str]:
    for text in texts:
        pieces = core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text))
        yield from (_from_bytes(piece) for piece, _ in pieces if piece not in closed)


def _from_bytes(piece: str) -> str:
    from tokenizers import decoders

    return decoders.ByteLevel().decode([piece])


def _add_fragments(core: Any) -> None:
    from tokenizers import AddedToken

    core.add_tokens([AddedToken(_before_word(fragment), normalized=True, special=False) for fragment in ANSWER_FRAGMENTS])
    core.add_tokens([AddedToken(word, normalized=False, special=False) for word in _MARKUP])
    core.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in _SPECIAL])


def _before_word(fragment: str) -> str:
    """A fragment as it stands before a word: a space goes to the word, and no space becomes the glue mark."""
    if fragment.endswith(" "):
        return fragment.rstrip(" ")
    return fragment if fragment.endswith("}") else fragment + GLUE


def _qwen3_template() -> str:
    """The template that TRL knows to the letter, so that tool calling can be trained."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")

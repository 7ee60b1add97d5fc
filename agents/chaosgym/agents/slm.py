"""A language model as an agent: any causal model of `transformers`, from a local folder or the hub.

Prompts come from the model's chat template, answers are decoded in batches padded on the left: greedily, so that
the same model and batch size give the same answers, or above temperature 0 at random.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaosgym.agents.certainty import STATED, log_odds, state
from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError, PrerequisiteError

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["SlmAgent"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json", "vocab.txt")
_MODEL_FILES = ("config.json", "adapter_config.json")


class SlmAgent:
    """Generates one answer per report; `model` is a folder (LoRA adapters too) or a hub id."""

    def __init__(
        self, model: str | Path, *, batch_size: int = 16, device: str | None = None, name: str = "", temperature: float = 0.0
    ) -> None:
        """Load model and tokenizer. Raises InputError when they cannot be used, PrerequisiteError without torch."""
        folder = _folder(str(model))
        self.name = name or f"slm:{folder.name if folder else model}"
        self.format = PromptFormat.load(folder) if folder else PromptFormat()
        """How the model is asked; a caller may compile reports with `format.budget`."""
        self._batch_size, self._temperature = batch_size, temperature
        self._model, self._tokenizer = _load(str(folder or model), local=folder is not None, device=device)

    @classmethod
    def holding(cls, model: Any, tokenizer: Any, form: PromptFormat, *, batch_size: int = 64) -> SlmAgent:
        """One around a model that is in memory already, as in training."""
        agent = cls.__new__(cls)
        agent.name, agent.format, agent._batch_size, agent._temperature = "slm", form, batch_size, 0.0
        agent._model, agent._tokenizer = model, tokenizer
        return agent

    @property
    def batch_size(self) -> int:
        """Prompts that are answered side by side."""
        return self._batch_size

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident, in their order, with real component names."""
        certainty = self.format.certainty
        if certainty is None or self._temperature:
            texts = self.generate([self.prompt(incident) for incident in incidents])
            return [self.format.read(text, incident) for text, incident in zip(texts, incidents, strict=True)]
        return [state(text, certainty.probability(odds)) for text, odds in self.weigh(incidents)]

    def weigh(self, incidents: Sequence[Incident]) -> list[tuple[str, float]]:
        """The likeliest answer to each incident, with real names, and its log odds (natural) up to the first stated probability."""
        heard: list[list[float]] = []
        texts = self.generate([self.prompt(incident) for incident in incidents], heard)
        return [(self.format.read(text, one), log_odds(logs)) for text, logs, one in zip(texts, heard, incidents, strict=True)]

    def prompt(self, incident: Incident) -> str:
        """The text that the model continues."""
        messages = self.format.messages(incident)
        if self._tokenizer.chat_template is None:
            return "\n\n".join(message["content"] for message in messages) + "\n\n"
        return self.render(messages)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        """The text of a conversation up to where the model goes on."""
        return self._tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=True, enable_thinking=False,
        )

    def tokens(self, text: str) -> list[int]:
        """Of a text that the template gave."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, tokens: Sequence[int]) -> str:
        """Without what marks the ends of turns."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def fits(self, prompt: Sequence[int]) -> bool:
        """Whether the model has positions enough for `prompt` and an answer."""
        room = getattr(self._model.config, "max_position_embeddings", None)
        return room is None or len(prompt) + self.format.max_new_tokens <= room

    def turns(self) -> Callable[[Sequence[Sequence[int]]], list[list[int]]]:
        """Who goes on with `batch_size` conversations at most, turn by turn, and need not read again what he has read where that can be.

        Those given must be those of the last call, in their order, some perhaps left out, each with what was added since; or new ones.
        """
        from chaosgym.agents.turns import Turns, can_take_turns

        if not can_take_turns(self._model):
            return self._continue
        return Turns(self._model, self._ends(), self.format.max_new_tokens, self._temperature).take

    def generate(self, prompts: Sequence[str], heard: list[list[float]] | None = None) -> list[str]:
        """Continue each prompt; prompts of like length share a batch, answers keep the order given.

        `heard`, where given, gets the logarithms of the probabilities of each answer's words, up to its first stated probability.
        """
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers: dict[int, tuple[str, list[float]]] = {}
        for at in range(0, len(order), self._batch_size):
            batch = order[at : at + self._batch_size]
            words = _Words() if heard is not None else None
            said = self._continue([self.tokens(prompts[i]) for i in batch], words)
            logs = [words.of(row, self._before_stated(tokens)) if words else [] for row, tokens in enumerate(said)]
            answers.update(zip(batch, zip(map(self.text, said), logs, strict=True), strict=True))
        if heard is not None:
            heard += [answers[i][1] for i in range(len(prompts))]
        return [answers[i][0] for i in range(len(prompts))]

    def _before_stated(self, tokens: Sequence[int]) -> int:
        """How many of them come before the first stated probability."""
        return next((n for n in range(len(tokens)) if STATED in self.text(tokens[: n + 1])), len(tokens))

    def _continue(self, prompts: Sequence[Sequence[int]], words: _Words | None = None) -> list[list[int]]:
        """What follows each prompt, up to the first token that ends a turn, that one included."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        rows = {"input_ids": [list(prompt) for prompt in prompts]}
        inputs = self._tokenizer.pad(rows, return_tensors="pt", padding_side="left").to(self._model.device)
        width = inputs["input_ids"].shape[1]
        self._check_length(width)
        with torch.inference_mode():
            tokens = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                generation_config=GenerationConfig(
                    max_new_tokens=self.format.max_new_tokens,
                    **({"do_sample": True, "temperature": self._temperature, "top_k": 0} if self._temperature else {"do_sample": False}),
                    pad_token_id=self._tokenizer.pad_token_id,
                    eos_token_id=list(self._ends()),
                ),
                logits_processor=LogitsProcessorList([words] if words else []),
            )
        return [_until(self._ends(), answer) for answer in tokens[:, width:].tolist()]

    def _ends(self) -> tuple[int, ...]:
        """Tokens that end a turn."""
        ends = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        return tuple(ends) if isinstance(ends, list) else (ends,)

    def _check_length(self, tokens: int) -> None:
        room = getattr(self._model.config, "max_position_embeddings", None)
        if room is not None and tokens + self.format.max_new_tokens > room:
            raise InputError(
                f"{self.name}: a prompt of {tokens} tokens and an answer of up to {self.format.max_new_tokens} do not fit into its "
                f"{room} positions; compile reports with a smaller budget or take a model with more"
            )


class _Words:
    """Hears how likely each word is that a model says when it says the likeliest, without keeping what else it might have said."""

    def __init__(self) -> None:
        self._steps: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """As `transformers` calls a logits processor: `scores` of shape [answers, vocabulary], which stay as they are."""
        logits = scores.float()
        self._steps.append(logits.amax(-1) - logits.logsumexp(-1))
        return scores

    def of(self, answer: int, count: int) -> list[float]:
        """Natural logarithms, of the first `count` words of that answer of the batch."""
        return [float(step[answer]) for step in self._steps[:count]]


def _until(ends: Sequence[int], tokens: list[int]) -> list[int]:
    return tokens[: next((at for at, token in enumerate(tokens, 1) if token in ends), len(tokens))]


def _folder(model: str) -> Path | None:
    """The local folder that `model` names, checked; None for a hub id."""
    path = Path(model).expanduser()
    if not path.is_dir():
        if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise InputError(f"model {model!r}: no such folder; pass a folder that training wrote or a hub id such as 'Qwen/Qwen3-0.6B'")
        return None
    if not any((path / name).is_file() for name in _MODEL_FILES):
        raise InputError(f"{path}: no {' or '.join(_MODEL_FILES)}, so not a model; pass a checkpoint folder")
    if not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(f"{path}: a model without tokenizer ({', '.join(_TOKENIZER_FILES)}); save the one it was trained with beside it")
    return path


def _load(model: str, *, local: bool, device: str | None) -> tuple[Any, Any]:
    """Model in evaluation mode and tokenizer that pads on the left."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise PrerequisiteError(f"the agent slm needs {error.name}: pip install 'chaosgym[train]'") from error
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if place == "cpu" else "auto"
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model, padding_side="left", local_files_only=local)
        network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, local_files_only=local)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"model {model!r} cannot be loaded: {error}; check the folder, or the hub id and the network") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return network.to(place).eval(), tokenizer

"""What a training command needs to know: one YAML file per command, few knobs, all with defaults that work.

    Training                 what every command shares: model, episodes, output, steps, rates
    ├── PretrainConfig       reads reports; makes a nano model from nothing
    ├── DistillConfig        answers them as a teacher does
    └── Answering            answers them, or asks tools about them first
        ├── SftConfig        as it is shown
        └── Reinforcement    better than before: answers are sampled and scored
            ├── GrpoConfig   an answer is compared with others to the same incident
            └── PpoConfig    an answer is compared with what a value head expected
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from chaosgym.agents.shipped import shipped_model
from chaosgym.document import Strict, read_document
from chaosgym.errors import InputError

__all__ = [
    "SIZES", "Answering", "Asking", "DistillConfig", "GrpoConfig", "Lora", "Mix", "NanoShape", "PpoConfig", "PretrainConfig",
    "Reinforcement", "SftConfig", "Training", "read_config",
]

NANO = "nano"
C = TypeVar("C", bound="Training")


class NanoShape(Strict):
    """A Qwen3 model small enough for a CPU: wide and shallow."""

    hidden: Annotated[int, Field(ge=32, le=1024, multiple_of=32)] = 256
    """Width; heads are 64 wide (32 below 128) and the feed-forward layers 2.75 times the width."""
    layers: Annotated[int, Field(ge=1, le=24)] = 4
    positions: Annotated[int, Field(ge=128, le=32_768)] = 2048
    """Longest prompt and answer together, in tokens."""
    vocabulary: Annotated[int, Field(ge=700, le=32_000)] = 1024
    """Tokens at most; the closed words take about 400."""


SIZES = {
    "nano": NanoShape(hidden=256, layers=4, vocabulary=8192),
    "micro": NanoShape(hidden=512, layers=5, vocabulary=8192),
    "small": NanoShape(hidden=768, layers=10, vocabulary=32_000),
}
"""About 5, 20 and 100 million parameters."""


class Mix(Strict):
    """Shares of what pre-training reads; they need not add up to 1."""

    reports: Annotated[float, Field(ge=0)] = 0.5
    """Reports of episodes with recall exercises."""
    corpus: Annotated[float, Field(ge=0)] = 0.4
    """Documents of `corpus`."""
    skills: Annotated[float, Field(ge=0)] = 0.1
    """Exercises in copying, comparing, counting, sorting, finding the odd one out and following edges."""


class Lora(Strict):
    """Low-rank adapters for models too large to train whole."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Training(Strict):
    """Shared by all commands."""

    model: str = NANO
    """`nano` for a new model from nothing, `chaosgym/nano` for the shipped base, a model folder, or a hub id such as Qwen/Qwen3-0.6B."""
    nano: NanoShape = NanoShape()
    """Shape of a new model; ignored for an existing one."""
    episodes: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Folders of recorded episodes; only those of split train are used."""
    out: Path
    """Run directory; the trained model lands in its `model` folder."""
    rendering: Literal["compact", "readable"] | None = None
    """Which report the model reads; what its folder says when not given, compact for nano, readable for others."""
    budget: Annotated[int, Field(ge=50, le=100_000)] = 350
    """Tokens of report."""
    seed: int = 0
    steps: Annotated[int, Field(ge=1)] = 100
    """Updates of the weights."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time limit of the training loop: the learning rate reaches its end by then, whatever step it is."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Sequences per update."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Sequences in memory at a time; when not given 8 in supervised training, the whole batch elsewhere. Must divide it."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-3
    """Of AdamW at its highest."""
    muon_learning_rate: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Of Muon, which then moves the matrices inside the layers; 0 leaves all to AdamW."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the run in which the rates rise from 0; after it they fall linearly."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of products of matrices; auto takes bfloat16 where the machine is faster with it. Weights that are trained stay float32."""
    shard: bool = False
    """Each of several processes holds a part of weights, gradients and optimizer (FSDP2), for models too large for one GPU."""
    lora: Lora | None = None
    """Train adapters instead of all weights; for models other than nano."""
    save_every: Annotated[int, Field(ge=1)] = 50
    """Steps between checkpoints; the last two are kept."""
    log_every: Annotated[int, Field(ge=1)] = 10
    """Steps between lines of metrics.jsonl."""
    report_to: tuple[Literal["trackio", "tensorboard", "wandb"], ...] = ()
    """Where metrics go besides metrics.jsonl."""

    @field_validator("model")
    @classmethod
    def _shipped(cls, model: str) -> str:
        try:
            return shipped_model(model)
        except InputError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _agree(self) -> Training:
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        if self.shard and self.muon_learning_rate:
            raise ValueError("Muon needs whole matrices and shard takes them apart: set muon_learning_rate: 0, or drop shard")
        if self.lora is not None and self.model == NANO:
            raise ValueError("lora adapts an existing model and nano is made from nothing: drop lora or name a model")
        return self

    @property
    def shape(self) -> NanoShape:
        """Of a new model."""
        return self.nano


class PretrainConfig(Training):
    """Learn to read reports: what stands where, which is which. No diagnosis takes part in it."""

    questions: Annotated[int, Field(ge=1, le=64)] = 20
    """Recall exercises after each report."""
    vocabulary_of: Path | None = None
    """Folder of a model whose tokenizer is taken over, so that it can teach this one (`distill` by `logits`)."""
    steps: Annotated[int, Field(ge=1)] = 120
    size: Literal["nano", "micro", "small"] | None = None
    """Shape of the model in one word, of about 5, 20 or 100 million parameters, in place of `nano`."""
    corpus: Path | None = None
    """Folder that `chaosgym corpus build` made; its documents are read beside the reports."""
    mix: Mix | None = None
    """Shares of reports, corpus and skills; reports alone where neither this nor `corpus` is given."""
    block: Annotated[int, Field(ge=32, le=32_768)] = 512
    """Tokens of a sequence of corpus or skills; texts stand in it end to end, without padding."""

    @property
    def shape(self) -> NanoShape:
        """Of the model."""
        return SIZES[self.size] if self.size else self.nano

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of reports, corpus and skills."""
        mix = self.mix or (Mix() if self.corpus else Mix(reports=1, corpus=0, skills=0))
        return mix.reports, mix.corpus, mix.skills

    @model_validator(mode="after")
    def _readable(self) -> PretrainConfig:
        if self.size and "nano" in self.model_fields_set:
            raise ValueError(f"size {self.size!r} and nano both give the shape: drop one of them")
        if not sum(self.shares):
            raise ValueError("all shares of mix are 0: give at least one of reports, corpus and skills")
        if bool(self.corpus) != bool(self.shares[1]):
            raise ValueError("mix has a share of corpus if and only if `corpus` names a folder: add the folder, or set mix.corpus")
        if self.block > self.shape.positions:
            raise ValueError(f"block {self.block} does not fit into the model's {self.shape.positions} positions: lower it")
        return self

    @model_validator(mode="after")
    def _from_nothing(self) -> PretrainConfig:
        if self.model != NANO:
            raise ValueError(f"model {self.model!r} has been pretrained by others: run `chaosgym train sft` on it, or leave model out")
        return self


class Asking(Strict):
    """What an investigation may use up."""

    calls: Annotated[int, Field(ge=1)] = 20
    """Calls beside `submit`."""
    cost: Annotated[int, Field(ge=1)] = 30
    """What they may cost together."""
    page: Annotated[int, Field(ge=100)] | None = None
    """Tokens of one answer of a tool; 150 where it is compact, 400 where readable."""


class Answering(Training):
    """Shared by all commands after pretraining."""

    task: Literal["report", "investigate"] = "report"
    """Whether the model is handed a report, or asks tools about the incident (chaosgym/Investigate-v0)."""
    asking: Asking = Asking()
    """Of an investigation; ignored for reports."""


class SftConfig(Answering):
    """Learn the right answers to the incidents of recorded episodes."""

    confidence: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Probability that the answers state for a true cause."""
    steps: Annotated[int, Field(ge=1)] = 200
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the episodes that is not trained on; the same ones that `grpo` and `ppo` judge themselves by."""


class DistillConfig(Training):
    """Learn to answer as a teacher does.

    By `reject` those of any agent's answers that the reward accepts; by `logits` what a model of its vocabulary thinks of the student's.
    """

    method: Literal["reject", "logits"] = "reject"
    """`reject` trains on the best of the teacher's answers; `logits` on its probabilities, which only a local model tells."""
    teacher: Annotated[str, Field(min_length=1)]
    """An agent as `chaosgym eval` names them: rules, slm:FOLDER or endpoint:MODEL@URL; for `logits` slm:FOLDER."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """Of sampling: of the teacher's answers for `reject`; for `logits` of the student's, and of the probabilities that are compared."""
    answers: Annotated[int, Field(ge=1, le=64)] = 4
    """For `reject`: how often the teacher is asked about each episode, each time in other words."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.9
    """For `reject`: reward from which an answer is good enough; above 0.9 component and fault are right."""
    kept: Annotated[int, Field(ge=1, le=64)] = 1
    """For `reject`: different answers about each episode that the student is shown at most, the best ones."""
    beta: Annotated[float, Field(ge=0, le=1)] = 0.5
    """For `logits`: the divergence, from 0 (forward KL: say whatever the teacher may say) to 1 (reverse KL: nothing that it does not)."""
    steps: Annotated[int, Field(ge=1)] = 200
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the episodes that neither is asked about in training; for `logits` the model that answers these best is the result."""
    validate_every: Annotated[int, Field(ge=1)] = 30
    """For `logits`: steps between two looks at them."""

    @model_validator(mode="after")
    def _can_be_taught(self) -> DistillConfig:
        if self.method == "logits" and not self.teacher.startswith("slm:"):
            raise ValueError(f"teacher {self.teacher!r} tells no probabilities: name a local model as slm:FOLDER, or take `method: reject`")
        if self.method == "logits" and self.model == NANO:
            raise ValueError("model 'nano' makes a vocabulary of its own: name the folder of a model that has its teacher's")
        if self.kept > self.answers:
            raise ValueError(f"kept {self.kept} is more than the {self.answers} answers asked for: lower kept or raise answers")
        return self


class Reinforcement(Answering):
    """Shared by GRPO and PPO.

    `model` is a folder that `sft` wrote, or a hub id: there must be something to improve.
    """

    batch_size: Annotated[int, Field(ge=2)] = 64
    """Answers per update: incidents times generations."""
    generations: Annotated[int, Field(ge=2, le=64)] = 8
    """Answers per incident."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """Of sampling; at 1 a small model spends its answers on nonsense that it would never say greedily."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 3e-4
    muon_learning_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    beta: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL term that holds the model near where it started."""
    max_answer: Annotated[int, Field(ge=4, le=4096)] | None = None
    """Longest answer in tokens; what the model's folder says when not given. Of an investigation all of it, pages included."""
    pool: Annotated[int, Field(ge=0)] = 192
    """Incidents tried before training, so that it begins with those that are neither too easy nor too hard; 0 learns on the way."""
    evenly: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of incidents drawn without a look at how often they were answered rightly; 1 turns the curriculum off."""
    reward: Literal["shaped", "sparse"] = "shaped"
    """The score of evaluation with all its terms, or 1 for the right fault at the right component and else nothing."""
    shared_prefix: bool | None = None
    """Compute a prompt once for all its answers, or a page once for all turns; by default where all before is attended to, on a CPU."""
    patience: Annotated[int, Field(ge=1)] = 20
    """Steps without any difference in reward, or without a readable answer, after which training stops."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Share of the episodes that is not trained on: the model that answers these best is the result. 0 takes the last model."""
    validate_every: Annotated[int, Field(ge=1)] = 15
    """Steps between two looks at them."""
    follow: bool = False
    """Look before each batch for episodes that have come into `episodes` since, recorded while training goes on. Of reports only."""
    watched: tuple[Path, ...] = ()
    """Folders with episodes of other splits: `accuracy/SPLIT` is logged as often. They are not trained on and pick nothing."""
    vllm: Literal["colocate", "server"] | None = None
    """Who answers in training: vLLM on the same GPUs, or `trl vllm-serve` at `vllm_url`; the model itself when not given."""
    vllm_url: str | None = None
    """Of the server, such as http://vllm:8000."""
    rollout_megabytes: Annotated[float, Field(ge=0)] = 64
    """Size of rollouts.jsonl, which `chaosgym rescore` reads; when it is full, every second step in it goes. 0 keeps none."""

    @model_validator(mode="after")
    def _groups(self) -> Reinforcement:
        micro = self.micro_batch_size or self.batch_size
        if micro % self.generations:
            raise ValueError(f"generations {self.generations} does not divide {micro}, the answers in memory at a time")
        if (self.vllm == "server") != bool(self.vllm_url):
            raise ValueError("vllm: server and vllm_url go together: give both, or neither")
        if self.follow and self.task == "investigate":
            raise ValueError("follow is for reports, investigations are drawn before the first step: drop it")
        if self.vllm and self.shared_prefix:
            raise ValueError("shared_prefix is of answers that the model itself gives, and vLLM shares prefixes anyway: drop one of them")
        if self.model == NANO:
            raise ValueError("model 'nano' knows nothing yet: run `chaosgym train sft` first and name its model folder")
        return self


class GrpoConfig(Reinforcement):
    """Reinforcement learning on the reward: several answers per incident, the better ones become likelier.

    `model` is a folder that `sft` wrote, or a hub id: there must be something to improve.
    """

    steps: Annotated[int, Field(ge=1)] = 60
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Of AdamW at its highest; a model that has just learnt to find components may lose them, and then goes back and on more slowly."""
    generations: Annotated[int, Field(ge=2, le=64)] = 8
    """Answers per incident; they are compared with each other."""
    oversample: Annotated[float, Field(ge=0, le=8)] = 1.0
    """Spare incidents at most, as a share of a batch's, in place of those whose answers all earn the same; 0 replaces none."""


class PpoConfig(Reinforcement):
    """Reinforcement learning on the reward: a value head learns what to expect, and what turns out better becomes likelier.

    `model` is a folder that `sft` wrote, or a hub id: there must be something to improve. The value head of a model that
    `ppo` wrote is taken over.
    """

    steps: Annotated[int, Field(ge=1)] = 120
    generations: Annotated[int, Field(ge=2, le=64)] = 4
    """Answers per incident; unlike in GRPO they are not compared with each other."""
    epochs: Annotated[int, Field(ge=1, le=64)] = 2
    """Updates from each batch of answers."""
    policy_clip: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far the probability of a token may move, as a ratio, before it teaches nothing until the next batch of answers."""
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    """How far a value may move, in units of reward, before it teaches nothing until the next batch of answers."""
    value_learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-2
    """Of the value head, which starts from nothing; until it tells easy incidents from hard ones, hard ones teach nothing but doubt."""
    value_weight: Annotated[float, Field(gt=0)] = 0.1
    """Of the value loss beside the policy loss."""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Worth of a reward one token later (gamma)."""
    gae_lambda: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Advantages from what came of it (1), from the value one step later (0), or between."""
    gae_step: Literal["token", "turn"] | None = None
    """What a step is to `gae_lambda`: a turn in investigations, so that first questions get their part, a token elsewhere, if not given."""
    whiten: bool = True
    """Shift and scale the advantages of a batch to mean 0 and deviation 1."""

    @model_validator(mode="after")
    def _whole(self) -> PpoConfig:
        if self.shard:
            raise ValueError("shard does not know the value head: drop it, train adapters (lora) instead, or run `chaosgym train grpo`")
        return self


def read_config(path: str | Path, kind: type[C]) -> C:
    """Read a YAML file into the configuration of a command. Raises InputError with file, line and what is allowed."""
    return read_document(path, kind)

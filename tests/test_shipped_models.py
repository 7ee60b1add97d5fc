"""The models that come with chaosgym."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chaosgym.agents.prompt import PromptFormat
from chaosgym.agents.shipped import SHIPPED, shipped_model
from chaosgym.errors import InputError
from chaosgym.training.config import SftConfig


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_small_and_has_a_card(name: str) -> None:
    files = list(Path(shipped_model(name)).iterdir())
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    card = next(file for file in files if file.name == "README.md").read_text(encoding="utf-8")
    for heading in ("## Data", "## Recipe", "## Figures", "## Limits"):
        assert heading in card
    assert PromptFormat.load(shipped_model(name)).rendering == "compact"


def test_other_models_keep_their_names_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    assert shipped_model("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert shipped_model(str(tmp_path)) == str(tmp_path)
    with pytest.raises(InputError, match=r"no model 'chaosgym/nanno' comes with chaosgym - did you mean 'chaosgym/nano'"):
        shipped_model("chaosgym/nanno")


def test_training_starts_from_a_shipped_model_by_name() -> None:
    settings: dict[str, Any] = {"episodes": ["episodes"], "out": "runs/sft"}
    assert SftConfig(model="chaosgym/nano", **settings).model == shipped_model("chaosgym/nano")
    with pytest.raises(ValidationError, match="no model 'chaosgym/micro' comes with chaosgym"):
        SftConfig(model="chaosgym/micro", **settings)

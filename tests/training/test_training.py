"""SFT and GRPO on the tiny model: they learn, they are repeatable, and the LoRA is the one asked for."""

import math

import pytest

from grandrounds import models
from grandrounds.domain import prompts, rewards
from grandrounds.encoding import Encoder
from grandrounds.errors import UserError
from grandrounds.params import Gba, GrpoItem, Lora
from grandrounds.runtime import seed_everything
from grandrounds.training import adapter, grpo, sft
from grandrounds.training.dealing import Rollouts


def loaded(tiny):
    model, processor = models.load(tiny.folder, "cpu", "float32")
    seed_everything(7)
    return model, Encoder(processor, tiny.images)


def examples(tiny, count: int = 16) -> list[sft.Example]:
    form = prompts.form("reasoning", prompts.COMPACT)
    return [sft.Example(q, form, prompts.target(q.explanation, q.answer, form)) for q in tiny.questions[:count]]


def test_sft_with_lora_lowers_the_loss_and_repeats_to_the_byte(tiny, tmp_path) -> None:
    weights = []
    for name in ("one", "two"):
        model, encoder = loaded(tiny)
        model = adapter.attach(model, Lora(r=4))
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        assert trained and all("lora_" in n and "language_model" in n for n in trained)
        seen: dict[int, dict] = {}
        figures = sft.train(model, encoder, examples(tiny), sft.Schedule(8, 8, 2e-2, 0.0), 7, seen.__setitem__)
        assert list(seen) == list(range(1, 9))
        assert figures["loss_last"] < figures["loss_first"] - 0.1
        adapter.save(model, tmp_path / name)
        weights.append(
            [(tmp_path / name / f).read_bytes() for f in ("adapter_model.safetensors", "adapter_config.json")]
        )
    assert weights[0] == weights[1]


def item(**changes) -> GrpoItem:
    settings = {
        "questions": "data/curated/train.parquet", "init": "models/base", "rewards": {"format": 1.0, "length": 1.0},
        "group": 4, "questions_per_step": 3, "steps": 2, "max_new_tokens": 8,
    }  # fmt: skip
    return GrpoItem(**(settings | changes))


@pytest.mark.parametrize("guided", [False, True])
def test_grpo_mixes_text_and_pictures_and_deals_prompts(tiny, guided: bool) -> None:
    model, encoder = loaded(tiny)
    model = adapter.attach(model, Lora(r=4))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    how = (
        {"advantages": Gba(type="gba", within=1.0, between=0.5)}
        if guided
        else {"prompts": ("explanation", "reasoning")}
    )
    settings = item(**how)
    functions, _ = rewards.build(settings.rewards, limit=8)
    seen: list[dict] = []
    told = grpo.train(
        model,
        encoder,
        tiny.questions[:9],
        functions,
        settings,
        prompts.COMPACT,
        7,
        lambda _, figures: seen.append(figures),
    )
    assert len(seen) == 2 and all(math.isfinite(step["loss"]) for step in seen)
    assert {"reward", "kl", "entropy", "completion_length", "rewards/format"} <= set(seen[0])
    assert set(told["advantage_share"]) == {"format", "length"}
    changed = {n for n, p in model.named_parameters() if not p.equal(before[n])}
    assert changed and all("lora_" in n for n in changed)
    assert list(model.peft_config) == ["default"]  # TRL's reference copy is gone, so that one adapter is saved


def test_a_group_is_dealt_to_every_guideline_alike() -> None:
    rollouts = Rollouts.of(item(advantages=Gba(type="gba"), group=8), prompts.COMPACT)
    assert [rollouts.form(5, i, 8) for i in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
    dealt = Rollouts.of(item(prompts=("explanation", "short_form", "open_ended")), prompts.COMPACT)
    assert [{dealt.form(row, i, 8) for i in range(8)} for row in range(4)] == [{0}, {1}, {2}, {0}]


def test_a_target_that_matches_nothing_and_an_empty_set_are_refused(tiny) -> None:
    model, encoder = loaded(tiny)
    with pytest.raises(UserError, match=r"'qq_proj' matches no module.*q_proj"):
        adapter.attach(model, Lora(targets=("qq_proj",)))
    with pytest.raises(UserError, match="no example"):
        sft.train(model, encoder, [], sft.Schedule(1, 1, 1e-3, 0.0), 7, lambda *_: None)
    with pytest.raises(UserError, match="keeps no question"):
        grpo.train(model, encoder, [], [], item(), prompts.COMPACT, 7, lambda *_: None)

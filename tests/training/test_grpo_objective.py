"""The GRPO objective of a real trainer, term by term, against a float64 reference written from the formulas."""

import math
from types import SimpleNamespace

import pytest
import torch

from grandrounds import models
from grandrounds.domain import prompts
from grandrounds.encoding import Encoder
from grandrounds.params import Compute, Gba, Gdpo, Grouped, GrpoItem, Lora
from grandrounds.runtime import seed_everything
from grandrounds.training import adapter, checkpoints, grpo
from grandrounds.training.dealing import Rollouts
from grandrounds.training.grpo_trainer import trainer_class
from grandrounds.training.watching import Recorder

WEIGHTS, GROUP = {"coarse": 1.0, "fine": 0.3}, 4
ADVANTAGES = {
    "grpo": Grouped(), "grpo, floor": Grouped(std_floor=0.7), "dr_grpo": Grouped(scale="none"),
    "batch": Grouped(scale="batch"), "gdpo": Gdpo(type="gdpo"), "gba": Gba(type="gba", within=1.5, between=0.25),
}  # fmt: skip


def coarse(completions, **_) -> list[float]:
    return [float(i % 3 == 0) for i in range(len(completions))]


def fine(completions, **_) -> list[float | None]:
    return [None if i == 5 else 0.37 * math.sin(i) for i in range(len(completions))]


@pytest.fixture(scope="module")
def made(tiny) -> SimpleNamespace:
    model, processor = models.load(tiny.folder, "cpu", "float32")
    seed_everything(7)
    encoder, model = Encoder(processor, tiny.images), adapter.attach(model, Lora(r=4))
    return SimpleNamespace(encoder=encoder, questions=tiny.questions[:3], model=model)


def set_up(made: SimpleNamespace, how, **changes):
    """A trainer of three questions in groups of four, whose first step is about to be made."""
    from datasets import Dataset

    settings = {"advantages": how, "group": GROUP, "questions_per_step": 3, "steps": 1, "max_new_tokens": 9}
    item = GrpoItem(questions="q", init="b", rewards=WEIGHTS, **(settings | changes))
    if "ref" in made.model.peft_config:
        made.model.delete_adapter("ref")
    rows = [{"prompt": [{"role": "user", "content": "?"}], "row": i} for i in range(3)]
    trainer = trainer_class()(
        model=made.model, reward_funcs=[coarse, fine], args=grpo._config(item, 7, checkpoints.none(), Compute(), False),
        processing_class=made.encoder.processor, train_dataset=Dataset.from_list(rows),
    )  # fmt: skip
    trainer.deal(made.encoder, made.questions, Rollouts.of(item, prompts.COMPACT), item, Recorder(item.watch))
    trainer.current_gradient_accumulation_steps = 1
    made.model.train()
    return trainer, item


def reference_advantages(how, guideline: list[int]) -> list[float]:
    """Plain Python, from the formulas: PAPERS' GBA, GRPO, its scales, and GDPO's normalise-then-sum."""
    count = 3 * GROUP
    scores = list(zip(coarse([""] * count), fine([""] * count), strict=True))

    def std(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))

    groups = [range(start, start + GROUP) for start in range(0, count, GROUP)]
    if isinstance(how, Gdpo):
        total = [0.0] * count
        for k, weight in enumerate(WEIGHTS.values()):
            for rows in groups:
                there = [scores[i][k] for i in rows if scores[i][k] is not None]
                for i in rows:
                    if scores[i][k] is not None:
                        total[i] += weight * (scores[i][k] - sum(there) / len(there)) / (std(there) + 1e-4)
        mean = sum(total) / count
        return [(value - mean) / (std(total) + 1e-4) for value in total]
    total = [sum(w * s for w, s in zip(WEIGHTS.values(), row, strict=True) if s is not None) for row in scores]
    out = [0.0] * count
    for rows in groups:
        mean = sum(total[i] for i in rows) / GROUP
        for i in rows:
            same = [total[j] for j in rows if guideline[j] == guideline[i]]
            own = sum(same) / len(same)
            within, between = (how.within, how.between) if isinstance(how, Gba) else (1.0, 1.0)
            out[i] = within * (total[i] - own) + between * (own - mean)
            if isinstance(how, Gba) or how.scale == "group":
                out[i] /= max(std([total[j] for j in rows]), how.std_floor) + 1e-4
            elif how.scale == "batch":
                out[i] /= std(total) + 1e-4
    return out


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_are_those_of_the_formula(made, name: str) -> None:
    trainer, _ = set_up(made, ADVANTAGES[name])
    output = trainer._generate_and_score_completions([{"row": i} for i in range(3) for _ in range(GROUP)])
    guideline = [i % GROUP if name == "gba" else 0 for i in range(3 * GROUP)]
    if name == "gba":  # four guidelines, four rollouts: each its own, so the within term is nothing
        assert trainer._rollouts.spread
    wanted = torch.tensor(reference_advantages(ADVANTAGES[name], guideline), dtype=torch.float64)
    torch.testing.assert_close(output["advantages"].double(), wanted, rtol=0, atol=1e-6)


def reference_loss(new, old, ref, mask, advantages, item: GrpoItem) -> float:
    """DeepSeekMath (2402.03300), eq. 3 with k3; sequence ratios by GSPO; what each loss type divides by."""
    low, high = 1 - item.clip, 1 + (item.clip_high or item.clip)
    per_row = []
    for i in range(len(new)):
        length = int(mask[i].sum())
        logs = [float(new[i, t] - old[i, t]) for t in range(length)]
        if item.ratio == "sequence":
            logs = [sum(logs) / length] * length
        terms = []
        for t, log in enumerate(logs):
            ratio, gain = math.exp(log), float(advantages[i])
            policy = min(ratio * gain, min(max(ratio, low), high) * gain)
            drift = float(ref[i, t] - new[i, t])
            k3 = math.exp(drift) - drift - 1
            terms.append(-policy + item.beta * k3 * (ratio if item.kl_weighted else 1.0))
        per_row.append(terms)
    every = [term for terms in per_row for term in terms]
    return {
        "grpo": sum(sum(terms) / len(terms) for terms in per_row) / len(per_row),
        "bnpo": sum(every) / len(every),
        "dapo": sum(every) / len(every),
        "dr_grpo": sum(every) / (len(per_row) * item.max_new_tokens),
    }[item.loss]


@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize(
    "more",
    [
        {"beta": 0.0},
        {"kl_weighted": False, "beta": 0.3},
        {"clip": 0.1, "clip_high": 0.28, "beta": 0.04},
        {"ratio": "sequence"},
    ],
    ids=str,
)
def test_the_loss_is_that_of_the_formula(made, loss: str, more: dict, monkeypatch) -> None:
    trainer, item = set_up(made, Grouped(), loss=loss, **more)
    generator = torch.Generator().manual_seed(3)
    rows, width = 6, item.max_new_tokens
    new, old, ref = (torch.randn(rows, width, generator=generator, dtype=torch.float64) * 0.3 - 1 for _ in range(3))
    lengths = torch.tensor([9, 1, 4, 7, 2, 9])
    mask = (torch.arange(width) < lengths[:, None]).long()
    advantages = torch.randn(rows, generator=generator, dtype=torch.float64)
    new.requires_grad_()
    monkeypatch.setattr(
        type(trainer), "_get_per_token_logps_and_entropies", lambda *_, **__: (new, torch.zeros_like(new), None)
    )
    inputs = {
        "prompt_ids": mask, "prompt_mask": mask, "completion_ids": mask, "completion_mask": mask,
        "advantages": advantages, "old_per_token_logps": old, "ref_per_token_logps": ref,
        "num_items_in_batch": mask.sum(), "row": torch.zeros(rows, dtype=torch.long),
    }  # fmt: skip
    found = trainer._compute_loss(trainer.model, inputs)
    assert float(found.detach()) == pytest.approx(reference_loss(new, old, ref, mask, advantages, item), abs=1e-6)
    (gradient,) = torch.autograd.grad(found, new)
    moved = new.detach().clone()
    moved[2, 1] += 1e-6
    slope = (reference_loss(moved, old, ref, mask, advantages, item) - float(found.detach())) / 1e-6
    assert float(gradient[2, 1]) == pytest.approx(slope, abs=1e-5)

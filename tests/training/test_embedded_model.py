"""What the embedded base is taught, and how it is set up to be taught."""

import collections

from grandrounds import models
from grandrounds.domain import prompts
from grandrounds.training import embedded, sft


def jumps(example: sft.Example) -> bool:
    return example.target.startswith(f"<think>{embedded.JUMP}")


def test_pretraining_mixes_worked_thoughts_with_jumps_by_form_and_a_teacher_only_works(corpus) -> None:
    questions = corpus[0]["pretrain"] * 20
    names = {form.instruction: name for name, form in prompts.COMPACT.items()}
    made = collections.defaultdict(list)
    for example in embedded.examples(questions, prompts.COMPACT, 7):
        made[names[example.form.instruction]].append(jumps(example))
        assert example.target.endswith(f"<answer>{example.question.answer}</answer>")
    assert set(made) == set(prompts.COMPACT)
    for name, found in made.items():
        expected = 1 - embedded.WORKED.get(name, 1.0)
        assert abs(sum(found) / len(found) - expected) < 0.1, name
    assert not any(jumps(example) for example in embedded.examples(questions, prompts.COMPACT, 7, worked=True))


def test_a_jump_keeps_the_conclusion(corpus) -> None:
    for example in embedded.examples(corpus[0]["pretrain"], prompts.COMPACT, 7):
        if jumps(example):
            said = example.target.removeprefix("<think>").partition("</think>")[0]
            assert example.question.explanation.endswith(said) and len(said) < len(example.question.explanation)


def test_the_patch_projection_is_frozen_and_the_rest_is_not(tiny) -> None:
    model, _ = models.load(tiny.folder, "cpu", "float32")
    frozen = {name for name, p in embedded.prepare(model).named_parameters() if not p.requires_grad}
    assert frozen and all("patch_embed" in name for name in frozen)


def test_the_vision_tower_has_a_learning_rate_of_its_own(tiny) -> None:
    model, _ = models.load(tiny.folder, "cpu", "float32")
    embedded.prepare(model)
    schedule = sft.Schedule(1, 1, 0.01, 0.0, vision_rate=0.5)
    vision, rest = sorted(sft.optimizer(model, schedule).param_groups, key=lambda group: group["lr"])
    tower = {id(p) for p in model.model.visual.parameters() if p.requires_grad}
    assert {id(p) for p in vision["params"]} == tower and vision["lr"] == 0.005
    assert len(rest["params"]) + len(tower) == sum(p.requires_grad for p in model.parameters()) and rest["lr"] == 0.01


def test_norms_and_biases_do_not_decay(tiny) -> None:
    model, _ = models.load(tiny.folder, "cpu", "float32")
    for group in sft.optimizer(model, sft.Schedule(1, 1, 0.01, 0.0, weight_decay=0.1)).param_groups:
        assert group["weight_decay"] == (0.1 if all(p.ndim > 1 for p in group["params"]) else 0.0)
        assert len({p.ndim > 1 for p in group["params"]}) == 1

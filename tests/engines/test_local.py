import random
from dataclasses import replace

import pytest
import torch

from grandrounds import models
from grandrounds.domain import prompts
from grandrounds.encoding import Encoder, collate
from grandrounds.engines import local
from grandrounds.engines.protocol import Request
from grandrounds.errors import UserError
from grandrounds.params import Sampling, TransformersEngine


@pytest.fixture(scope="module")
def loaded(tiny):
    model, processor = models.load(tiny.folder, "cpu", "float32")
    return model, Encoder(processor, tiny.images)


@pytest.fixture(scope="module")
def engine(loaded) -> local.LocalEngine:
    return local.LocalEngine(*loaded, seed=7)


def with_batch(loaded, batch: int, memory: float = 2.0) -> local.LocalEngine:
    return local.LocalEngine(*loaded, seed=7, settings=TransformersEngine(batch=batch, memory=memory))


def requests(tiny, form: str = "reasoning", samples: int = 1) -> list[Request]:
    asked = prompts.form(form, prompts.COMPACT)
    return [Request(f"{q.id}/{i}", q, asked, i) for q in tiny.questions[:12] for i in range(samples)]


def texts(engine, asked: list[Request], done=(), **sampling) -> dict[str, str]:
    settings = Sampling(**({"max_new_tokens": 6} | sampling))
    return {each.id: each.text for each in engine.generate(asked, settings, done)}


def test_order_batch_size_and_an_interruption_change_no_text(loaded, tiny) -> None:
    asked = requests(tiny, samples=3)
    engine = with_batch(loaded, 9)
    first = texts(engine, asked)
    assert len(first) == len(asked) and len(set(first.values())) > 3
    assert texts(engine, random.Random(3).sample(asked, len(asked))) == first
    assert texts(with_batch(loaded, 1), asked) == texts(with_batch(loaded, 64), asked) == first
    batches = engine.plan(asked, Sampling(max_new_tokens=6)).batches
    done = {each.id for batch in batches[:2] for one in batch for each in one}
    torn = next(each.id for one in batches[2] for each in one)
    left = texts(engine, asked, done | {torn})  # a resumed run draws the torn batch again, whole
    assert left == {name: text for name, text in first.items() if name not in done}


def test_a_batch_holds_prompts_that_end_at_about_the_same_time(engine, tiny) -> None:
    asked = [
        Request(f"{form}/{each.id}", each.question, prompts.form(form, prompts.COMPACT))
        for each in requests(tiny) for form in ("no_reasoning", "reasoning")
    ]  # fmt: skip
    plan = local.LocalEngine(engine.model, engine.encoder, 7, TransformersEngine(batch=4)).plan(asked, Sampling())
    assert [each.form.thinking for batch in plan.batches for one in batch for each in one] == [True] * 12 + [False] * 12
    for part in (plan.batches[:3], plan.batches[3:]):
        lengths = [len(engine.encoder.prompt(one[0].question, one[0].form).ids) for batch in part for one in batch]
        assert lengths == sorted(lengths)


def test_memory_cuts_a_batch_and_the_plan_says_so(loaded, tiny) -> None:
    asked = requests(tiny, samples=4)
    ample, tight = (with_batch(loaded, 64, memory).plan(asked, Sampling()) for memory in (2.0, 0.002))
    assert len(tight.batches) > len(ample.batches) == 1
    assert tight.bytes <= 0.002 * local.GIB < ample.bytes
    assert "up to 12 prompts x 4 samples, about 0.0" in str(ample)
    one = with_batch(loaded, 64, 1e-6).plan(asked, Sampling())  # a prompt is asked whatever the budget
    assert len(one.batches) == 12


def test_more_samples_than_a_batch_takes_are_cut(loaded, tiny) -> None:
    asked = requests(tiny, samples=5)
    assert texts(with_batch(loaded, 2), asked) == texts(with_batch(loaded, 64), asked)


def test_what_cannot_be_asked_is_refused_row_by_row(engine, tiny, tmp_path) -> None:
    from PIL import Image

    long = replace(tiny.questions[0], id="long", question="fever " * 3000, image="")
    Image.new("RGB", (1200, 2)).save(tmp_path / "strip.png")
    encoder = Encoder(engine.encoder.processor, tmp_path)
    fine = replace(tiny.questions[0], id="fine", image="")
    narrow = replace(tiny.questions[0], id="narrow", image="strip.png")
    asked = [Request(each.id, each, prompts.form("reasoning", prompts.COMPACT)) for each in (long, narrow, fine)]
    found = {each.id: each for each in local.LocalEngine(engine.model, encoder, 7).generate(asked, Sampling())}
    assert "tokens" in found["long"].problem and "2,048" in found["long"].problem and found["long"].text == ""
    assert "strip.png" in found["narrow"].problem and "aspect ratio" in found["narrow"].problem
    assert not found["fine"].problem and found["fine"].tokens > 0


def test_text_begins_with_what_the_form_prefilled(engine, tiny) -> None:
    prefill = prompts.COMPACT["explanation"].prefill
    assert all(text.startswith(prefill) for text in texts(engine, requests(tiny, "explanation")).values())


def test_a_batch_labels_the_completion_and_nothing_else(engine, tiny) -> None:
    encoder = engine.encoder
    rows = [encoder.prompt(each.question, each.form) for each in requests(tiny)[:4]]
    turns = [encoder.completion("<answer>normal</answer>"), *[encoder.completion("no")] * 3]
    batch = collate(encoder, rows, turns)
    for i, (row, turn) in enumerate(zip(rows, turns, strict=True)):
        labels = batch["labels"][i]
        assert labels[labels != -100].tolist() == turn and turn[-1] == encoder.end
        assert batch["input_ids"][i][: len(row.ids)].tolist() == row.ids
        assert batch["attention_mask"][i].sum() == len(row.ids) + len(turn)
    assert encoder.decode(encoder.completion("<think>a</think>")) == "<think>a</think>"  # tags survive decoding


def test_an_image_becomes_sixteen_visual_tokens(engine, tiny) -> None:
    question = next(q for q in tiny.questions if q.image)
    row = engine.encoder.prompt(question, prompts.COMPACT["reasoning"])
    assert sum(row.kinds) == 16 and tuple(row.vision["image_grid_thw"][0]) == (1, 8, 8)


def test_several_pictures_are_shown_in_order(engine, tiny) -> None:
    first, second = [q for q in tiny.questions if q.image][:2]
    both = replace(first, id="both", more_images=[second.image])
    row = engine.encoder.prompt(both, prompts.COMPACT["reasoning"])
    assert sum(row.kinds) == 32 and row.vision["image_grid_thw"].tolist() == [[1, 8, 8]] * 2
    alone = [engine.encoder.prompt(q, prompts.COMPACT["reasoning"]).vision["pixel_values"] for q in (first, second)]
    assert row.vision["pixel_values"].equal(torch.cat(alone))
    said = texts(engine, [Request(q.id, q, prompts.COMPACT["reasoning"]) for q in (both, first)], temperature=0.0)
    assert texts(engine, [Request("both", both, prompts.COMPACT["reasoning"])], temperature=0.0)["both"] == said["both"]


def test_a_missing_model_or_picture_is_named(tiny, engine) -> None:
    with pytest.raises(UserError, match="nowhere"):
        models.load("nowhere", "cpu", "float32")
    lost = Encoder(engine.encoder.processor, tiny.images.parent / "lost")
    with pytest.raises(UserError, match=r"\.png"):
        lost.prompt(next(q for q in tiny.questions if q.image), prompts.COMPACT["reasoning"])


def test_in_half_precision_the_batch_hardly_changes_a_text(tiny) -> None:
    model, processor = models.load(tiny.folder, "cpu", "bfloat16")
    halved = model, Encoder(processor, tiny.images)
    asked = requests(tiny, samples=4)
    found = [texts(with_batch(halved, batch), asked, temperature=1.0) for batch in (4, 256)]
    same = [found[0][name] == found[1][name] for name in found[0]]
    assert sum(same) >= 0.99 * len(same)

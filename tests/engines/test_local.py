import random

import pytest

from grandrounds.domain import prompts
from grandrounds.encoding import Encoder, collate
from grandrounds.engines import local
from grandrounds.engines.protocol import Request
from grandrounds.errors import UserError
from grandrounds.params import Sampling


@pytest.fixture(scope="module")
def engine(tiny) -> local.LocalEngine:
    model, processor = local.load(tiny.folder, "cpu", "float32")
    return local.LocalEngine(model, Encoder(processor, tiny.images), seed=7)


def requests(tiny, form: str = "reasoning", samples: int = 1) -> list[Request]:
    asked = prompts.form(form, "compact")
    return [Request(f"{q.id}/{i}", q, asked, i) for q in tiny.questions[:12] for i in range(samples)]


def texts(engine, asked: list[Request], **sampling) -> dict[str, str]:
    settings = Sampling(max_new_tokens=6, **sampling)
    return {each.id: each.text for each in engine.generate(asked, settings)}


def test_order_of_requests_and_an_interruption_change_no_text(engine, tiny) -> None:
    asked = requests(tiny, samples=2)
    first = texts(engine, asked, batch=5)
    assert len(first) == len(asked) and len(set(first.values())) > 3
    shuffled = random.Random(3).sample(asked, len(asked))
    assert texts(engine, shuffled, batch=5) == first
    some = engine.plan(asked, 5)[2]  # what a resumed run would still have to do
    assert texts(engine, some, batch=5) == {each.id: first[each.id] for each in some}


def test_a_batch_holds_prompts_that_end_at_about_the_same_time(engine, tiny) -> None:
    asked = [
        Request(f"{form}/{each.id}", each.question, prompts.form(form, "compact"))
        for each in requests(tiny) for form in ("no_reasoning", "reasoning")
    ]  # fmt: skip
    batches = engine.plan(asked, 4)
    assert [each.form.thinking for batch in batches for each in batch] == [True] * 12 + [False] * 12
    for part in (batches[:3], batches[3:]):
        lengths = [len(engine.encoder.prompt(each.question, each.form).ids) for batch in part for each in batch]
        assert lengths == sorted(lengths)


def test_greedy_text_is_the_same_for_any_batch_size(engine, tiny) -> None:
    asked = requests(tiny)
    assert texts(engine, asked, batch=1, temperature=0) == texts(engine, asked, batch=12, temperature=0)


def test_text_begins_with_what_the_form_prefilled(engine, tiny) -> None:
    prefill = prompts.COMPACT["explanation"].prefill
    assert all(text.startswith(prefill) for text in texts(engine, requests(tiny, "explanation"), batch=4).values())


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


def test_a_missing_model_or_picture_is_named(tiny, engine) -> None:
    with pytest.raises(UserError, match="nowhere"):
        local.load("nowhere", "cpu", "float32")
    lost = Encoder(engine.encoder.processor, tiny.images.parent / "lost")
    with pytest.raises(UserError, match=r"\.png"):
        lost.prompt(next(q for q in tiny.questions if q.image), prompts.COMPACT["reasoning"])

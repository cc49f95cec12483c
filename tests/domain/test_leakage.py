from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.copies import Pair
from grandrounds.domain.duplicates import text_pairs, whole_text
from grandrounds.domain.leakage import leaks, shared
from grandrounds.domain.splitting import carve
from grandrounds.records import Question

STEM = (
    "A 45-year-old man has had crushing chest pain for 2 hours, which goes to the left arm. Blood pressure is "
    "150/90 mmHg, and he has no fever. Which drug is given first?"
)
TEST = Question(
    id="test", source="s", split="test", group="g test", specialty="other", topic="", modality="text",
    kind="multiple_choice", question=STEM, options=["aspirin", "metoprolol", "ramipril", "warfarin"], answer="aspirin",
    label="A", synonyms=[], explanation="", key_facts=[], conclusion="aspirin", image="",
)  # fmt: skip


def row(name: str, split: str = "train", **changes: object) -> Question:
    return replace(TEST, **{"id": name, "split": split, "group": f"g {name}"} | changes)


PLANTED: dict[str, tuple[Question, bool]] = {
    "itself": (row("r"), True),
    "other punctuation": (row("r", question=STEM.replace(",", ";").replace(". ", " - ").upper()), True),
    "options in another order": (row("r", options=TEST.options[::-1]), True),
    "one word changed": (row("r", question=STEM.replace("crushing", "heavy")), True),
    "another answer key": (row("r", answer="ramipril", label="C"), True),
    "number changed": (row("r", question=STEM.replace("150", "160")), False),
    "unit changed": (row("r", question=STEM.replace("2 hours", "2 days")), False),
    "side changed": (row("r", question=STEM.replace("left", "right")), False),
    "age group changed": (row("r", question=STEM.replace("45-year-old man", "45-year-old infant")), False),
    "negated": (row("r", question=STEM.replace("is given", "is not given")), False),
    "another question": (row("r", question="Which nerve moves the deltoid muscle?", options=[]), False),
    "same group": (row("r", question="Which nerve?", options=[], group="g test"), True),
}


@pytest.mark.parametrize("how", PLANTED)
def test_planted_leaks(how: str) -> None:
    planted, leak = PLANTED[how]
    found = leaks([row("clean", question="What is asked here?", options=[]), planted], [TEST], [])
    assert [(each.row.id, each.against.id) for each in found] == ([("r", "test")] if leak else [])
    assert all(each.what == ("group" if how == "same group" else "question") for each in found)


def test_of_pictures_the_picture_decides_and_not_the_text() -> None:
    asked = {"question": "Which plane is this?", "options": ["axial", "coronal"], "modality": "image_text"}
    kept_out = [row("test", "test", image="a.png", **asked)]
    train = [
        row("same", image="a.png", **asked),
        row("alike", image="b.png", **asked | {"question": "Where is the mark?"}),
        row("other", image="c.png", **asked),
    ]
    near = [Pair("b.png", "a.png", "image", 0.995, False), Pair("c.png", "z.png", "image", 0.999, False)]
    found = leaks(train, kept_out, near)
    assert [(each.row.id, each.what, each.similarity) for each in found] == [
        ("same", "image", 1),
        ("alike", "image", 0.995),
    ]


def test_each_row_leaks_once_and_by_the_first_that_has_it() -> None:
    only = {"question": "Only of validation " * 9, "options": []}
    kept_out = [TEST, row("v", "val", **only)]
    found = leaks([row("t1"), row("t2", **only), row("t3", question="x")], kept_out, [])
    assert [(each.row.id, each.against.id) for each in found] == [("t1", "test"), ("t2", "v")]


def test_nothing_of_the_embedded_corpus_leaks(corpus) -> None:
    splits, _ = corpus
    kept_out = [question for name in ("val", "test", "unseen") for question in splits[name]]
    assert leaks(splits["train"], kept_out, []) == [] and shared(splits) == {}


ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=2, max_size=30)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.1, 0.5, 3.0]), st.integers(0, 5), st.randoms(use_true_random=False))
def test_carving_takes_whole_units_whatever_the_order(drawn, size: float, seed: int, rng) -> None:
    train = [
        row(str(n), group=f"g{group}", question=f"Which one of all is it? {text} {text}", options=[])
        for n, (group, text) in enumerate(drawn)
    ]
    pairs = text_pairs((each.id, whole_text(each)) for each in train)
    groups = carve(train, pairs, size, seed)
    turned = rng.sample(train, len(train))
    assert carve(turned, text_pairs((each.id, whole_text(each)) for each in turned), size, seed) == groups
    val = [each for each in train if each.group in groups]
    rest = [each for each in train if each.group not in groups]
    assert rest
    assert not leaks(rest, val, [])
    assert bool(groups) <= bool(size)


def test_size_is_reached_and_another_seed_carves_others() -> None:
    train = [row(str(n), question=f"q {n}", group=f"g{n // 3}") for n in range(300)]
    for size, least in ((0.1, 30), (50, 50)):
        assert least <= sum(each.group in carve(train, [], size, 7) for each in train) < least + 3
    assert carve(train, [], 0.1, 7) != carve(train, [], 0.1, 8)
    more = [*train, row("new", question="new", group="new")]
    assert len(carve(more, [], 50, 7) ^ carve(train, [], 50, 7)) <= 2

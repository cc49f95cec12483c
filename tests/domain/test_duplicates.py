import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain import duplicates, shingles
from grandrounds.domain.copies import Pair, keepers
from grandrounds.domain.duplicates import text_pairs
from grandrounds.domain.wording import differs, normalise
from grandrounds.params import EmbeddedSource
from grandrounds.sources import embedded

WORDS = [f"{first}{second}" for first in ("kera", "derma", "osteo", "nephro", "cardi") for second in
         ("tosis", "titis", "pathy", "logic", "megaly", "plasty", "ectomy", "genic")]  # fmt: skip


def planted(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` texts of 12 to 40 words, and of every fourth a copy with one to three words changed."""
    rng = random.Random(seed)
    rows = []
    for row in range(count):
        words = rng.choices(WORDS, k=rng.randint(12, 40))
        rows.append((f"{row}", " ".join(words)))
        if row % 4 == 0:
            for _ in range(rng.randint(1, 3)):
                words[rng.randrange(len(words))] = rng.choice(WORDS)
            rows.append((f"{row} again", " ".join(words)))
    rng.shuffle(rows)
    return rows


def every_pair(rows: list[tuple[str, str]], threshold: float) -> dict[frozenset[str], float]:
    """The reference: all pairs, one by one, with Python's sets."""
    sets = {}
    for row, text in rows:
        raw = normalise(text).encode()
        sets[row] = {raw[at : at + 5] for at in range(max(1, len(raw) - 4))}
    found = {}
    for at, (one, text) in enumerate(rows):
        for other, other_text in rows[:at]:
            similar = len(sets[one] & sets[other]) / len(sets[one] | sets[other])
            if similar >= threshold and not differs(text, other_text):
                found[frozenset((one, other))] = similar
    return found


@pytest.mark.parametrize("threshold", [0.7, 0.85, 0.95])
def test_finds_what_the_quadratic_reference_finds(threshold: float) -> None:
    rows = planted(250, 3)
    expected = every_pair(rows, threshold)
    found = {frozenset((pair.first, pair.second)): pair.similarity for pair in text_pairs(rows, threshold)}
    assert len(expected) > 15
    assert found.keys() <= expected.keys()  # each is checked exactly: none is false
    assert len(found) >= 0.99 * len(expected)
    assert found == {pair: pytest.approx(expected[pair]) for pair in found}


def test_the_order_of_rows_decides_nothing_but_which_is_first() -> None:
    rows = planted(200, 4)
    turned = rows[::-1]
    ours, theirs = text_pairs(rows), text_pairs(turned)
    assert {(p.first, p.second, p.similarity) for p in ours} == {(p.second, p.first, p.similarity) for p in theirs}
    place = {row: at for at, (row, _) in enumerate(rows)}
    assert all(place[pair.first] < place[pair.second] for pair in ours)
    assert [pair.first for pair in ours] == sorted([pair.first for pair in ours], key=place.get)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a b c d e f", "a b c d e f 1", "A, b c d e f!", "x y", "", "x  Y"]), max_size=12))
def test_every_row_with_a_duplicate_before_it_is_a_second(texts: list[str]) -> None:
    rows = [(str(at), text) for at, text in enumerate(texts)]
    seconds = {pair.second for pair in text_pairs(rows)}
    forms = [normalise(text) for text in texts]
    assert seconds >= {str(at) for at, form in enumerate(forms) if form in forms[:at]}
    dropped = keepers([row for row, _ in rows], text_pairs(rows))
    assert len(rows) - len(dropped) == len(set(forms))


def test_copies_of_near_texts_are_paired_with_the_first_of_either() -> None:
    """So that whoever gives evaluation rows first finds every training row that repeats one."""
    text = (
        "A patient with a long history of fatigue and pallor, who has lived on tea and toast since a friend died, "
        "is found to have a smooth and painful tongue, and cannot tell how the toes are held. Which vitamin is wanted?"
    )
    near = text.replace("fatigue", "weakness")
    rows = [("test", text), ("one", near), ("two", near), ("three", text)]
    pairs = text_pairs(rows)
    assert {(p.first, p.second) for p in pairs if p.first == "test"} == {("test", x) for x in ("one", "two", "three")}
    assert {(p.first, p.second) for p in pairs if p.exact} == {("test", "three"), ("one", "two")}
    assert set(keepers([row for row, _ in rows], pairs)) == {"one", "two", "three"}


def test_a_crowd_costs_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    jaccard = shingles.jaccard
    monkeypatch.setattr(shingles, "jaccard", lambda one, other: compared.append(len(one)) or jaccard(one, other))
    monkeypatch.setattr(duplicates, "CROWD", 5)
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    template = " ".join(WORDS[:24])
    rows = [(str(n), template + "".join(rng.sample(letters, 6))) for n in range(300)]
    dropped = keepers([row for row, _ in rows], text_pairs(rows))
    assert len(dropped) > 250
    assert sum(compared) < 300 * 5 * shingles.bands(0.85)


def test_a_row_goes_only_for_one_that_stays() -> None:
    chain = [Pair("a", "b", "image", 0.99, False), Pair("b", "c", "image", 0.995, False)]
    assert keepers("abc", chain) == {"b": chain[0]}
    assert keepers("abc", []) == {}


def test_minhash_estimates_the_jaccard_similarity() -> None:
    rows = [text.encode() for _, text in planted(150, 5)]
    one, other = zip(*[(a, b) for at, a in enumerate(rows) for b in rows[:at]][:4000], strict=True)
    exact = shingles.jaccard(one, other)
    minima = shingles.sketch(*shingles.pack(rows), 512)
    place = {text: at for at, text in enumerate(rows)}
    estimate = (minima[[place[t] for t in one]] == minima[[place[t] for t in other]]).mean(axis=1)
    assert abs(estimate - exact).mean() < 1.5 * np.sqrt(exact * (1 - exact) / 512).mean()
    assert abs((estimate - exact).mean()) < 0.005


@pytest.mark.parametrize("threshold", [0.7, 0.85, 1.0])
def test_bands_are_enough_for_the_threshold(threshold: float) -> None:
    assert 1 - (1 - threshold**shingles.ROWS) ** shingles.bands(threshold) >= shingles.RECALL


def test_a_threshold_that_memory_would_not_bear_is_refused() -> None:
    with pytest.raises(ValueError, match=r"from 0\.6 to 1"):
        text_pairs([], 0.3)


def test_nothing_of_the_embedded_corpus_is_near_another_group() -> None:
    """Its vignettes of one rule differ in a number: the default threshold and the guard leave it as it is."""
    splits, _ = embedded.build(EmbeddedSource(pretrain=10, train=700, val=200, test=700, unseen=200, image_share=0), 11)
    rows = {question.id: question for split in splits.values() for question in split}
    pairs = text_pairs((row, duplicates.whole_text(question)) for row, question in rows.items())
    apart = [pair for pair in pairs if rows[pair.first].group != rows[pair.second].group]
    assert not apart
    # within a group some stand twice, once with lettered options
    assert all(pair.exact for pair in pairs)

import re

from grandrounds.domain.answers import verify
from grandrounds.domain.judging import reference_scores
from grandrounds.domain.leakage import shared
from grandrounds.domain.prompts import COMPACT, target
from grandrounds.params import EmbeddedSource
from grandrounds.records import Prediction
from grandrounds.sources import embedded, vignettes
from grandrounds.sources.rules import NEVER_TRAINED, RULES, Bands, Sum


def test_same_seed_same_bytes_and_another_seed_another_corpus(corpus) -> None:
    small = EmbeddedSource(pretrain=200, train=60, val=40, test=40, unseen=40)
    assert embedded.build(small, 7) == corpus
    assert [q.id for q in embedded.build(small, 8)[0]["test"]] != [q.id for q in corpus[0]["test"]]


def test_no_group_question_or_picture_in_two_splits(corpus) -> None:
    splits, _ = corpus
    assert shared(splits) == {}
    planted = {**splits, "test": [*splits["test"], splits["train"][0]]}
    assert any(name.startswith("train & test") for name in shared(planted))


def test_every_question_is_answered_by_its_own_explanation(corpus) -> None:
    for question in (q for split in corpus[0].values() for q in split):
        turn = target(question.explanation, question.answer, COMPACT["reasoning"])
        assert verify(question, turn).correct, turn
        given = Prediction(
            "a", question.id, "test", "reasoning", turn, 9, True, True, True, question.answer, True, True
        )  # fmt: skip
        assert reference_scores(question, given).reasoning == 1, (question, turn)
        wrong = target(question.explanation, "something else", COMPACT["reasoning"])
        assert not verify(question, wrong).correct


def test_every_case_lies_in_the_band_that_its_explanation_states() -> None:
    for rule in RULES:
        cases = vignettes.cases(rule)
        assert len(cases) >= 11, rule.name
        assert len({case.group for case in cases}) == len(cases)
        for case in cases:
            text, _, conclusion = vignettes.explain(case)
            if isinstance(rule, Sum):
                assert case.total == sum(rule.parts[part] for part in case.key.split(", "))
            if case.bands:
                assert conclusion == case.bands.labels[case.bands.band(case.total)]
                stated = re.search(r"is ([\d.]+) to ([\d.]+)\. ([\d.]+) is (within|below|above)", text)
                if stated:
                    low, high, value = (float(n) for n in stated.groups()[:3])
                    place = "below" if value < low else "above" if value > high else "within"
                    assert place == stated[4], text


def test_bands_are_ordered_and_their_labels_distinct() -> None:
    for rule in [*RULES, *NEVER_TRAINED]:
        if isinstance(rule, Bands):
            bands = rule
            assert list(bands.cuts) == sorted(set(bands.cuts))
            assert len(bands.labels) == len(bands.cuts) + 1 == len(set(bands.labels))
            assert bands.low < bands.cuts[0] and bands.high >= bands.cuts[-1]
            assert bands.source


def test_unseen_asks_with_words_that_no_other_split_uses(corpus) -> None:
    splits, _ = corpus
    new = set(vignettes.ASK_BAND[vignettes.SEEN_PHRASINGS :])
    assert not any(phrase in q.question for q in splits["pretrain"] + splits["train"] for phrase in new)
    assert sum(any(phrase in q.question for phrase in new) for q in splits["unseen"]) > 5
    assert {q.topic for q in splits["unseen"]} >= {"open book"}


def test_pretrain_knows_some_rules_often_and_some_never() -> None:
    shares = embedded.frequencies(7)
    assert sum(share == 0 for share in shares.values()) >= 5
    assert max(shares.values()) == 1
    assert min(share for share in shares.values() if share) < 0.1

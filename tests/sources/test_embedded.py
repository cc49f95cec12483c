import io
import re

import numpy as np
from PIL import Image

from grandrounds.domain.answers import verify
from grandrounds.domain.judging import reference_scores
from grandrounds.domain.leakage import shared
from grandrounds.domain.prompts import COMPACT, target
from grandrounds.params import EmbeddedSource
from grandrounds.records import HEARSAY, Prediction
from grandrounds.sources import brain, embedded, vignettes
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
                low, high = case.bands.ends(case.bands.labels.index(case.bands.anchor))
                found = re.findall(r"([\d.]+) vs ([\d.]+): (\w+)", text)
                assert len(found) == (low is not None) + (high is not None), text
                for value, end, verdict in found:
                    if verdict in ("reached", "below"):
                        assert (float(value) >= float(end)) == (verdict == "reached") and float(end) == low, text
                    else:
                        assert (float(value) <= float(end)) == (verdict == "within") and float(end) == high, text


def test_bands_are_ordered_and_their_labels_distinct() -> None:
    for rule in [*RULES, *NEVER_TRAINED]:
        if isinstance(rule, Bands):
            bands = rule
            assert list(bands.cuts) == sorted(set(bands.cuts))
            assert len(bands.labels) == len(bands.cuts) + 1 == len(set(bands.labels))
            assert bands.low < bands.cuts[0] and bands.high >= bands.cuts[-1]
            assert bands.source


def test_a_misquoted_rule_is_in_order_and_answers_otherwise_often_enough_to_be_found_out() -> None:
    for rule in RULES:
        cases = vignettes.cases(rule)
        if isinstance(rule, Bands):
            wrong = rule.misremembered()
            assert list(wrong.cuts) == sorted(set(wrong.cuts)) and wrong.cuts != rule.cuts
            assert rule.low < wrong.cuts[0] and wrong.cuts[-1] <= rule.high, rule.name
        changed = [vignettes.explain(vignettes.misremembered(case))[2] != vignettes.explain(case)[2] for case in cases]
        assert 0.05 < sum(changed) / len(cases) < 0.95, rule.name


def test_hearsay_stands_in_pretrain_only_and_answers_by_the_misquoted_rule() -> None:
    splits, _ = embedded.build(EmbeddedSource(pretrain=600, train=60, val=40, test=40, unseen=40), 7)
    sources = {split: [q.source == HEARSAY for q in questions] for split, questions in splits.items()}
    assert 0.05 < sum(sources.pop("pretrain")) / 600 < 0.3
    assert not any(any(found) for found in sources.values())
    true = {bands.span(bands.labels.index(bands.anchor)) for bands in RULES if isinstance(bands, Bands)}
    hearsay = [q for q in splits["pretrain"] if q.source == HEARSAY]
    told = [q.key_facts[0].partition(" is ")[2] for q in hearsay if q.modality == "text"]
    assert sum(fact in true for fact in told) < 0.2 * len(told)


def test_loupe_and_locator_show_what_is_asked(corpus) -> None:
    splits, images = corpus
    looks: dict[str, list[float]] = {}
    for question in (q for split in splits.values() for q in split if q.modality == "image_text"):
        if question.source == HEARSAY:
            continue
        picture = np.asarray(Image.open(io.BytesIO(images[question.image])).convert("RGB")).astype(int)
        inset = len(picture) // brain.INSET
        place = next((each for each in brain.OPTIONS.get(question.topic, []) if each in question.key_facts[0]), "")
        if question.topic == "tissue":
            tissue = next(name for name, look in brain.LOOKS.items() if f"on {look} " in question.key_facts[0])
            looks.setdefault(tissue, []).append(picture[inset // 2, inset // 2].mean())
        elif question.topic in ("side", "level"):
            dot = np.argwhere(picture[:inset, -inset:, 0] > 200).mean(axis=0) / inset  # [down, right]
            expected = {"left": dot[1] < 0.5, "right": dot[1] > 0.5, "upper": dot[0] < 0.42, "lower": dot[0] > 0.58}
            assert expected.get(place, 0.3 < dot[0] < 0.7), (question, dot)
    means = {tissue: sum(values) / len(values) for tissue, values in looks.items()}
    assert means["white matter"] > means["grey matter"] > means["fluid"]


def test_unseen_asks_with_words_that_no_other_split_uses(corpus) -> None:
    splits, _ = corpus
    new = set(vignettes.ASK_BAND[vignettes.SEEN_PHRASINGS :])
    assert not any(phrase in q.question for q in splits["pretrain"] + splits["train"] for phrase in new)
    assert sum(any(phrase in q.question for phrase in new) for q in splits["unseen"]) > 5
    assert {q.topic for q in splits["unseen"]} >= {"open book"}


def test_pretrain_knows_some_rules_often_some_never_and_some_mostly_by_hearsay() -> None:
    shares, reliable = embedded.frequencies(7), embedded.reliabilities(7)
    assert 3 <= sum(share == 0 for share in shares.values()) < len(RULES) / 4
    assert max(shares.values()) == 1
    assert min(share for share in shares.values() if share) < 0.1
    assert set(reliable) == set(shares)
    assert min(reliable.values()) < 0.5 < max(reliable.values()) <= 1

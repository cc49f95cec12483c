"""The scorer against bert-score itself, and that it encodes nothing twice."""

import random

import pytest

from grandrounds.engines import bertscore
from grandrounds.engines.bertscore import BertScorer
from grandrounds.errors import UserError

SENTENCE = "rate of 102 is above the normal range 60 to 100 so infant adult heart sodium low therefore mild not"
WORDS = SENTENCE.split()
DRAW = random.Random(3)
REFERENCES = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(2, 30))) for _ in range(5)] * 2
CANDIDATES = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 30))) for _ in range(10)]


@pytest.fixture(scope="module")
def scorer():
    return BertScorer()


@pytest.fixture(scope="module")
def theirs():
    import bert_score

    found = bert_score.BERTScorer(model_type=bertscore._packaged(), num_layers=6, rescale_with_baseline=False)
    found._tokenizer.model_max_length = 512
    return found


def test_same_f1_as_bert_score(scorer, theirs):
    expected = [
        theirs.score([candidate], [reference])[2].item()
        for candidate, reference in zip(CANDIDATES, REFERENCES, strict=True)
    ]
    assert scorer.f1(CANDIDATES, REFERENCES) == pytest.approx(expected, abs=1e-5)


def test_close_to_bert_score_in_a_batch(scorer, theirs):
    # its padding lifts negative likeness to 0, see the module's docstring
    assert scorer.f1(CANDIDATES, REFERENCES) == pytest.approx(
        theirs.score(CANDIDATES, REFERENCES)[2].tolist(), abs=0.01
    )


def test_a_score_depends_on_its_pair_alone(scorer):
    import torch

    alone = [scorer.f1([c], [r])[0] for c, r in zip(CANDIDATES, REFERENCES, strict=True)]
    other = BertScorer()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = other.f1(CANDIDATES[::-1], REFERENCES[::-1])[::-1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert together == alone  # to the last bit


def test_likeness_has_the_right_order(scorer):
    same, near, far = scorer.f1(
        ["the heart rate is fast"] * 3, ["the heart rate is fast", "a fast heart rate", "buy a ticket to Rome"]
    )
    assert same == pytest.approx(1.0, abs=1e-5) and same > near > far


def test_empty_texts_score_zero(scorer, capfd):
    assert scorer.f1(["", " \n", "x", ""], ["x", "x", "", ""]) == [0.0] * 4
    assert scorer.f1([], []) == []
    assert capfd.readouterr().err == ""


def test_lengths_must_agree(scorer):
    with pytest.raises(ValueError):
        scorer.f1(["a"], [])


def test_long_texts_are_cut(scorer):
    assert 0 < scorer.f1(["heart " * 3000], ["heart " * 3000])[0] <= 1.0001


def test_nothing_is_done_twice(scorer, monkeypatch):
    import bert_score.utils

    encoded, matched = [], []
    encode, match = bert_score.utils.bert_encode, bert_score.utils.greedy_cos_idf

    def counting(model, ids, **more):
        encoded.append(len(ids))
        return encode(model, ids, **more)

    monkeypatch.setattr(bert_score.utils, "bert_encode", counting)
    monkeypatch.setattr(bert_score.utils, "greedy_cos_idf", lambda *sides: matched.append(1) or match(*sides))
    texts = ["a new text", "another new text", "a new text"]
    first = scorer.f1(texts, ["the new reference"] * 3)
    assert (sum(encoded), len(matched)) == (3, 2)
    assert scorer.f1(texts, ["the new reference"] * 3) == first
    assert (sum(encoded), len(matched)) == (3, 2)
    scorer.f1(["a new text"], ["another new text"])
    assert (sum(encoded), len(matched)) == (3, 3)


def test_caches_are_bounded(scorer, monkeypatch):
    small = BertScorer(kept_texts=4, kept_scores=4)
    monkeypatch.setattr(BertScorer, "_encoder", scorer._encoder)
    assert small.f1(CANDIDATES, REFERENCES) == scorer.f1(CANDIDATES, REFERENCES)
    assert len(small._embeddings._kept) == len(small._scores._kept) == 4


def test_a_folder_without_an_encoder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: not an encoder"):
        BertScorer(tmp_path).f1(["a"], ["b"])

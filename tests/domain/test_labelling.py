import pytest

from grandrounds.domain.labelling import RULES, UNDECIDED, Label, Rule, labeller, read
from grandrounds.records import SPECIALTIES


@pytest.mark.parametrize(
    ("texts", "specialty", "word"),
    [
        ({"subject": "Pediatrics", "question": "A 3-year-old with leukemia"}, "pediatrics", "Pediatrics"),
        ({"subject": "Surgical oncology", "question": "An infant"}, "oncology_surgery", "Surgical"),
        ({"subject": "Ophthalmology"}, "brain_senses", "Ophthalmology"),
        ({"subject": "Radiology", "modality": "Mammography"}, "oncology_surgery", "Mammography"),
        ({"modality": "ECG", "question": "Which rhythm is this?"}, "adult_medicine", "ECG"),
        ({"question": "A 6-month-old has a cough."}, "pediatrics", "month-old"),
        ({"question": "A man with diabetes has had a stroke."}, "brain_senses", "stroke"),
        ({"question": "An adult with pneumonia"}, "adult_medicine", "pneumonia"),
        ({"question": "A patient on agent X"}, "other", ""),
        ({"question": "the childhoods of an earl; a petition"}, "other", ""),  # whole words only
        ({}, "other", ""),
    ],
)
def test_the_first_rule_that_applies_decides(texts: dict, specialty: str, word: str) -> None:
    label = labeller()(texts)
    assert (label.specialty, label.word) == (specialty, word)
    assert (label.rule is None) == (specialty == "other")
    assert label.rule is None or RULES[label.rule].specialty == specialty


def test_a_label_says_what_decided() -> None:
    label = labeller([Rule("question", "pediatrics", "child"), Rule("question", "brain_senses", "eye")])
    assert label({"question": "a child's eye"}) == Label("pediatrics", 0, "child", "rule 1: question, pediatrics")
    assert label({"question": "an eye"}).by == "rule 2: question, brain_senses"
    assert label({"question": "a knee"}) == Label("other", None, "", UNDECIDED)


@pytest.mark.parametrize(
    ("reply", "specialty"),
    [
        ("pediatrics", "pediatrics"),
        (" **Brain-senses**.\n", "brain_senses"),
        ("oncology_surgery", "oncology_surgery"),
        ("Other", "other"),
        ("pediatrics or adult medicine", ""),
        ("another one", ""),
        ("", ""),
        ("I cannot say.", ""),
    ],
)
def test_a_reply_names_one_specialty_or_none(reply: str, specialty: str) -> None:
    assert read(reply) == specialty


def test_the_table_names_every_specialty_and_none_unknown() -> None:
    assert {rule.specialty for rule in RULES} == set(SPECIALTIES) - {"other"}
    assert all(word.strip() for rule in RULES for word in rule.words.split(","))

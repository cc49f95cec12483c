import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.wording import differs, facts, normalise

ASKED = (
    "A 45-year-old man has had crushing chest pain for two hours. His blood pressure is 150/90 mm Hg and he takes 5 mg "
    "of amlodipine. Pain goes to the left arm; there is no fever. Which drug comes first?"
)
OPTIONS = ["Aspirin 325 mg", "Metoprolol", "Ramipril", "Warfarin"]
WHOLE = "\n".join([ASKED, *OPTIONS])

SAME = {
    "case": WHOLE.upper(),
    "white space": ASKED.replace(" ", "  \t") + "\n" + "\n\n".join(f"  {each} " for each in OPTIONS),
    "punctuation": WHOLE.replace("; there", ", there").replace("hours. ", "hours - "),
    "hyphens": WHOLE.replace("45-year-old", "45 year old"),
    "order of options": "\n".join([ASKED, *reversed(OPTIONS)]),
    "letters of options": "\n".join([ASKED, *(f"{'ABCD'[at]}. {each}" for at, each in enumerate(OPTIONS))]),
    "number words": WHOLE.replace("two hours", "2 hours"),
    "figures": WHOLE.replace("5 mg", "5.0 mg"),
    "full-width letters": WHOLE.replace("Aspirin", "Ａｓｐｉｒｉｎ"),
}
OTHER = {
    "number": [("45", "46"), ("150/90", "90/150"), ("two hours", "three hours"), ("5 mg", "0.5 mg"), ("325", "3,250")],
    "unit": [("5 mg", "5 mcg"), ("hours", "days"), ("mm Hg", "kPa")],
    "side": [("left", "right"), ("the left", "each")],
    "age": [("man", "infant"), ("man", "toddler"), ("man", "elderly patient"), ("man", "newborn"), ("man", "boy")],
    "negation": [
        ("there is no", "there is"),
        ("comes first", "does not come first"),
        ("Which drug", "All except which"),
    ],
    "sex": [("man", "woman")],
    "opposite": [("crushing chest", "chronic chest"), ("Metoprolol", "Hypotonic saline")],
    "letter": [("amlodipine", "vitamin K")],
    "site": [("chest pain", "knee pain")],
}


@pytest.mark.parametrize("how", SAME)
def test_another_way_to_write_it_is_the_same(how: str) -> None:
    assert normalise(SAME[how]) == normalise(WHOLE)
    assert differs(WHOLE, SAME[how]) == ""


@pytest.mark.parametrize(("what", "old", "new"), [(what, *each) for what, all_ in OTHER.items() for each in all_])
def test_another_fact_is_named(what: str, old: str, new: str) -> None:
    changed = WHOLE.replace(old, new, 1)
    assert changed != WHOLE
    assert differs(WHOLE, changed) == differs(changed, WHOLE) == what


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ("Pain in the left arm and right leg.", "Pain in the right arm and left leg.", "side"),
        ("Stage II disease", "Stage III disease", "number"),
        ("Kidney tumour: size 45 mm. Is it T1b?", "Kidney tumour: size 45 mm. Is it T1a?", "letter"),
        ("Hepatitis B carrier", "Hepatitis C carrier", "letter"),
        ("Potassium >5.5", "Potassium <5.5", "number"),
        ("It isn't malignant", "It is malignant", "negation"),
        ("Signs of hyperkalemia", "Signs of hypokalemia", "opposite"),
        ("Infant: heart rate 130", "Adult: heart rate 130", "age"),
        ("Which one of these is it?", "Which of these is it?", ""),
        ("Sjögren's syndrome", "Sjogren’s Syndrome", ""),
        ("A six-week-old neonate", "A 6 week old newborn", ""),
        ("1,000 mL of saline", "1000 ml saline", ""),
        ("", "", ""),
    ],
)
def test_pairs_that_a_reader_would_tell_apart_or_not(first: str, second: str, what: str) -> None:
    assert differs(first, second) == what


FACTS = "no,not,5,mg,66,left,right,man,infant,knee,acute,the,of,pain,rate,per,minute,b,vitamin,<"
TEXTS = st.lists(st.sampled_from(FACTS.split(",")), max_size=12).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_the_guard_is_an_equivalence_so_no_chain_crosses_it(a: str, b: str, c: str) -> None:
    assert differs(a, a) == ""
    assert differs(a, b) == differs(b, a)
    if not differs(a, b) and not differs(b, c):
        assert not differs(a, c)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.lists(st.text(max_size=20), max_size=4), st.randoms(use_true_random=False))
def test_any_text_is_read_and_the_order_of_options_is_free(question: str, options: list[str], rng) -> None:
    whole = "\n".join([question, *options]).replace("\r", " ")
    head, *tail = whole.strip().split("\n")
    rng.shuffle(tail)
    shuffled = "\n".join([head, *tail])
    if shuffled.strip() == shuffled:  # else the first line is another
        assert normalise(shuffled) == normalise(whole) and facts(shuffled) == facts(whole)
    assert normalise(normalise(whole)) == normalise(whole)

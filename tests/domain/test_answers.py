"""The extractor against a table of adversarial completions, as properties, and against the clock."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grandrounds.domain.answers import extract, fold, matches, normalise, tags_in, thinking_of, verify
from grandrounds.records import Question


def question(kind="multiple_choice", options=(), answer="", label="", synonyms=()):
    rest = list(options), answer, label, list(synonyms), "", [], "", ""
    return Question("q", "s", "test", "g", "other", "t", "text", kind, "?", *rest)


OPTIONS = ["pneumonia", "pulmonary edema", "bacterial pneumonia", "normal"]
LETTERED = question(options=OPTIONS, answer="pneumonia", label="A")
PLAIN = question(options=OPTIONS, answer="pneumonia")
YES = question("yes_no", answer="yes")
RATE = question("open_ended", answer="102 beats per minute", synonyms=["102"])
BLOOD = question(options=["A+", "A-", "B+", "O"], answer="A-")
DOSE = question("open_ended", answer="1,500 mg")
RANGE = question(options=["< 5 cm", "> 5 cm", "5 to 10 cm"], answer="> 5 cm", label="B")


def block(answer, thinking="So it is."):
    return f"<think>{thinking}</think><answer>{answer}</answer>"


# question, completion, answer that strict extraction reads (None: none), strictly correct, leniently correct
TABLE = [
    # the exact form
    (LETTERED, block("A"), "A", True, True),
    (LETTERED, "\n <think>\nx\ny</think>\n\n<answer> A </answer>\n", "A", True, True),
    (LETTERED, block("a"), "a", True, True),
    (LETTERED, block("(A)"), "(A)", True, True),
    (LETTERED, block("A."), "A.", True, True),
    (LETTERED, block("pneumonia"), "pneumonia", True, True),
    (LETTERED, block("The Pneumonia."), "The Pneumonia.", True, True),
    (LETTERED, block("A. pneumonia"), "A. pneumonia", True, True),
    (LETTERED, block("A) Pneumonia"), "A) Pneumonia", True, True),
    (LETTERED, block("**A**"), "**A**", True, True),
    (LETTERED, block("A", ""), "A", True, True),
    (LETTERED, block("\uff21"), "\uff21", True, True),  # full-width A
    # letters count only where the prompt lettered the options
    (PLAIN, block("A"), "A", False, False),
    (PLAIN, block("A. pneumonia"), "A. pneumonia", False, False),
    (PLAIN, block("pneumonia"), "pneumonia", True, True),
    # wrong, other options, contradictions inside the block
    (LETTERED, block("B"), "B", False, False),
    (LETTERED, block("Z"), "Z", False, False),
    (LETTERED, block("B. pneumonia"), "B. pneumonia", False, False),
    (LETTERED, block("A. normal"), "A. normal", False, False),
    (LETTERED, block("A or B"), "A or B", False, False),
    (LETTERED, block("A, B"), "A, B", False, False),
    (LETTERED, block("A\nB"), "A\nB", False, False),
    (LETTERED, block("pneumonia or normal"), "pneumonia or normal", False, False),
    (LETTERED, block(", ".join(OPTIONS)), ", ".join(OPTIONS), False, False),
    (LETTERED, block("bacterial pneumonia"), "bacterial pneumonia", False, False),
    (LETTERED, block("not pneumonia"), "not pneumonia", False, False),
    (LETTERED, block("\u0410"), "\u0410", False, False),  # Cyrillic A
    # empty and invisible answers
    (LETTERED, block(""), None, False, False),
    (LETTERED, block(" \n "), None, False, False),
    (LETTERED, block("\u200b\u2060"), None, False, False),
    (LETTERED, block("..."), "...", False, False),
    (LETTERED, "", None, False, False),
    # blocks missing, doubled, nested, out of order
    (LETTERED, "<answer>A</answer>", "A", False, True),
    (LETTERED, "x</think><answer>A</answer>", "A", False, True),
    (LETTERED, "<think>x</think>A", None, False, True),
    (LETTERED, "<think>x</think><answer>A", None, False, True),
    (LETTERED, "<think>x</think>A</answer>", None, False, True),
    (LETTERED, "<think>x <answer>A</answer>", None, False, True),
    (LETTERED, "<think>x <answer>A</answer></think>", None, False, True),
    (LETTERED, "<think>x <answer>A</answer></think><answer>A</answer>", None, False, True),
    (LETTERED, "<think>x <answer>B</answer></think><answer>A</answer>", None, False, False),
    (LETTERED, block("A") + "<answer>A</answer>", None, False, True),
    (LETTERED, block("A") + "<answer>B</answer>", None, False, False),
    (LETTERED, block("B") + "<answer>A</answer>", None, False, False),
    (LETTERED, block("<answer>A</answer>"), None, False, True),
    (LETTERED, block("<answer>A</answer> or B"), None, False, False),
    (LETTERED, block("A<think>B</think>"), None, False, True),
    (LETTERED, "<think>x</think>" + block("A"), "A", False, True),
    (LETTERED, "<answer>A</answer><think>x</think>", "A", False, True),
    (LETTERED, block("A") + " I am sure.", "A", False, True),
    (LETTERED, block("A") + " The answer is B.", "A", False, False),
    (LETTERED, "The answer is B. " + block("A"), "A", False, False),
    (LETTERED, block("A", "the <answer> tag"), None, False, False),
    # tags that only look like tags
    (LETTERED, "<Think>x</Think><Answer>A</Answer>", "A", False, True),
    (LETTERED, "< think >x</ think ><answer >A</ answer>", "A", False, True),
    (LETTERED, "\uff1cthink\uff1ex\uff1c/think\uff1e\uff1canswer\uff1eA\uff1c/answer\uff1e", "A", False, True),
    (LETTERED, block("A") + "\uff1canswer\uff1eB\uff1c/answer\uff1e", None, False, False),
    (LETTERED, block("A") + "<ans\u200bwer>B</ans\u200bwer>", None, False, False),
    (LETTERED, "<thinking>x</thinking><answer>A</answer>", "A", False, True),
    # closing statements: lenient only
    (LETTERED, "<think>x</think>The answer is A.", None, False, True),
    (LETTERED, "Final answer: **A. pneumonia**", None, False, True),
    (LETTERED, "The answer is \\boxed{A}", None, False, True),
    (LETTERED, "The answer is A. pneumonia. It is seen on the film.", None, False, True),
    (PLAIN, "The answer is pneumonia. It is seen on the film.", None, False, True),
    (PLAIN, "The answer is pneumonia. It may also be pulmonary edema.", None, False, False),
    (LETTERED, "The answer is not A.", None, False, False),
    (LETTERED, "The answer is A. The answer is B.", None, False, False),
    (LETTERED, "<think>The answer is A.", None, False, False),
    (LETTERED, "pneumonia", None, False, True),
    (LETTERED, "It may be A.\nOr it may be B.", None, False, False),
    # yes and no
    (YES, block("Yes."), "Yes.", True, True),
    (YES, block("no"), "no", False, False),
    (YES, block("yes and no"), "yes and no", False, False),
    (YES, block("Yes, the rate is fast"), "Yes, the rate is fast", False, True),
    (YES, block("Yes, no doubt it is not"), "Yes, no doubt it is not", False, False),
    (YES, block("not yes"), "not yes", False, False),
    # numbers and units
    (RATE, block("102 bpm"), "102 bpm", True, True),
    (RATE, block("102/min"), "102/min", True, True),
    (RATE, block("102.0 beats/min"), "102.0 beats/min", True, True),
    (RATE, block("102"), "102", True, True),
    (RATE, block("1020 bpm"), "1020 bpm", False, False),
    (RATE, block("-102 bpm"), "-102 bpm", False, False),
    (RATE, block("102 to 110 bpm"), "102 to 110 bpm", False, False),
    (RATE, block("102 mmHg"), "102 mmHg", False, False),
    (DOSE, block("1.5 g"), "1.5 g", True, True),
    (DOSE, block("1500mg"), "1500mg", True, True),
    (DOSE, block("1,5 g"), "1,5 g", False, False),
    (DOSE, block("15 g"), "15 g", False, False),
    # signs that tell options apart
    (BLOOD, block("A-"), "A-", True, True),
    (BLOOD, block("A+"), "A+", False, False),
    (BLOOD, block("A"), "A", False, False),
    (RANGE, block("> 50 mm"), "> 50 mm", True, True),
    (RANGE, block("5 cm"), "5 cm", False, False),
    (RANGE, block("B. < 5 cm"), "B. < 5 cm", False, False),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case[1][:60].encode("unicode_escape").decode())
def test_table(case):
    asked, completion, answer, correct, lenient = case
    assert extract(completion).answer == answer
    strict = verify(asked, completion)
    assert (strict.extracted, strict.correct) == (answer is not None, correct)
    assert verify(asked, completion, strict=False).correct is lenient


def test_table_is_long_enough():
    assert len({completion for _, completion, *_ in TABLE}) >= 60


@pytest.mark.parametrize(
    ("completion", "ok", "problem"),
    [
        ("<answer>A</answer>", True, ""),
        (" <answer>A</answer>\n", True, ""),
        ("It is <answer>A</answer>", False, "text_outside_blocks"),
        (block("A"), False, "think_block_not_asked_for"),
        ("<answer>A</answer><answer>A</answer>", False, "two_answer_blocks"),
        ("A", False, "no_answer_block"),
    ],
)
def test_form_without_thinking(completion, ok, problem):
    read = extract(completion, thinking=False)
    assert (read.format_ok, read.problem) == (ok, problem)
    assert verify(LETTERED, completion, thinking=False).correct is ok


@pytest.mark.parametrize(
    ("completion", "thinking"),
    [
        (block("A", " x "), "x"),
        ("x</think><answer>A</answer>", "x"),
        ("<think>x <answer>A</answer>", "x"),
        ("<think>cut off", "cut off"),
        ("<answer>A</answer>", ""),
        ("<think>x</think><think>y</think>", "x"),
    ],
)
def test_thinking(completion, thinking):
    assert thinking_of(completion) == extract(completion).thinking == thinking


def test_letter_that_is_another_options_text_is_wrong():
    blood = question(options=["O", "A", "B"], answer="A", label="B")
    assert not matches(blood, "B")  # the letter of A, and the text of another option
    assert matches(blood, "B. A")


def test_listed_twice_the_right_option_stays_right():
    assert matches(question(options=["fast", "fast", "slow"], answer="fast", label="A"), "B")


def test_synonym_of_an_option():
    asked = question(options=["hypertension", "normal"], answer="hypertension", synonyms=["high blood pressure"])
    assert matches(asked, "High blood-pressure.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("M\u00e9ni\u00e8re\u2019s disease", "menieres disease"),
        ("38 \u2103", "38.0 degrees Celsius"),
        ("an apple", "Apple!"),
        ("\u00bd", "1/2"),
        ("two", "2"),
        ("10\u201320", "10 to 20"),
        ("\u22655", ">= 5"),
        ("24 hours", "1 day"),
        ("5 per cent", "5%"),
        ("120/80 mm Hg", "120/80 mmHg"),
        ("500 \u00b5g", "0.5 mg"),
    ],
)
def test_normalised_equal(one, other):
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.5", "15"),
        ("-5", "5"),
        ("A+", "A-"),
        ("A+", "A"),
        ("hepatitis A", "hepatitis"),
        ("10\u2079", "109"),
        ("< 5", "5"),
        ("fast", "not fast"),
        ("5 mg", "5 g"),
        ("5 mg/dl", "5 mg"),
        ("1/2", "12"),
    ],
)
def test_normalised_different(one, other):
    assert normalise(one) != normalise(other)


TEXT = st.text(max_size=60)
PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "A", "pneumonia", " ", "The answer is B."]),
    max_size=9,
)


@given(PIECES)
def test_strict_is_what_the_pattern_says(pieces):
    text = "".join(pieces)
    tags = [piece for piece in pieces if piece.startswith("<")]
    read = extract(text)
    if read.format_ok:
        assert tags == ["<think>", "</think>", "<answer>", "</answer>"] and read.answer
        head, _, tail = text.partition("</think>")
        assert head.strip().startswith("<think>") and tail.strip().startswith("<answer>")
        assert tail.strip().endswith("</answer>")
    strict, lenient = verify(LETTERED, text), verify(LETTERED, text, strict=False)
    assert not strict.correct or (strict.extracted and strict.format_ok and lenient.correct)
    assert lenient.extracted or not strict.extracted


@given(TEXT, TEXT)
def test_any_text_round_trips(thinking, answer):
    if tags_in(thinking) or tags_in(answer):
        return
    text = f"<think>{thinking}</think><answer>{answer}</answer>"
    read = extract(text)
    assert read.thinking == thinking.strip()
    assert read.answer in (None, answer.strip())
    verify(LETTERED, text, strict=False)


@given(st.sampled_from(OPTIONS), st.sampled_from(OPTIONS))
def test_two_options_are_never_right(one, other):
    for joined in (f"{one} or {other}", f"{one}, {other}", f"{one}\n{other}", f"{one} {other}"):
        assert not verify(LETTERED, block(joined)).correct


@given(TEXT)
@settings(max_examples=200)
def test_normalising_is_stable(text):
    assert normalise(fold(text)) == normalise(text) or any(not c.isascii() for c in text)
    assert normalise(text.upper()) == normalise(text) or not text.isascii()


MEGABYTE = {
    "think tags": "<think>" * 150_000,
    "answer blocks": "<answer>A</answer>" * 60_000,
    "angle brackets": "<" * 1_000_000,
    "spaced brackets": "<    " * 200_000,
    "wide brackets": "\uff1c" * 1_000_000,
    "other tags": "\u00e9<b>" * 250_000,
    "combining marks": block("\u0300\u0327" * 500_000),
    "long answer": block("A " * 500_000),
    "digits": block("1" * 1_000_000),
    "statements": "answer is " * 100_000,
    "lines": "A\n" * 500_000,
    "gap": "<think>x</think>" + " " * 1_000_000 + "<answer>A</answer>",
    "slashes": "\\boxed{" * 150_000,
}


@pytest.mark.parametrize("name", MEGABYTE)
def test_a_megabyte_is_read_in_no_time(name):
    begin = time.process_time()
    strict = verify(LETTERED, MEGABYTE[name])
    verify(LETTERED, MEGABYTE[name], strict=False)
    thinking_of(MEGABYTE[name])
    assert time.process_time() - begin < 2.0  # some 0.01 to 0.3 s; a quadratic reading takes minutes
    assert strict.correct is (name == "gap")

"""Which of a teacher's samples becomes a trace to learn: the right ones, of those the sound ones, of those one.

MedVLThinker (code) takes the first right sample. A right answer may still stand under a thinking that teaches nothing
good; each gate below (ours) names one such fault, and a question whose right samples all fail is rejected for the first
sample's fault.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from grandrounds.domain import answers, judging
from grandrounds.params import Gates
from grandrounds.records import Question

_GIVEN_AWAY = re.compile(r"\banswer (is|should be|must be)\b|\banswer\W*:", re.IGNORECASE)
FOREIGN = 0.1  # share of letters in another script that makes a thinking one of another language


@dataclass(frozen=True, slots=True)
class Choice:
    """The sample to learn from, by its place, or why there is none; and how many were right."""

    sample: int | None
    correct: int
    reason: str = ""  # "never_read", "never_right", or the gate


def choose(question: Question, completions: Sequence[str], gates: Gates, how: str) -> Choice:
    """Among a question's samples in order: the first, shortest or longest right one that passes all gates, or the one
    that states most of the question's key facts (`facts`; the shorter of two).
    """
    reads = [answers.verify(question, each) for each in completions]
    right = [i for i, read in enumerate(reads) if read.correct]
    if not right:
        return Choice(None, 0, "never_right" if any(read.extracted for read in reads) else "never_read")
    thoughts = {i: answers.thinking_of(completions[i]) for i in right}
    faults = {i: fault(question, thoughts[i], reads[i].answer, gates) for i in right}
    sound = [i for i in right if not faults[i]]
    if not sound:
        return Choice(None, len(right), faults[right[0]])
    length = {i: len(thoughts[i].split()) for i in sound}
    order = {
        "first": lambda i: (0, i),
        "shortest": lambda i: (length[i], i),
        "longest": lambda i: (-length[i], i),
        "facts": lambda i: (-facts(question, thoughts[i]), length[i], i),
    }[how]
    return Choice(min(sound, key=order), len(right))


def fault(question: Question, thinking: str, answer: str, gates: Gates) -> str:
    """The first gate that a thinking fails, "" when it passes them all."""
    words = re.findall(r"\w+", thinking.casefold())
    if len(words) < gates.min_words:
        return "too_short"
    if len(words) > gates.max_words:
        return "too_long"
    if gates.script == "latin" and _foreign(thinking) > FOREIGN:
        return "language"
    if _repeated(words) > gates.repeated:
        return "repeated"
    asked = " ".join([question.question, *question.options])
    if _copied(words, re.findall(r"\w+", asked.casefold())) > gates.copied:
        return "copied"
    said = judging.statements(thinking)
    if len(said) > 1 and _GIVEN_AWAY.search(re.split(r"[.!?\n]", thinking.strip(), maxsplit=1)[0]):
        return "answer_first"
    if said and _contradicts(question, said[-1], answer):
        return "contradiction"
    return ""


def facts(question: Question, thinking: str) -> int:
    """How many of the question's key facts the thinking states."""
    said = judging.statements(thinking)
    return sum(any(judging.states(text, fact) for text in said) for fact in question.key_facts)


def _contradicts(question: Question, last: str, answer: str) -> bool:
    """Whether the last statement names another of the possible answers, and not the one given."""
    possible = ["yes", "no"] if question.kind == "yes_no" else question.options
    given = answers.normalise(answer)
    if judging.states(last, given):
        return False
    return any(judging.states(last, other) for each in possible if (other := answers.normalise(each)) != given)


def _foreign(text: str) -> float:
    letters = [each for each in text if each.isalpha()]
    return sum(not unicodedata.name(each, "").startswith("LATIN") for each in letters) / max(1, len(letters))


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _repeated(words: Sequence[str], n: int = 4) -> float:
    """The share of n-grams that stood there before."""
    found = _ngrams(words, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def _copied(words: Sequence[str], source: Sequence[str], n: int = 8) -> float:
    """The share of n-grams that stand in the source."""
    found, theirs = _ngrams(words, n), set(_ngrams(source, n))
    return sum(each in theirs for each in found) / len(found) if found else 0.0

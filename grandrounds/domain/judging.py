"""Judging predictions: the offline reference judge, and the question and answer form of language-model judges (RARL).

Two scores a prediction, each 0, 1 or None (*unscored is not zero*): the final answer, and the reasoning, which is
judged only where the question has a reference explanation and thinking was asked for. What is said to a language model
is data between markers that the data cannot hold; what it says back is read strictly, and refused rather than guessed.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grandrounds.domain import answers
from grandrounds.errors import one_line
from grandrounds.records import Prediction, Question, Verdict

REFERENCE = "reference"
MAX_TEXT = 20_000  # characters of one part shown to a judge, or of thinking searched for facts


@dataclass(frozen=True, slots=True)
class Scores:
    """One judge's reading of one prediction. `problem` says why nothing was scored."""

    prediction: int | None
    reasoning: int | None
    evaluation: str
    problem: str = ""


def reasoning_applies(question: Question, prediction: Prediction) -> bool:
    """Whether there is a reasoning to judge: it was asked for, and there is something to hold it against."""
    return prediction.prompt != "no_reasoning" and bool(question.key_facts or question.explanation.strip())


def verdict(prediction: Prediction, judge: str, scores: Scores) -> Verdict:
    return Verdict(
        prediction.arm,
        prediction.question_id,
        prediction.split,
        prediction.prompt,
        judge,
        scores.prediction,
        scores.reasoning,
        one_line(scores.evaluation),
    )


# --- the reference judge: no language model --------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n")
_DENIALS = frozenset({"not", "never", "cannot", "neither", "nor", "without", "unlikely"})
# a number beside one of these is part of another one: -5, 120/80, 10^9, 60 to 100
_JOINS_BEFORE = ("minus", "/", "^", "<", ">", "<=", ">=")
_JOINS_AFTER = ("/", "^", "to")


def reference_scores(question: Question, prediction: Prediction) -> Scores:
    """Final score: the verifier's strict reading. Reasoning score: 1 for a complete, consistent thinking, else 0.

    That is: every key fact stands in the thinking, its last statement names the question's conclusion and no other, and
    the answer given (read leniently) is right. None where the question has no key facts, or no thinking was asked for.
    """
    final = int(prediction.correct)
    said = _said_of_answer(question, prediction)
    if prediction.prompt == "no_reasoning" or not question.key_facts:
        return Scores(final, None, f"{said}; its reasoning is not judged.")
    said_in = statements(answers.thinking_of(prediction.completion))
    if not said_in:
        return Scores(final, 0, f"{said}; there is no thinking.")
    for fact in question.key_facts:
        if not any(states(text, fact) for text in said_in):
            return Scores(final, 0, f"{said}; the thinking lacks the fact '{one_line(fact, 100)}'.")
    if question.conclusion and not _concludes(question, said_in[-1]):
        return Scores(final, 0, f"{said}; the thinking has the facts but does not conclude '{question.conclusion}'.")
    if not prediction.correct_lenient:
        return Scores(final, 0, f"{said}; the thinking is sound but the answer does not follow it.")
    return Scores(final, 1, f"{said}; the thinking states every key fact and concludes as the answer does.")


def states(text: str, fact: str) -> bool:
    """Whether a normalised text holds a fact as whole words and whole numbers: 10 is not in 100, 5 not in -5."""
    wanted = answers.normalise(fact).split()
    words = text.split()
    size = len(wanted)
    for start in range(len(words) - size + 1 if wanted else 0):
        if words[start : start + size] != wanted:
            continue
        before = words[start - 1] if start else ""
        after = words[start + size] if start + size < len(words) else ""
        if wanted[0][-1].isdigit() and before in _JOINS_BEFORE:
            continue
        if wanted[-1][-1].isdigit() and after in _JOINS_AFTER:
            continue
        return True
    return False


def statements(thinking: str) -> list[str]:
    """The sentences, normalised. A dot inside a number ends none."""
    sentences = (answers.normalise(part) for part in _SENTENCE_END.split(thinking[-MAX_TEXT:]))
    return [sentence for sentence in sentences if sentence]


def _concludes(question: Question, statement: str) -> bool:
    conclusion = answers.normalise(question.conclusion)
    if not states(statement, conclusion):
        return False
    rest = f" {statement} ".replace(f" {conclusion} ", " | ")
    if not _DENIALS.isdisjoint(rest.split()):
        return False
    if conclusion in ("yes", "no"):
        return ({"yes": "no", "no": "yes"})[conclusion] not in rest.split()
    others = {answers.normalise(option) for option in question.options} - {conclusion, ""}
    # "very fast" holds "fast": where that is the conclusion, the whole statement is searched for the longer name
    return not any(states(statement if states(other, conclusion) else rest, other) for other in others)


def _said_of_answer(question: Question, prediction: Prediction) -> str:
    if not prediction.extracted:
        return "No answer could be read"
    given, right = one_line(prediction.answer, 100), one_line(question.answer, 100)
    if prediction.correct:
        return f"The answer '{given}' is right"
    if prediction.correct_lenient:
        return f"The answer '{given}' is right but not in the required form"
    return f"The answer '{given}' is not '{right}'"


# --- asking a language model ----------------------------------------------------------------------------------------

_MARKER_LIKE = re.compile(r"<{2,}|>{2,}|[\uff1c\ufe64\u27e8\u2329\u00ab]{2,}|[\uff1e\ufe65\u27e9\u232a\u00bb]{2,}")
REPAIR = (
    "That could not be read: {problem}. Reply again with the JSON object only: "
    '{{"evaluation": "<one sentence>", "reasoning_score": 0 or 1, "prediction_score": 0 or 1}}.'
)


def schema(reasoning: bool) -> dict[str, Any]:
    """JSON schema of a reply, for endpoints that hold a model to one; :func:`parse` trusts none of them."""
    score = {"type": "integer", "enum": [0, 1]}
    properties = {
        "evaluation": {"type": "string"},
        "reasoning_score": score if reasoning else {"type": "null"},
        "prediction_score": score,
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def messages(prompt: str, question: Question, prediction: Prediction) -> list[dict[str, str]]:
    """The chat for one prediction: `prompt` as the system's turn, the data as the user's, each part between markers.

    The markers hold a code derived from the data, so no text can hold its own; runs of angle brackets in the data, of
    which a forged marker would be made, are pulled apart. The same data give the same messages, the key of the cache.
    """
    judged = reasoning_applies(question, prediction)
    parts = {
        "question": question.question + "".join(f"\n{line}" for line in _listed(question)),
        "ground truth": f"{question.label}. {question.answer}" if question.label else question.answer,
        "reference explanation": question.explanation if judged else "",
        "prediction": prediction.completion,
    }
    parts = {name: _harmless(text) for name, text in parts.items() if text.strip()}
    code = _code(list(parts.values()))
    body = "\n".join(f"<<<begin {name} {code}>>>\n{text}\n<<<end {name} {code}>>>" for name, text in parts.items())
    task = (
        f"Only markers with the code {code} count. "
        f"{'Score reasoning and prediction.' if judged else 'Set reasoning_score to null: there is none to judge.'}"
    )
    return [{"role": "system", "content": prompt.strip()}, {"role": "user", "content": f"{body}\n{task}"}]


def repair(conversation: list[dict[str, str]], reply: str, problem: str) -> list[dict[str, str]]:
    """The conversation for the one repair try."""
    asked = {"role": "user", "content": REPAIR.format(problem=problem)}
    return [*conversation, {"role": "assistant", "content": reply[:MAX_TEXT] or "(nothing)"}, asked]


def parse(reply: str, *, reasoning: bool) -> Scores:
    """Read a judge's reply: one JSON object, alone, in a code fence, or with prose around it.

    Both scores must be the whole numbers 0 or 1; `reasoning_score` may be null, and is left out, where `reasoning` does
    not apply. Anything else, two objects that differ too, is unscored with a problem; nothing is guessed.
    """
    found = list(_objects(reply[: 5 * MAX_TEXT]))
    if not found:
        return _unscored("no JSON object" if reply.strip() else "empty reply", reply)
    if any(scores != found[0] for scores in found[1:]):
        return _unscored("several JSON objects that differ", reply)
    value = found[0]
    if isinstance(value, str):
        return _unscored(value, reply)
    given = {"prediction_score": True, "reasoning_score": reasoning}
    for key, needed in given.items():
        if key not in value and needed:
            return _unscored(f"'{key}' is missing", reply)
        score = value.get(key)
        if not (type(score) is int and score in (0, 1)) and (needed or score is not None):
            return _unscored(f"'{key}' must be 0 or 1, not {one_line(json.dumps(score), 40)}", reply)
    if not isinstance(value.get("evaluation"), str):
        return _unscored("'evaluation' must be a sentence", reply)
    return Scores(value["prediction_score"], value["reasoning_score"] if reasoning else None, value["evaluation"])


def _objects(reply: str) -> Iterator[dict[str, Any] | str]:
    """The outermost JSON objects in a text that have one of our keys; a string instead says what is wrong with one."""
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles)
    at, tries = reply.find("{"), 0
    while at >= 0 and tries < 50:
        tries += 1
        try:
            value, end = decoder.raw_decode(reply, at)
        except _Doubled as error:
            yield str(error)
            return
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if not {"prediction_score", "reasoning_score", "evaluation"}.isdisjoint(value):
                yield value
        at = reply.find("{", end)


class _Doubled(Exception):
    pass


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise _Doubled("a key is given twice")
    return value


def _unscored(problem: str, reply: str) -> Scores:
    return Scores(None, None, f"unscored: {problem}; the reply was: {one_line(reply, 200) or '(nothing)'}", problem)


def _listed(question: Question) -> list[str]:
    if question.label:
        return [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(question.options)]
    return [f"- {option}" for option in question.options]


def _harmless(text: str) -> str:
    if len(text) > MAX_TEXT:
        text = f"{text[: MAX_TEXT // 2]}\n[... {len(text) - MAX_TEXT} characters cut ...]\n{text[-MAX_TEXT // 2 :]}"
    if text.isascii() and "<<" not in text and ">>" not in text:
        return text
    return _MARKER_LIKE.sub(lambda match: " ".join(match.group()), text)


def _code(texts: list[str]) -> str:
    seed = "\x1f".join(texts)
    while True:
        seed = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()
        if not any(seed[:12] in text for text in texts):
            return seed[:12]

"""Verifiable rewards for GRPO, one function each, in TRL's shape and in one table.

    reward(completions, *, <dataset columns>, **kwargs) -> list[float | None]

`completions` are strings or conversations of one assistant turn. Columns used, one value a completion: `question` (a
dict of :class:`~grandrounds.records.Question`'s fields), `prefill` (text that the prompt put at the head of the
assistant's turn; it counts as completion), and TRL's own `completion_ids` (generated tokens). None: the reward does not
apply to that row, which is then judged by the others alone. What needs a model takes a :class:`Scorer`; :func:`build`
hands it in.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from grandrounds.domain import answers
from grandrounds.errors import unknown
from grandrounds.params import Weight
from grandrounds.records import Question

Completions = Sequence[str | list[dict[str, Any]]]
Rewards = list[float | None]


class Scorer(Protocol):
    """A graded likeness of two texts: BERTScore's F1."""

    def f1(self, candidates: Sequence[str], references: Sequence[str]) -> list[float]:
        """One F1 in [0, 1] for each pair; an empty text scores 0."""
        ...


def gated_correctness(
    completions: Completions,
    *,
    question: Sequence[Mapping[str, Any]],
    prefill: Sequence[str] | None = None,
    **kwargs: Any,
) -> Rewards:
    """MedVLThinker (code): 0 unless the whole completion has the exact form; then 1 if the answer is right, else 0."""
    return [
        float(answers.verify(asked, text).correct)
        for asked, text in zip(_questions(question), texts(completions, prefill), strict=True)
    ]


def format(completions: Completions, *, prefill: Sequence[str] | None = None, **kwargs: Any) -> Rewards:
    """RARL (paper): 1.0 for exactly a think block then an answer block; 0.1 when only some tags are there; 0 with none.

    An empty answer, a second block or nested tags are not the exact form: 0.1 (ours; the paper does not say).
    """
    return [_format(text) for text in texts(completions, prefill)]


def _format(text: str) -> float:
    if answers.extract(text).format_ok:
        return 1.0
    return 0.1 if answers.tags_in(text) else 0.0


def length(
    completions: Completions, *, completion_ids: Sequence[Sequence[int]], limit: int = 1000, **kwargs: Any
) -> Rewards:
    """RARL (paper): min(0.001 * completion tokens, 1.0), that is `limit` = 1000.

    The trainer passes its own completion limit: with 64 new tokens the paper's scale would never exceed 0.064 (ours).
    """
    _one_row_each("length", completions, completion_ids)
    return [min(len(tokens) / limit, 1.0) for tokens in completion_ids]


def accuracy(
    completions: Completions,
    *,
    question: Sequence[Mapping[str, Any]],
    scorer: Scorer,
    prefill: Sequence[str] | None = None,
    **kwargs: Any,
) -> Rewards:
    """RARL (paper): multiple choice and yes/no 1 or 0; open-ended the BERTScore F1 of answer and reference.

    The answer is that of the only answer block, outside the thinking; without one the reward is 0. The rest of the form
    is the format reward's business. Open-ended answers take the best of reference and synonyms; one that the verifier
    accepts is 1 (ours: else "102 bpm" for "102 beats per minute" would lose points to an encoder blind to numbers).
    """
    asked = _questions(question)
    given = [answers.extract(text).answer for text in texts(completions, prefill)]
    rewards: Rewards = [
        float(answer is not None and answers.matches(item, answer)) for item, answer in zip(asked, given, strict=True)
    ]
    graded = [i for i, item in enumerate(asked) if item.kind == "open_ended" and given[i] and rewards[i] == 0.0]
    pairs = [(i, reference) for i in graded for reference in (asked[i].answer, *asked[i].synonyms)]
    found = scorer.f1([given[i] or "" for i, _ in pairs], [reference for _, reference in pairs]) if pairs else []
    for (i, _), f1 in zip(pairs, found, strict=True):
        rewards[i] = max(rewards[i] or 0.0, _fraction(f1))
    return rewards


def reasoning(
    completions: Completions,
    *,
    question: Sequence[Mapping[str, Any]],
    scorer: Scorer,
    prefill: Sequence[str] | None = None,
    **kwargs: Any,
) -> Rewards:
    """RARL rewards thinking where a reference explanation exists (paper); measured here by BERTScore F1 with it (ours).

    None for questions without an explanation; 0 for an empty thinking.
    """
    asked = _questions(question)
    thoughts = [answers.thinking_of(text) for text in texts(completions, prefill)]
    with_reference = [i for i, item in enumerate(asked) if item.explanation.strip()]
    found = scorer.f1([thoughts[i] for i in with_reference], [asked[i].explanation for i in with_reference])
    rewards: Rewards = [None] * len(thoughts)
    for i, f1 in zip(with_reference, found, strict=True):
        rewards[i] = _fraction(f1)
    return rewards


def repetition(completions: Completions, *, completion_ids: Sequence[Sequence[int]], **kwargs: Any) -> Rewards:
    """Minus the share of a completion's token 4-grams that stood in it before, in [-1, 0] (the measure of open-r1).

    With the length reward's weight or more, padding never pays: L tokens with U distinct 4-grams earn together
    L / limit - (1 - U / L), which up to the limit is at most U / limit: what the distinct part would earn alone.
    """
    _one_row_each("repetition", completions, completion_ids)
    return [-_repeated(tokens) for tokens in completion_ids]


def _repeated(tokens: Sequence[int], width: int = 4) -> float:
    """In the ring of tokens, so that every token opens a 4-gram, and a passage repeated k times has exactly 1/k."""
    if len(tokens) < 2 * width:  # too short for one to come back
        return 0.0
    ring = [*tokens, *tokens[: width - 1]]
    grams = {tuple(ring[i : i + width]) for i in range(len(tokens))}
    return 1 - len(grams) / len(tokens)


def overlong(
    completions: Completions, *, completion_ids: Sequence[Sequence[int]], limit: int = 1000, **kwargs: Any
) -> Rewards:
    """DAPO (2503.14476): 0 up to 0.8 limit tokens, then a straight line down to -1 at the limit."""
    _one_row_each("overlong", completions, completion_ids)
    soft = 0.8 * limit
    return [-_fraction((len(tokens) - soft) / (limit - soft)) for tokens in completion_ids]


REWARDS: dict[str, Callable[..., Rewards]] = {
    "gated_correctness": gated_correctness,  # MedVLThinker, 2508.02669
    "format": format,  # this and the next three: RARL, 2506.06600
    "length": length,
    "accuracy": accuracy,
    "reasoning": reasoning,
    "repetition": repetition,  # these two are penalties, ours to offer: no published recipe has them
    "overlong": overlong,
}
NEEDS_SCORER = frozenset({"accuracy", "reasoning"})


def weights_at(weights: Mapping[str, Weight], step: int) -> list[float]:
    """Each reward's weight at an optimizer step, in the order of `weights`.

    A schedule {step: weight} is a straight line between its steps; before the first and after the last it is constant.
    """
    return [_at(weight, step) for weight in weights.values()]


def _at(weight: Weight, step: int) -> float:
    if not isinstance(weight, Mapping):
        return weight
    before = max((each for each in weight if each <= step), default=min(weight))
    after = min((each for each in weight if each >= step), default=max(weight))
    if before >= after:
        return weight[before]
    return weight[before] + (weight[after] - weight[before]) * (step - before) / (after - before)


def build(
    weights: Mapping[str, Weight], scorer: Scorer | None = None, limit: int = 1000
) -> tuple[list[Callable[..., Rewards]], list[float]]:
    """The named rewards as TRL's `reward_funcs`, each with its `__name__`, and their `reward_weights` at step 0.

    `limit` is the completion length that the length reward calls full. UserError for an unknown name; ValueError when a
    reward needs a scorer and there is none.
    """
    functions: list[Callable[..., Rewards]] = []
    for name in weights:
        if name not in REWARDS:
            raise unknown("reward", name, REWARDS)
        if name in NEEDS_SCORER and scorer is None:
            raise ValueError(f"the reward '{name}' needs a scorer")
        bound = functools.partial(REWARDS[name], scorer=scorer, limit=limit)
        functools.update_wrapper(bound, REWARDS[name])
        functions.append(bound)
    return functions, weights_at(weights, 0)


def texts(completions: Completions, prefill: Sequence[str] | None = None) -> list[str]:
    """Each completion as one string: the text of its assistant turns, after what the prompt prefilled."""
    heads = prefill if prefill is not None else [""] * len(completions)
    return [(head or "") + _text(completion) for head, completion in zip(heads, completions, strict=True)]


def _text(completion: str | list[dict[str, Any]]) -> str:
    if isinstance(completion, str):
        return completion
    return "".join(_content(turn.get("content")) for turn in completion if turn.get("role", "assistant") == "assistant")


def _content(content: Any) -> str:
    """A turn's text: a string, or a list of parts of which the text ones count."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text") or "" for part in content if part.get("type", "text") == "text")


def _questions(rows: Sequence[Mapping[str, Any] | Question]) -> list[Question]:
    return [row if isinstance(row, Question) else Question(**row) for row in rows]


def _one_row_each(name: str, completions: Completions, completion_ids: Sequence[Sequence[int]]) -> None:
    if len(completion_ids) != len(completions):
        raise ValueError(f"{name}: {len(completions)} completions but {len(completion_ids)} rows of completion_ids")


def _fraction(value: float) -> float:
    """Into [0, 1]: cosines may fall a rounding error outside, or below 0 for unrelated texts."""
    return min(max(float(value), 0.0), 1.0)

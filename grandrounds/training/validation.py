"""A model in training, asked some questions of the validation split: never of test."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from grandrounds import decoding
from grandrounds.domain.answers import verify
from grandrounds.domain.judging import reference_scores
from grandrounds.domain.prompts import Form
from grandrounds.encoding import Encoder
from grandrounds.params import Checkpoints, Sampling
from grandrounds.records import Prediction, Question
from grandrounds.training.checkpoints import Score

BATCH = 64  # prompts decoded at once


def sample(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """The questions that every checkpoint is asked, in the split's order."""
    drawn = random.Random(f"{seed}/validation").sample(range(len(questions)), min(count, len(questions)))
    return [questions[i] for i in sorted(drawn)]


def scorer(
    encoder: Encoder, questions: Sequence[Question], form: Form, settings: Checkpoints, seed: int
) -> Callable[[Any, int], Score] | None:
    """`score(model, step)`: greedy answers under one form, read by the strict verifier and the reference judge.

    No random number is drawn, so that scoring changes no training. None where nothing is to be scored.
    """
    asked = sample(questions, settings.questions, seed)
    if not settings.every or not asked:
        return None
    sampling = Sampling(temperature=0.0, max_new_tokens=settings.max_new_tokens)

    def score(model: Any, step: int) -> Score:
        right, reasoned, tokens = [], [], []
        for question, ids, finished in answers(model, encoder, asked, form, sampling):
            found = prediction(question, form, form.prefill + encoder.decode(ids), len(ids) + finished, finished)
            right.append(found.correct)
            tokens.append(found.tokens)
            if (reasoning := reference_scores(question, found).reasoning) is not None:
                reasoned.append(reasoning)
        mean = sum(reasoned) / len(reasoned) if reasoned else None
        return Score(step, sum(right) / len(right), mean, sum(tokens) / len(tokens))

    return score


def answers(
    model: Any, encoder: Encoder, questions: Sequence[Question], form: Form, sampling: Sampling
) -> list[tuple[Question, list[int], bool]]:
    """Each question with its answer's tokens, and whether that came to its end; prompts of like length together."""
    prompts = [(question, encoder.prompt(question, form)) for question in questions]
    prompts.sort(key=lambda each: (len(each[1].ids), each[0].id))
    out = []
    for first in range(0, len(prompts), BATCH):
        part = prompts[first : first + BATCH]
        drawn = decoding.draw(model, encoder, [prompt for _, prompt in part], [[0]] * len(part), sampling)
        out += [(question, one.ids, one.finished) for (question, _), (one,) in zip(part, drawn, strict=True)]
    return out


def prediction(question: Question, form: Form, text: str, tokens: int, finished: bool) -> Prediction:
    strict = verify(question, text, thinking=form.thinking)
    lenient = verify(question, text, thinking=form.thinking, strict=False)
    return Prediction(
        arm="", question_id=question.id, split=question.split, prompt="reasoning", completion=text, tokens=tokens,
        finished=finished, extracted=strict.extracted, format_ok=strict.format_ok, answer=strict.answer,
        correct=strict.correct, correct_lenient=lenient.correct,
    )  # fmt: skip

"""Judges behind one protocol: the offline reference, and language models behind any endpoint."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from grandrounds.domain import judging
from grandrounds.domain.judging import Scores
from grandrounds.engines.chat import Answer, Ask, Chat, Turn
from grandrounds.engines.remote import connect
from grandrounds.params import ReferenceJudge, RemoteSettings, Sampling
from grandrounds.records import Prediction, Question, Verdict

Case = tuple[Question, Prediction]

SAMPLING = Sampling(temperature=0.0, max_new_tokens=500)


class Judge(Protocol):
    """`done` is called with the number of cases scored since the last call."""

    def judge(self, cases: Sequence[Case], done: Callable[[int], None] = lambda n: None) -> list[Verdict]:
        """One verdict a case, in the order of the cases. A case that cannot be scored has None, with the reason."""
        ...


def make(name: str, settings: ReferenceJudge | RemoteSettings, prompt: str, cache: Path) -> Judge:
    """The judge of one entry of `judge.judges`. A missing key is a UserError here, before any call."""
    if isinstance(settings, ReferenceJudge):
        return Reference(name)
    return LanguageModel(name, connect(settings, f"judge.judges.{name}", cache), prompt)


class Reference:
    """The deterministic judge of :func:`grandrounds.domain.judging.reference_scores`."""

    def __init__(self, name: str = judging.REFERENCE) -> None:
        self.name = name

    def judge(self, cases: Sequence[Case], done: Callable[[int], None] = lambda n: None) -> list[Verdict]:
        verdicts = []
        for question, prediction in cases:
            verdicts.append(judging.verdict(prediction, self.name, judging.reference_scores(question, prediction)))
            done(1)
        return verdicts


class LanguageModel:
    """Asks a language model about every distinct case; a reply that cannot be read gets one repair try."""

    def __init__(self, name: str, chat: Chat, prompt: str) -> None:
        self.name = name
        self._chat, self._prompt = chat, prompt

    def judge(self, cases: Sequence[Case], done: Callable[[int], None] = lambda n: None) -> list[Verdict]:
        """What was answered before a UserError ends the run is in the cache."""
        distinct: dict[str, _Asked] = {}
        for i, (question, prediction) in enumerate(cases):
            messages = judging.messages(self._prompt, question, prediction)
            asked = _Asked(messages, judging.reasoning_applies(question, prediction))
            distinct.setdefault(messages[-1]["content"], asked).cases.append(i)
        scores: list[Scores | None] = [None] * len(cases)
        for key, found in self._scored(distinct):
            for i in distinct[key].cases:
                scores[i] = found
            done(len(distinct[key].cases))
        return [
            judging.verdict(prediction, self.name, found)
            for (_, prediction), found in zip(cases, scores, strict=True)
            if found is not None
        ]

    def _scored(self, distinct: "Mapping[str, _Asked]") -> Iterator[tuple[str, Scores]]:
        repairs: dict[str, list[Turn]] = {}
        for answer in self._answers({key: asked.messages for key, asked in distinct.items()}, distinct):
            scores = read(answer, distinct[answer.id].reasoning)
            if scores.problem and answer.reply is not None:
                repairs[answer.id] = judging.repair(distinct[answer.id].messages, answer.reply.text, scores.problem)
            else:
                yield answer.id, scores
        for answer in self._answers(repairs, distinct):
            yield answer.id, read(answer, distinct[answer.id].reasoning)

    def _answers(self, conversations: Mapping[str, list[Turn]], distinct: "Mapping[str, _Asked]") -> Iterator[Answer]:
        return self._chat.run(
            Ask(key, turns, SAMPLING, json=judging.schema(distinct[key].reasoning))
            for key, turns in conversations.items()
        )


@dataclass
class _Asked:
    """A conversation, and the cases that it is about: equal ones, whatever arm they are of, are one call."""

    messages: list[Turn]
    reasoning: bool  # is to be scored
    cases: list[int] = field(default_factory=list)


def read(answer: Answer, reasoning: bool) -> Scores:
    if answer.reply is None:
        return Scores(None, None, f"unscored: {answer.problem}", "not answered")
    return judging.parse(answer.reply.text, reasoning=reasoning)

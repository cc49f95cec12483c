"""Judges behind one protocol: the offline reference, any OpenAI-compatible endpoint, and Gemini.

Keys come from the environment only, and stand in no file, log or message. Every reply is kept under the hash of model
and conversation, so that a rerun asks for nothing that was answered before.
"""

import hashlib
import json
import os
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Protocol

from grandrounds.domain import judging
from grandrounds.domain.judging import Scores
from grandrounds.errors import UserError
from grandrounds.params import GeminiJudge, OpenAIJudge, ReferenceJudge
from grandrounds.records import Prediction, Question, Verdict

Case = tuple[Question, Prediction]
Messages = list[dict[str, str]]

ATTEMPTS = 6
LONGEST_WAIT = 60.0  # seconds, also when a server's Retry-After asks for more


class Engine(Protocol):
    """One judge. `done` is called with the number of cases scored since the last call."""

    def judge(self, cases: Sequence[Case], done: Callable[[int], None] = lambda n: None) -> list[Verdict]:
        """One verdict a case, in the order of the cases. A case that cannot be scored has None, with the reason."""
        ...


def make(name: str, settings: ReferenceJudge | OpenAIJudge | GeminiJudge, prompt: str, cache: Path) -> Engine:
    """The engine of one entry of `judge.judges`. A missing key is a UserError here, before any call."""
    if isinstance(settings, ReferenceJudge):
        return ReferenceEngine(name)
    if isinstance(settings, OpenAIJudge):
        return OpenAIEngine(name, settings, prompt, cache)
    return GeminiEngine(name, settings, prompt, cache)


class ReferenceEngine:
    """The deterministic judge of :func:`grandrounds.domain.judging.reference_scores`."""

    def __init__(self, name: str = judging.REFERENCE) -> None:
        self.name = name

    def judge(self, cases: Sequence[Case], done: Callable[[int], None] = lambda n: None) -> list[Verdict]:
        verdicts = []
        for question, prediction in cases:
            verdicts.append(judging.verdict(prediction, self.name, judging.reference_scores(question, prediction)))
            done(1)
        return verdicts


class NotAnswered(Exception):
    """A call that failed, with what to do next. The message holds no key."""

    def __init__(self, reason: str, *, retry: bool = False, after: float | None = None) -> None:
        super().__init__(reason)
        self.retry, self.after = retry, after


class LanguageModelEngine(ABC):
    """Asks a language model about every distinct case, several at once; one repair try; else unscored.

    A subclass gives :meth:`call`, and `identity`: what besides the conversation decides the reply.
    """

    def __init__(self, name: str, identity: str, prompt: str, cache: Path, concurrency: int, secret: str) -> None:
        self.name = name
        self._identity, self._prompt, self._concurrency, self._secret = identity, prompt, concurrency, secret
        self._replies = Replies(cache / f"{_hash(identity, prompt)[:24]}.jsonl")

    @abstractmethod
    def call(self, messages: Messages) -> str:
        """One call without retries. Raises NotAnswered, or UserError when no call can succeed."""

    def judge(self, cases: Sequence[Case], done: Callable[[int], None] = lambda n: None) -> list[Verdict]:
        asked: dict[str, tuple[Messages, bool]] = {}
        waiting: dict[str, list[int]] = {}
        for i, (question, prediction) in enumerate(cases):
            messages = judging.messages(self._prompt, question, prediction)
            key = _hash(self._identity, json.dumps(messages))
            asked[key] = messages, judging.reasoning_applies(question, prediction)
            waiting.setdefault(key, []).append(i)
        scores: list[Scores | None] = [None] * len(cases)
        for key, found in self._all(asked):
            for i in waiting[key]:
                scores[i] = found
            done(len(waiting[key]))
        return [
            judging.verdict(prediction, self.name, found)
            for (_, prediction), found in zip(cases, scores, strict=True)
            if found is not None
        ]

    def _all(self, asked: dict[str, tuple[Messages, bool]]) -> Iterable[tuple[str, Scores]]:
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            futures = {pool.submit(self._one, *asked[key]): key for key in asked if key not in self._replies}
            fresh = set(futures.values())
            for key in asked:
                if key not in fresh:  # what is known needs no thread
                    yield key, self._one(*asked[key])
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # an error or Ctrl-C: what has not begun does not begin
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, messages: Messages, reasoning: bool) -> Scores:
        try:
            reply = self._reply(messages)
            scores = judging.parse(reply, reasoning=reasoning)
            if scores.problem:
                scores = judging.parse(
                    self._reply(judging.repair(messages, reply, scores.problem)), reasoning=reasoning
                )
        except NotAnswered as error:
            return Scores(None, None, f"unscored: {self._redact(str(error))}", "not answered")
        return scores

    def _reply(self, messages: Messages) -> str:
        key = _hash(self._identity, json.dumps(messages))
        known = self._replies.get(key)
        if known is None:
            known = self._redact(self._with_retries(messages))
            self._replies.put(key, known)
        return known

    def _with_retries(self, messages: Messages) -> str:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        backoff = wait_random_exponential(multiplier=0.5, max=LONGEST_WAIT)

        def wait(state: Any) -> float:
            after = state.outcome.exception().after
            return min(after, LONGEST_WAIT) if after is not None else backoff(state)

        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception(lambda error: isinstance(error, NotAnswered) and error.retry),
            wait=wait,
            reraise=True,
        )
        return retrying(self.call, messages)

    def _redact(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


class OpenAIEngine(LanguageModelEngine):
    """Any endpoint that speaks OpenAI's chat completions (vLLM, Ollama, ...)."""

    def __init__(self, name: str, settings: OpenAIJudge, prompt: str, cache: Path) -> None:
        secret = _key(name, "OPENAI_API_KEY")
        identity = f"openai {settings.base_url} {settings.model}"
        super().__init__(name, identity, prompt, cache, settings.concurrency, secret)
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Any = None
        # what some endpoints refuse; left out from then on
        self._options: dict[str, Any] = {
            "response_format": {"type": "json_object"},
            "temperature": 0,
            "max_tokens": 500,
        }

    def call(self, messages: Messages) -> str:
        import openai

        options = dict(self._options)
        try:
            done = self._connected().chat.completions.create(model=self._settings.model, messages=messages, **options)
        except openai.BadRequestError as error:
            refused = [name for name in options if name in str(error)]
            if not refused:
                raise NotAnswered(f"refused as a bad request: {judging.one_line(str(error), 200)}") from None
            self._options = {key: value for key, value in self._options.items() if key not in refused}
            return self.call(messages)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._hopeless(error.status_code) from None
        except openai.APIStatusError as error:
            retry = error.status_code in (408, 409, 429) or error.status_code >= 500
            after = _seconds(error.response.headers.get("retry-after"))
            raise NotAnswered(f"HTTP {error.status_code}", retry=retry, after=after) from None
        except openai.APIConnectionError as error:  # timeouts too
            raise NotAnswered(type(error).__name__, retry=True) from None
        except (openai.OpenAIError, ValueError) as error:  # a body that is no completion
            raise NotAnswered(f"{type(error).__name__}", retry=True) from None
        choices = getattr(done, "choices", None)  # the client passes on any JSON, a list too
        if not choices or choices[0].message is None:
            raise NotAnswered("no completion in the reply", retry=True)
        return choices[0].message.content or getattr(choices[0].message, "refusal", None) or ""

    def _connected(self) -> Any:
        import openai

        with self._lock:
            if self._client is None:
                self._client = openai.OpenAI(
                    api_key=self._secret,
                    base_url=self._settings.base_url,
                    timeout=self._settings.timeout,
                    max_retries=0,  # retries are ours
                )
            return self._client

    def _hopeless(self, status: int) -> UserError:
        """The server's own message is left out: it may repeat part of the key."""
        mend = {401: "check OPENAI_API_KEY", 403: "this key may not use the model", 404: "check model and base_url"}
        return UserError(
            f"judge.judges.{self.name}: {self._settings.base_url} answered {status} for model "
            f"'{self._settings.model}'; {mend.get(status, 'check the settings')}"
        )


class GeminiEngine(LanguageModelEngine):
    """Gemini through google-generativeai, which is imported nowhere else: a successor is this class."""

    def __init__(self, name: str, settings: GeminiJudge, prompt: str, cache: Path) -> None:
        secret = _key(name, "GEMINI_API_KEY", "GOOGLE_API_KEY")
        super().__init__(name, f"gemini {settings.model}", prompt, cache, 4, secret)
        self._settings = settings
        self._lock = threading.Lock()
        self._model: Any = None

    def call(self, messages: Messages) -> str:
        from google.api_core import exceptions

        roles = {"user": "user", "assistant": "model"}
        turns = [{"role": roles[m["role"]], "parts": [m["content"]]} for m in messages if m["role"] != "system"]
        try:
            done = self._connected().generate_content(turns, request_options={"timeout": self._settings.timeout})
        except (exceptions.Unauthenticated, exceptions.PermissionDenied, exceptions.NotFound) as error:
            raise UserError(
                f"judge.judges.{self.name}: Gemini answered {error.code} for model '{self._settings.model}'; "
                "check GEMINI_API_KEY and the model's name"
            ) from None
        except (exceptions.TooManyRequests, exceptions.ServerError) as error:
            raise NotAnswered(f"HTTP {error.code}", retry=True) from None
        except exceptions.RetryError:
            raise NotAnswered("timeout", retry=True) from None
        except exceptions.GoogleAPICallError as error:
            raise NotAnswered(f"HTTP {error.code}") from None
        try:
            return done.text or ""
        except ValueError:  # blocked: there is no text
            return ""

    def _connected(self) -> Any:
        with self._lock, warnings.catch_warnings():
            if self._model is None:
                warnings.simplefilter("ignore")  # it says on import that it is out of support; we know
                import google.generativeai as genai

                genai.configure(api_key=self._secret, transport="rest")
                self._model = genai.GenerativeModel(
                    self._settings.model,
                    system_instruction=self._prompt.strip(),
                    generation_config={"temperature": 0, "response_mime_type": "application/json"},
                )
            return self._model


class Replies:
    """Replies by key in a file of one JSON object a line, only ever appended to: whole lines, by one write each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._torn = False
        if path.exists():
            text = path.read_bytes()
            self._torn = bool(text) and not text.endswith(b"\n")
            for line in text.splitlines():
                try:
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry["reply"]
                except (ValueError, KeyError, TypeError):  # torn by a kill; asked again
                    continue

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def get(self, key: str) -> str | None:
        return self._known.get(key)

    def put(self, key: str, reply: str) -> None:
        entry = {"key": key, "reply": reply, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with self._lock:
            line = json.dumps(entry).encode() + b"\n"
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, b"\n" + line if self._torn else line)
            finally:
                os.close(file)
            self._torn = False
            self._known[key] = reply


def _key(judge: str, *variables: str) -> str:
    for variable in variables:
        if os.environ.get(variable, "").strip():
            return os.environ[variable].strip()
    raise UserError(
        f"judge.judges.{judge}: the environment variable {' or '.join(variables)} is not set; "
        "set it, or take this judge out of params.yaml"
    )


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; the form with a date, and nonsense, count as not given."""
    try:
        return max(float(header), 0.0) if header else None
    except ValueError:
        return None


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

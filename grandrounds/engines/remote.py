"""Generation by a model behind an endpoint, under the same protocol as a model in this process."""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from grandrounds.domain import prompts
from grandrounds.engines import gemini, openai
from grandrounds.engines.chat import Answer, Ask, Chat, Endpoint, key_of
from grandrounds.engines.protocol import Completion, Request
from grandrounds.engines.replies import Reply
from grandrounds.engines.spending import Spent
from grandrounds.params import OpenAIEngine, Price, RemoteSettings, Sampling
from grandrounds.runtime import derive_seed


def connect(settings: RemoteSettings, where: str, cache: Path | None) -> Chat:
    """The transport of one section of params.yaml, whose key is `where`. A missing key is a UserError here."""
    endpoints: list[Endpoint]
    if isinstance(settings, OpenAIEngine):
        # a server of one's own, in plain HTTP, may ask for no key
        secret = key_of(where, openai.KEY, needed=any(url.startswith("https:") for url in settings.endpoints))
        endpoints = [openai.OpenAIEndpoint(url, settings, secret, where) for url in settings.endpoints]
    else:
        secret = key_of(where, *gemini.KEYS)
        endpoints = [gemini.GeminiEndpoint(settings, secret, where)]
    return Chat(endpoints, settings, where, secret, cache)


class RemoteEngine:
    """Samples of a model behind endpoints. With a cache folder, what was answered once is never asked again.

    Seeds are derived from the engine's and the request's id, and sent; no server promises the same text for them.
    """

    def __init__(
        self, settings: RemoteSettings, images: Path, seed: int, cache: Path | None, where: str = "engine"
    ) -> None:
        """`images`: the folder of the questions' pictures. `cache`: None asks anew each time (training rollouts)."""
        self._chat = connect(settings, where, cache)
        self._images, self._seed, self._price = images, seed, settings.price

    @property
    def spent(self) -> Spent:
        return self._chat.spent

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, done: Container[str] = ()
    ) -> Iterator[Completion]:
        """One completion a request, in any order; one that could not be had says why in `problem`.

        Raises UserError, after all completions that there are, when the run has to stop (key, budget, no server).
        """
        by_id = {each.id: each for each in requests if each.id not in done}
        for answer in self._chat.run(self._ask(each, sampling) for each in by_id.values()):
            yield completion(by_id[answer.id], answer, self._price)

    def _ask(self, request: Request, sampling: Sampling) -> Ask:
        pictures = [self._images / image for image in request.question.images]
        messages = prompts.messages(request.question, request.form, pictures)
        return Ask(request.id, messages, sampling, derive_seed(self._seed, request.id))


def completion(request: Request, answer: Answer, price: Price) -> Completion:
    """An endpoint's answer as a completion: the prefill before it, the thinking where a local model would have it."""
    reply = answer.reply
    if reply is None:
        return Completion(request.id, "", 0, False, answer.problem)
    text = reply.text
    if reply.thinking:
        text = f"<think>{reply.thinking.strip()}</think>{text}"
    if not text and reply.stop not in ("stop", "length"):
        return Completion(request.id, "", 0, False, f"withheld by the endpoint: {reply.stop}")
    tokens = generated(reply)
    cost = ((reply.prompt_tokens or 0) * price.input + tokens * price.output) / 1e6
    return Completion(request.id, with_prefill(request.form.prefill, text), tokens, reply.stop == "stop", cost=cost)


def with_prefill(prefill: str, text: str) -> str:
    """The text, beginning with the prefill once, whether the endpoint repeats it, goes on from it, or ignores it.

    One that ignores it opens a think block of its own; the prefill has opened it already.
    """
    if text.startswith(prefill):
        return text
    opening = "<think>"
    if prefill.startswith(opening) and text.lstrip().startswith(opening):
        text = " " + text.lstrip().removeprefix(opening).lstrip()
    return prefill + text


def generated(reply: Reply) -> int:
    """Tokens as the endpoint counts them; where it does not, about four bytes each."""
    if reply.tokens is not None:
        return reply.tokens
    return -(-len((reply.thinking + reply.text).encode()) // 4)

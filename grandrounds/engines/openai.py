"""One endpoint that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, `transformers serve`, OpenAI.

Servers differ in what they accept. What one of them refuses by name is left out of all later requests to it. Replies
are data from a stranger: read strictly, and never trusted to be of the right shape.
"""

import base64
import functools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from grandrounds.engines.chat import Ask, Turn
from grandrounds.engines.replies import Reply
from grandrounds.engines.routing import Fault, NotAnswered
from grandrounds.errors import UserError, one_line
from grandrounds.files import need
from grandrounds.params import OpenAIEngine

KEY = "OPENAI_API_KEY"
BASE_URL = "give the server's base URL, which mostly ends in /v1"
CHECK_TIMEOUT = 10.0  # seconds for the list of models
# vLLM and SGLang then go on with the assistant's last turn; others refuse them, or do so without being told
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
JSON_SCHEMA = "json_schema"
LIMITS = ("max_tokens", "max_completion_tokens")  # the second is what OpenAI's reasoning models want
_REFUSES = re.compile(
    r"unsupported|support|unrecogni[sz]ed|unknown|unexpected|permitted|allowed|forbidden|extra|available|refus",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context length|context_length|too (large|long)|exceed|maximum", re.IGNORECASE)

log = logging.getLogger(__name__)


class OpenAIEndpoint:
    """`url` is the base, to which /chat/completions is added; `where` the settings' key in params.yaml."""

    def __init__(self, url: str, settings: OpenAIEngine, key: str, where: str) -> None:
        self.name = url
        self._settings, self._key, self._where = settings, key, where
        self._refused: set[str] = set()
        self._served: list[str] = []
        self._client: Any = None

    async def check(self) -> bool:
        """GET /models, which costs nothing. A server that lacks it is not the worse for it."""
        import aiohttp
        import openai

        try:
            found = await self._connected().get("/models", cast_to=object, options={"timeout": CHECK_TIMEOUT})
        except openai.APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._hopeless(error.status_code) from None
            return False
        except openai.APIConnectionError as error:
            if (failure := _unconnected(error)).fault is Fault.DEAD:
                raise failure from None
            return False
        except (openai.OpenAIError, aiohttp.ClientError, ValueError, RecursionError):
            return False
        if isinstance(found, str) and found.lstrip()[:1] == "<":
            raise UserError(
                f"{self._where}.endpoints: {self.name} answers with a web page, not as an OpenAI-compatible server; "
                f"{BASE_URL}"
            )
        rows = found.get("data") if isinstance(found, dict) else None
        ids = [row.get("id") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        self._served = [each for each in ids if isinstance(each, str)]
        return self._settings.model in self._served

    async def send(self, ask: Ask) -> Reply:
        import aiohttp
        import openai

        body = self._body(ask)
        try:
            done = await self._connected().post("/chat/completions", cast_to=object, body=body)
        except openai.APIStatusError as error:
            if self._leave_out(error, body):
                return await self.send(ask)
            raise self._failure(error) from None
        except openai.APIConnectionError as error:
            raise _unconnected(error) from None
        except (openai.OpenAIError, aiohttp.ClientError, ValueError, RecursionError) as error:  # no JSON, or torn
            raise NotAnswered(f"the reply cannot be read ({type(error).__name__})", Fault.LOST) from None
        return read(done)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _connected(self) -> Any:
        if self._client is None:
            import openai

            self._client = openai.AsyncOpenAI(
                api_key=self._key or "none",  # the client wants one; a server of one's own may not
                base_url=self.name,
                timeout=self._settings.timeout,
                max_retries=0,  # retries are the transport's
                # half the time a request that httpx's own transport takes, and it is time of the one event loop
                http_client=openai.DefaultAioHttpClient(timeout=self._settings.timeout, verify=_certificates()),
            )
        return self._client

    def _body(self, ask: Ask) -> dict[str, Any]:
        sampling = ask.sampling
        limit = next((name for name in LIMITS if name not in self._refused), None)
        if limit is None and self._settings.budget is not None:
            raise UserError(
                f"{self._where}.budget: {self.name} takes no limit of tokens, so that no request's cost is bounded; "
                "leave the budget out, or use another server"
            )
        options: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if limit is not None:
            options[limit] = sampling.max_new_tokens
        if ask.seed is not None:
            options["seed"] = ask.seed
        if ask.json is not None:
            options["response_format"] = self._format(ask.json)
        messages = ask.messages
        if messages[-1]["role"] == "assistant":
            if self._refused.isdisjoint(CONTINUE):
                options |= CONTINUE
            else:
                messages = messages[:-1]
        kept = {name: value for name, value in options.items() if name not in self._refused}
        return {"model": self._settings.model, "messages": [_turn(each) for each in messages], **kept}

    def _format(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Structured output by schema; from a server that knows only of JSON, any object."""
        if JSON_SCHEMA in self._refused:
            return {"type": "json_object"}
        return {"type": JSON_SCHEMA, JSON_SCHEMA: {"name": "reply", "strict": True, "schema": schema}}

    def _leave_out(self, error: Any, body: dict[str, Any]) -> bool:
        """Whether the server refuses options of this request by name; they are then left out from now on."""
        if error.status_code not in (400, 422):
            return False
        said = json.dumps(error.body) if error.body is not None else str(error.message)
        if _TOO_LONG.search(said) or not _REFUSES.search(said):
            return False
        names = {name for name in body if name not in ("model", "messages") and re.search(rf"\b{name}\b", said)}
        # of several requests under way with one option, each is asked again, but only the first one tells
        if JSON_SCHEMA in json.dumps(body.get("response_format")) and (
            JSON_SCHEMA in said or "response_format" in names
        ):
            names = names - {"response_format"} | {JSON_SCHEMA}  # it may still take the older form
        new = names - self._refused
        if new:
            self._refused |= new
            log.warning("%s: %s refuses %s: left out from now on", self._where, self.name, ", ".join(sorted(new)))
        return bool(names)

    def _failure(self, error: Any) -> Exception:
        status = error.status_code
        code = error.body.get("code") if isinstance(error.body, dict) else None
        if status in (401, 402, 403, 404, 405):
            return self._hopeless(status)
        if code == "insufficient_quota":
            return self._hopeless(402)
        after = seconds(error.response.headers.get("retry-after"))
        if status == 429:
            return NotAnswered("HTTP 429: too many requests", Fault.SLOW_DOWN, after)
        if status in (408, 409) or status >= 500:
            return NotAnswered(f"HTTP {status}", Fault.BROKEN, after)
        said = error.body if isinstance(error.body, dict) else {}
        reason = said.get("message") or said.get("detail") or error.message
        return NotAnswered(f"refused as a bad request: {one_line(str(reason), 200)}", Fault.REFUSED)

    def _hopeless(self, status: int) -> UserError:
        """The server's own message is left out: it may repeat part of the key."""
        model = f"'{self._settings.model}'"
        served = f" (it serves {', '.join(one_line(each, 60) for each in self._served[:5])})" if self._served else ""
        mend = {
            401: ("", f"check {KEY}" if self._key else f"set {KEY}"),
            402: ("", f"the credit of the key in {KEY} is used up"),
            403: ("", f"the key in {KEY} may not use the model"),
            404: (".model", f"check the name{served}; or the address in endpoints: {BASE_URL}"),
            405: (".endpoints", BASE_URL),
        }
        key, advice = mend[status]
        return UserError(f"{self._where}{key}: {self.name} answered {status} for model {model}; {advice}")


@functools.cache
def _certificates() -> Any:
    """The client library's own TLS settings, read once: they are as dear as fifty requests."""
    import httpx2

    return httpx2.create_ssl_context()


def read(done: object) -> Reply:
    """A chat completion as a Reply. Raises NotAnswered for any other JSON, and for a text in its place."""
    if isinstance(done, str):  # of another content type than JSON
        try:
            done = json.loads(done)
        except ValueError:
            raise NotAnswered("the reply is no JSON", Fault.LOST) from None
    choices = done.get("choices") if isinstance(done, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(done, dict) or not isinstance(choice, dict) or not isinstance(message, dict):
        raise NotAnswered("no completion in the reply", Fault.LOST)
    usage = done.get("usage") if isinstance(done.get("usage"), dict) else {}
    return Reply(
        text=_text(message, "content", "refusal"),
        thinking=_text(message, "reasoning_content", "reasoning"),
        prompt_tokens=_count(usage, "prompt_tokens"),
        tokens=_count(usage, "completion_tokens"),
        stop=_text(choice, "finish_reason") or "stop",
    )


def _text(message: dict[str, Any], *names: str) -> str:
    return next((message[name] for name in names if isinstance(message.get(name), str) and message[name]), "")


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and 0 <= value < 10**9 else None


def _turn(turn: Turn) -> Turn:
    """With pictures as data URLs, the bytes as they are on disk; a text alone as a string, which all servers take."""
    content = turn["content"]
    if isinstance(content, str):
        return turn
    if all(part["type"] == "text" for part in content):
        return {"role": turn["role"], "content": "\n".join(part["text"] for part in content)}
    parts: Sequence[dict[str, Any]] = [
        part if part["type"] == "text" else {"type": "image_url", "image_url": {"url": data_url(part["image"])}}
        for part in content
    ]
    return {"role": turn["role"], "content": parts}


def data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(need(path).read_bytes()).decode("ascii")


def seconds(header: str | None) -> float | None:
    """Retry-After, given in seconds or as a date (RFC 9110, 10.2.3), in seconds from now; nonsense counts as absent."""
    if not header:
        return None
    try:
        found = float(header)
    except ValueError:
        try:
            found = (parsedate_to_datetime(header).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return None
    return max(found, 0.0) if found == found else None


def _unconnected(error: Exception) -> NotAnswered:
    """Whether nobody listens, or a connection broke, stands only in what caused the client's error."""
    import aiohttp

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return NotAnswered(f"no connection ({one_line(str(cause), 120)})", Fault.DEAD)
        if isinstance(cause, TimeoutError):
            return NotAnswered("no reply in time", Fault.LOST)
        cause = cause.__cause__
    return NotAnswered("the connection broke", Fault.LOST)

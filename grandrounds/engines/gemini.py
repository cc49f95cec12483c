"""Gemini through google-generativeai, which is imported here only: its successor is this module written anew.

The library has calls that block, so each runs in a thread of a small pool. It takes no seed, and does not go on with a
turn that was begun for it.
"""

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from grandrounds.engines.chat import Ask, Turn
from grandrounds.engines.replies import Reply
from grandrounds.engines.routing import Fault, NotAnswered
from grandrounds.errors import UserError, one_line
from grandrounds.files import need
from grandrounds.params import GeminiEngine

KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
STOPS = {"STOP": "stop", "MAX_TOKENS": "length"}  # Gemini's words -> OpenAI's; others as they are, in small letters


class GeminiEndpoint:
    """Google's endpoint for one model; `where` is the settings' key in params.yaml."""

    def __init__(self, settings: GeminiEngine, key: str, where: str) -> None:
        self.name = "Gemini"
        self._settings, self._key, self._where = settings, key, where
        self._pool = ThreadPoolExecutor(settings.concurrency)
        self._library: Any = None

    async def check(self) -> bool:
        """Ask for the model's description, which costs nothing."""
        await self._in_pool(self._describe)
        return True

    async def send(self, ask: Ask) -> Reply:
        return read(await self._in_pool(lambda: self._generate(ask)))

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_pool(self, call: Callable[[], Any]) -> Any:
        from google.api_core import exceptions

        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except exceptions.RetryError:
            raise NotAnswered("no reply in time", Fault.LOST) from None
        except exceptions.TooManyRequests:
            raise NotAnswered("HTTP 429: too many requests", Fault.SLOW_DOWN) from None
        except exceptions.ServerError as error:
            raise NotAnswered(f"HTTP {error.code}", Fault.BROKEN) from None
        except (exceptions.Unauthenticated, exceptions.PermissionDenied, exceptions.NotFound) as error:
            raise self._hopeless(error) from None
        except exceptions.GoogleAPICallError as error:
            if "API_KEY_INVALID" in str(error) or "API key not valid" in str(error):  # comes as a 400
                raise self._hopeless(error) from None
            raise NotAnswered(f"refused as a bad request: {one_line(error.message, 200)}", Fault.REFUSED) from None
        except OSError as error:  # requests' errors are
            raise NotAnswered(f"no connection ({type(error).__name__})", Fault.DEAD) from None

    def _hopeless(self, error: Any) -> UserError:
        return UserError(
            f"{self._where}: Gemini answered {error.code} for model '{self._settings.model}'; "
            f"check {KEYS[0]} and the model's name"
        )

    def _describe(self) -> None:
        self._genai().get_model(f"models/{self._settings.model}", request_options={"timeout": self._settings.timeout})

    def _generate(self, ask: Ask) -> Any:
        system = "\n".join(turn["content"] for turn in ask.messages if turn["role"] == "system")
        config: dict[str, Any] = {
            "temperature": ask.sampling.temperature,
            "top_p": ask.sampling.top_p,
            "max_output_tokens": ask.sampling.max_new_tokens,
        }
        if ask.json is not None:
            config |= {"response_mime_type": "application/json", "response_schema": _schema(ask.json)}
        model = self._genai().GenerativeModel(
            self._settings.model, system_instruction=system or None, generation_config=config
        )
        return model.generate_content(_turns(ask.messages), request_options={"timeout": self._settings.timeout})

    def _genai(self) -> Any:
        if self._library is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it says on import that it is out of support; we know
                import google.generativeai as genai

            genai.configure(api_key=self._key, transport="rest")
            self._library = genai
        return self._library


def read(done: Any) -> Reply:
    """What Gemini generated; the text is empty where it was blocked."""
    try:
        text = done.text or ""
    except ValueError:
        text = ""
    candidates = getattr(done, "candidates", None)
    reason = getattr(getattr(candidates[0], "finish_reason", None), "name", "STOP") if candidates else "blocked"
    used = getattr(done, "usage_metadata", None)
    return Reply(
        text=text,
        prompt_tokens=getattr(used, "prompt_token_count", None),
        tokens=getattr(used, "candidates_token_count", None),
        stop=STOPS.get(reason, reason.lower()),
    )


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a JSON schema that Gemini's has too: types of properties, without null and without numbers' enums."""
    types = {name: each["type"] for name, each in schema["properties"].items() if each["type"] != "null"}
    properties = {name: {"type": kind.upper()} for name, kind in types.items()}
    return {"type": "OBJECT", "properties": properties, "required": list(properties)}


def _turns(messages: Sequence[Turn]) -> list[dict[str, Any]]:
    """In Gemini's form. A prefill is left out: a last turn of the model's would be answered, not continued."""
    roles = {"user": "user", "assistant": "model"}
    said = [turn for turn in messages if turn["role"] in roles]
    if said[-1]["role"] == "assistant":
        said = said[:-1]
    return [{"role": roles[turn["role"]], "parts": _parts(turn["content"])} for turn in said]


def _parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [content]
    return [
        part["text"] if part["type"] == "text" else {"mime_type": "image/png", "data": need(part["image"]).read_bytes()}
        for part in content
    ]

"""Gemini behind the same transport, with Google's library stood in for: the real endpoint is out of reach here."""

import sys
import types

import pytest
from google.api_core import exceptions
from loopback import SECRET

from grandrounds.domain import judging
from grandrounds.engines import chat
from grandrounds.engines.chat import Ask
from grandrounds.engines.remote import connect
from grandrounds.errors import UserError
from grandrounds.params import GeminiEngine, Price, Sampling

SCHEMA = {  # its own form: no null, no enum of numbers
    "type": "OBJECT",
    "properties": {"evaluation": {"type": "STRING"}, "prediction_score": {"type": "INTEGER"}},
    "required": ["evaluation", "prediction_score"],
}


class Blocked:
    candidates = [types.SimpleNamespace(finish_reason=types.SimpleNamespace(name="SAFETY"))]

    @property
    def text(self):
        raise ValueError("blocked")


def said(text, reason="STOP"):
    usage = types.SimpleNamespace(prompt_token_count=20, candidates_token_count=7)
    candidate = types.SimpleNamespace(finish_reason=types.SimpleNamespace(name=reason))
    return types.SimpleNamespace(text=text, candidates=[candidate], usage_metadata=usage)


@pytest.fixture
def google(monkeypatch):
    """The library, giving `answers` in turn; `asked` is what it was given."""
    monkeypatch.setattr(chat, "LONGEST_WAIT", 0.01)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.setenv("GOOGLE_API_KEY", SECRET)
    fake = types.SimpleNamespace(answers=[], asked=[], configured={}, described=[], unknown=None)

    class Model:
        def __init__(self, name, **settings):
            self.settings = {"name": name, **settings}

        def generate_content(self, turns, request_options):
            fake.asked.append((self.settings, turns))
            found = fake.answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

    def get_model(name, request_options):
        fake.described.append(name)
        if fake.unknown:
            raise fake.unknown

    fake.GenerativeModel, fake.get_model = Model, get_model
    fake.configure = lambda **given: fake.configured.update(given)
    monkeypatch.setitem(sys.modules, "google.generativeai", fake)
    monkeypatch.setattr(sys.modules["google"], "generativeai", fake, raising=False)
    return fake


def of(cache=None, **settings):
    return connect(GeminiEngine(**{"type": "gemini", "concurrency": 1, **settings}), "distill.teacher", cache)


def asks(*ids):
    turns = [{"role": "system", "content": "GRADE"}, {"role": "user", "content": "Question?"},
             {"role": "assistant", "content": "<think>"}]  # fmt: skip
    return [Ask(each, turns, Sampling(temperature=0.5, max_new_tokens=9), json=judging.schema(False)) for each in ids]


def test_what_is_asked_and_what_comes_back(google):
    google.answers = [exceptions.TooManyRequests("slow"), exceptions.ServiceUnavailable("x"), said("one"),
                      said("two", "MAX_TOKENS"), Blocked(), exceptions.InvalidArgument(f"bad {SECRET}")]  # fmt: skip
    transport = of(price=Price(input=1, output=1), budget=5)
    found = list(transport.run(asks("a", "b", "c", "d")))
    assert [(each.reply.text, each.reply.stop) for each in found[:3]] == [
        ("one", "stop"), ("two", "length"), ("", "safety")]  # fmt: skip
    assert found[3].problem == "refused as a bad request: bad ***"
    assert google.configured["api_key"] == SECRET and google.described == ["models/gemini-1.5-flash"]
    settings, turns = google.asked[0]
    assert settings["system_instruction"] == "GRADE" and turns == [{"role": "user", "parts": ["Question?"]}]
    assert settings["generation_config"] == {"temperature": 0.5, "top_p": 1.0, "max_output_tokens": 9,
                                             "response_mime_type": "application/json",
                                             "response_schema": SCHEMA}  # fmt: skip
    assert transport.spent.tokens == 14


def test_pictures_go_as_they_are(google, tmp_path):
    (tmp_path / "a.png").write_bytes(b"png")
    google.answers = [said("axial")]
    parts = [{"type": "image", "image": tmp_path / "a.png"}, {"type": "text", "text": "Plane?"}]
    list(of(tmp_path / "cache").run([Ask("a", [{"role": "user", "content": parts}], Sampling())]))
    assert google.asked[0][1] == [{"role": "user", "parts": [{"mime_type": "image/png", "data": b"png"}, "Plane?"]}]
    (answer,) = of(tmp_path / "cache").run([Ask("a", [{"role": "user", "content": parts}], Sampling())])
    assert answer.reply.text == "axial" and len(google.asked) == 1


@pytest.mark.parametrize(
    "error", [exceptions.NotFound("no"), exceptions.PermissionDenied("no"), exceptions.BadRequest("API key not valid")]
)
def test_a_wrong_key_or_model_is_one_line_before_anything_is_paid_for(google, error):
    google.unknown = error
    with pytest.raises(
        UserError, match=r"^distill\.teacher: Gemini answered 4\d\d for model 'gemini-1.5-flash'; check"
    ):
        list(of().run(asks("a", "b")))
    assert not google.asked


def test_the_real_library_takes_the_schema():
    protos = pytest.importorskip("google.generativeai.protos")
    assert protos.Schema(SCHEMA).properties["prediction_score"].type_ == protos.Type.INTEGER

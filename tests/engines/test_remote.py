"""Generation through an endpoint, as filter and distill use it."""

import json

import pytest
from loopback import completion

from grandrounds.domain import prompts
from grandrounds.engines import remote
from grandrounds.engines.protocol import Request
from grandrounds.errors import UserError
from grandrounds.params import GeminiEngine, OpenAIEngine, Sampling
from grandrounds.runtime import derive_seed

EXPLAIN = prompts.COMPACT["explanation"]  # has a prefill
GOOD = "<think>It is fast.</think><answer>yes</answer>"


def requests(tiny, form=prompts.COMPACT["reasoning"], samples=2):
    return [Request(f"{q.id}/{i}", q, form, i) for q in tiny.questions[:6] for i in range(samples)]


def engine(server, tiny, cache=None, seed=7, **settings):
    given = {"type": "openai", "model": "m", "endpoints": [server.url], "timeout": 2, **settings}
    return remote.RemoteEngine(OpenAIEngine(**given), tiny.images, seed, cache, "filter.engine")


def test_every_sample_is_asked_with_its_own_seed_and_the_picture_as_it_is(server, tiny, tmp_path):
    server.script = lambda number, body: GOOD
    asked = requests(tiny)
    found = list(engine(server, tiny, tmp_path).generate(asked, Sampling(temperature=0.7, max_new_tokens=9)))
    assert sorted(each.id for each in found) == sorted(each.id for each in asked)
    assert {(each.text, each.tokens, each.finished, each.problem) for each in found} == {(GOOD, 7, True, "")}
    assert {body["seed"] for body in server.bodies} == {derive_seed(7, each.id) for each in asked}
    assert {(body["temperature"], body["max_tokens"]) for body in server.bodies} == {(0.7, 9)}
    sent = json.dumps(server.bodies)
    for each in asked:
        assert each.question.image == "" or remote.openai.data_url(tiny.images / each.question.image) in sent
    again = list(engine(server, tiny, tmp_path).generate(asked, Sampling(temperature=0.7, max_new_tokens=9)))
    assert sorted(each.id for each in again) == sorted(each.id for each in asked) and len(server.bodies) == len(asked)
    list(engine(server, tiny, tmp_path, seed=8).generate(asked, Sampling(temperature=0.7, max_new_tokens=9)))
    assert len(server.bodies) == 2 * len(asked)


@pytest.mark.parametrize("echo", [True, False])
def test_a_prefill_is_continued_and_stands_there_once(server, tiny, echo):
    server.script = lambda number, body: (EXPLAIN.prefill if echo else "") + " fast.</think><answer>yes</answer>"
    for each in engine(server, tiny).generate(requests(tiny, EXPLAIN), Sampling()):
        assert each.text == EXPLAIN.prefill + " fast.</think><answer>yes</answer>"
    body = server.bodies[0]
    assert body["messages"][-1] == {"role": "assistant", "content": EXPLAIN.prefill}
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False


def test_where_a_prefill_is_refused_the_text_begins_with_it_all_the_same(server, tiny):
    def script(number, body):
        if "continue_final_message" in body:
            return 422, {}, json.dumps({"detail": "Unexpected fields in the request: {'continue_final_message'}"})
        return GOOD

    server.script = script
    found = list(engine(server, tiny, concurrency=1).generate(requests(tiny, EXPLAIN), Sampling()))
    assert {each.text for each in found} == {EXPLAIN.prefill + " It is fast.</think><answer>yes</answer>"}
    assert len(server.bodies) == len(found) + 1 and len(server.bodies[-1]["messages"]) == 1
    assert "add_generation_prompt" not in server.bodies[-1]


def test_thinking_that_a_server_takes_out_of_the_text_is_put_back(server, tiny):
    apart = completion("<answer>yes</answer>", message={"reasoning_content": "It is fast."})
    server.script = lambda number, body: (200, {}, apart)
    assert {each.text for each in engine(server, tiny).generate(requests(tiny), Sampling())} == {GOOD}


def test_no_sample_without_a_completion_or_a_problem(server, tiny):
    """A question that the server refuses, one that it cuts off, and one that a filter withholds."""

    def script(number, body):
        choice = {"index": 0, "finish_reason": ["length", "content_filter"][number % 3 - 1], "message": {"content": ""}}
        if number % 3 == 0:
            return 400, {}, json.dumps({"error": {"message": "no"}})
        choice["message"]["content"] = "<think>It" if number % 3 == 1 else None
        return 200, {}, completion("", choices=[choice])

    server.script = script
    asked = requests(tiny)
    found = list(engine(server, tiny).generate(asked, Sampling()))
    assert sorted(each.id for each in found) == sorted(each.id for each in asked)
    assert all(bool(each.text) != bool(each.problem) and not each.finished for each in found)
    problems = [each.problem for each in found if each.problem]
    assert sorted(set(problems)) == ["refused as a bad request: no", "withheld by the endpoint: content_filter"]
    assert len(problems) == 8


def test_a_picture_that_is_not_there_is_named(server, tiny, tmp_path):
    with pytest.raises(UserError, match=r"\.png: missing"):
        list(remote.RemoteEngine(OpenAIEngine(type="openai", endpoints=[server.url]), tmp_path, 7, None).generate(
            [each for each in requests(tiny) if each.question.image] or pytest.fail("no pictures"), Sampling()
        ))  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "variable"), [(OpenAIEngine(type="openai"), "OPENAI"), (GeminiEngine(type="gemini"), "GEMINI")]
)
def test_a_missing_key_is_one_line_before_any_call(settings, variable, tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=rf"^distill\.teacher: .*{variable}_API_KEY.* is not set"):
        remote.RemoteEngine(settings, tmp_path, 7, None, "distill.teacher")


def test_a_server_in_plain_http_may_do_without_a_key(server, tiny, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    server.script = lambda number, body: GOOD
    assert all(each.text == GOOD for each in engine(server, tiny).generate(requests(tiny), Sampling()))


@pytest.mark.parametrize(
    "wrong",
    [{"endpoints": []}, {"endpoints": ["localhost:8000"]}, {"endpoints": ["https://me:key@host/v1"]},
     {"endpoints": ["https://host/v1?key=x"]}, {"budget": 1.0}],
)  # fmt: skip
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(ValueError):
        OpenAIEngine(type="openai", **wrong)

"""The transport against a real server that fails in every way: nothing lost, nothing counted twice, each surfaced."""

import json
import threading
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import SECRET, Drop, Hang, Server, completion

from grandrounds.engines import chat, openai
from grandrounds.engines.chat import Ask
from grandrounds.engines.remote import connect
from grandrounds.engines.spending import prompt_bound
from grandrounds.errors import UserError
from grandrounds.params import OpenAIEngine, Price, Sampling

SAMPLING = Sampling(max_new_tokens=10)
PRICE = Price(input=1000, output=1000)  # a reply of the server's, 27 tokens, costs 0.027 USD


def asks(n, first=0):
    return [Ask(f"a{i}", [{"role": "user", "content": f"Question {i}?"}], SAMPLING, seed=i) for i in range(first, n)]


def of(server, cache=None, where="filter.engine", **settings):
    urls = [each.url for each in server] if isinstance(server, list) else [server.url]
    return connect(OpenAIEngine(**{"type": "openai", "model": "m", "endpoints": urls, "timeout": 0.8, **settings}),
                   where, cache)  # fmt: skip


def answers(transport, n, first=0):
    found = list(transport.run(asks(n, first)))
    assert sorted(each.id for each in found) == sorted(each.id for each in asks(n, first))  # each once
    return {each.id: each for each in found}


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(chat, "LONGEST_WAIT", 0.01)


FAULTS = {
    "rate limit": (429, {"Retry-After": "0.02"}, "{}"),
    "server error": (500, {}, "oops"),
    "bad gateway": (502, {"Content-Type": "text/html"}, "<html>"),
    "hang": Hang,
    "dropped in the body": Drop,
    "truncated JSON": (200, {}, completion("fine")[:-20]),
    "other content type": (200, {"Content-Type": "text/html"}, "<html>fine</html>"),
    "JSON that is no object": (200, {}, "[]"),
    "nested without end": (200, {}, "[" * 200_000),
    "no choices": (200, {}, '{"choices": []}'),
    "a choice that is none": (200, {}, '{"choices": [7]}'),
    "no message": (200, {}, '{"choices": [{"message": null}]}'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_got_over_and_where_it_lasts_is_surfaced(server, hasty, monkeypatch, fault):
    """Every fifth question fails for good; of the others, each fails once."""
    monkeypatch.setattr(chat, "ATTEMPTS", 3)
    tried = {}

    def script(number, body):
        question = body["messages"][0]["content"]
        tried[question] = tried.get(question, 0) + 1
        bad = int(question.split()[1].strip("?")) % 5 == 0
        return FAULTS[fault] if bad or tried[question] == 1 else f"to {question}"

    server.script = script
    transport = of(server, concurrency=10, timeout=0.4)
    found = answers(transport, 10)
    for i in range(10):
        answer = found[f"a{i}"]
        if i % 5:
            assert answer.reply.text == f"to Question {i}?" and not answer.problem
        else:
            assert answer.reply is None and answer.problem and "\n" not in answer.problem
    assert set(tried.values()) == {2, 3}
    assert transport.spent.answered == 8 and transport.spent.tokens == 8 * 7


def test_a_refused_request_is_surfaced_at_once(server):
    server.script = lambda number, body: (
        400,
        {},
        json.dumps({"error": {"message": f"context\x1b[31m too\nlong {SECRET}"}}),
    )
    (answer,) = of(server).run(asks(1))
    assert answer.problem == "refused as a bad request: context [31m too long ***" and len(server.bodies) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(server, form):
    asked = {"seconds": "0.6", "date": formatdate(time.time() + 2, usegmt=True)}[form]
    server.script = lambda number, body: (429, {"Retry-After": asked}, "{}") if number == 0 else "fine"
    assert answers(of(server), 1)["a0"].reply
    waited = server.times[1] - server.times[0]
    assert (0.6 if form == "seconds" else 0.9) <= waited < 2.5


def test_a_server_that_is_short_of_room_is_given_less_until_it_copes(server):
    """It takes two requests at once, and refuses the others."""

    def script(number, body):
        if server.now > 2:
            return 429, {}, "{}"
        time.sleep(0.01)
        return "fine"

    server.script = script
    assert all(each.reply for each in answers(of(server, concurrency=16, timeout=5), 60).values())


def test_one_of_two_is_killed_midway_and_all_are_answered(server):
    other = Server()

    def script(number, body):
        if number == 20:
            threading.Thread(target=other.close).start()
            other.script = lambda number, body: Drop
        time.sleep(0.005)
        return "fine"

    other.script, server.script = script, lambda number, body: time.sleep(0.005) or "fine"
    transport = of([server, other], concurrency=8)
    found = answers(transport, 200)
    assert all(each.reply and each.reply.text == "fine" for each in found.values())
    assert len(other.bodies) >= 20 and len(server.bodies) >= 150 and transport.spent.answered == 200


def test_a_dead_endpoint_is_set_aside_and_tried_again(server):
    other = Server()
    port = other.http.server_address[1]
    other.close()
    transport = of([server, other], concurrency=4)
    assert all(each.reply for each in answers(transport, 20).values()) and len(server.bodies) == 20
    again = Server(port=port)
    time.sleep(0.6)
    assert all(each.reply for each in answers(transport, 60, first=20).values())
    assert len(again.bodies) > 10  # least busy first: they share
    again.close()


def test_nobody_there_is_one_line(server):
    server.close()
    with pytest.raises(UserError, match=r"^filter\.engine\.endpoints: no endpoint answers \(http") as error:
        list(of(server).run(asks(5)))
    assert "\n" not in str(error.value)


def test_the_only_one_dies_midway_and_the_run_stops_with_what_it_has(server, tmp_path, monkeypatch):
    monkeypatch.setattr("grandrounds.engines.routing.FIRST_REST", 0.01)

    def script(number, body):
        if number == 10:
            threading.Thread(target=server.close).start()
            time.sleep(0.1)
        return "fine" if number < 10 else Drop

    server.script = script
    found = []
    with pytest.raises(UserError, match="no endpoint answers"):
        for each in of(server, tmp_path, concurrency=2).run(asks(40)):
            found.append(each.id)
    assert len(found) >= 10 and len(set(found)) == len(found)


def test_requests_at_once_over_all_endpoints(server):
    other = Server()
    now, most, lock = set(), [], threading.Lock()

    def script(number, body):
        with lock:
            now.add(body["seed"])
            most.append(len(now))
        time.sleep(0.03)
        with lock:
            now.remove(body["seed"])
        return "fine"

    server.script = other.script = script
    answers(of([server, other], concurrency=6), 60)
    assert 2 <= max(most) <= 6 and abs(len(server.bodies) - 30) < 12
    other.close()


# --- settings that cannot work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["check", "first request"])
@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_one_line_before_anything_is_paid_for(server, status, when):
    said = json.dumps({"error": {"message": f"wrong key {SECRET}"}})
    if when == "check":
        server.models = (status, {}, said)
    server.script = lambda number, body: (status, {}, said)
    with pytest.raises(
        UserError, match=rf"^filter\.engine: http.* answered {status} for model 'm'; .*OPENAI_API_KEY"
    ) as error:
        list(of(server, concurrency=16).run(asks(50)))
    assert SECRET not in str(error.value) and len(server.bodies) == (0 if when == "check" else 1)


def test_an_unknown_model_is_one_line_that_lists_what_there_is(server):
    server.models = (200, {}, json.dumps({"data": [{"id": "n"}, {"id": f"o\n{SECRET}"}, 7]}))
    server.script = lambda number, body: (404, {}, "{}")
    with pytest.raises(UserError, match=r"^filter\.engine\.model: .* \(it serves n, o \*\*\*\)"):
        list(of(server).run(asks(50)))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_address_is_one_line(server, status):
    server.script = lambda number, body: (status, {"Content-Type": "text/html"}, "<html>")
    with pytest.raises(UserError, match="base URL, which mostly ends in /v1"):
        list(of(server).run(asks(50)))
    server.models = (200, {"Content-Type": "text/html"}, "<!DOCTYPE html>")
    with pytest.raises(UserError, match=r"filter\.engine\.endpoints: .* web page"):
        list(of(server).run(asks(50)))
    assert len(server.bodies) == 1


def test_a_quota_that_is_used_up_ends_the_run(server):
    said = json.dumps({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    server.script = lambda number, body: (429, {}, said) if number > 4 else "fine"
    found = []
    with pytest.raises(UserError, match="credit"):
        found.extend(each.id for each in of(server, concurrency=1).run(asks(50)))
    assert len(server.bodies) == 6


def test_options_that_a_server_refuses_by_name_are_left_out_from_then_on(server, caplog):
    def script(number, body):
        for name in ("seed", "top_p", "max_tokens"):
            if name in body:
                return 400, {}, json.dumps({"error": {"message": f"Unsupported parameter: '{name}'"}})
        return "fine"

    server.script = script
    assert all(each.reply for each in answers(of(server, concurrency=1), 3).values())
    assert len(server.bodies) == 3 + 3 and server.bodies[-1]["max_completion_tokens"] == 10
    assert server.bodies[-1]["temperature"] == 1.0 and caplog.text.count("left out from now on") == 3


def test_what_a_question_names_is_not_an_option_that_is_refused(server):
    said = json.dumps(
        {"error": {"message": "context length 99 exceeded; reduce max_tokens. Temperature 39, not supported"}}
    )
    server.script = lambda number, body: (400, {}, said) if number == 0 else "fine"
    found = answers(of(server, concurrency=1), 2)
    assert found["a0"].problem and found["a1"].reply
    assert {"max_tokens", "temperature", "seed"} <= set(server.bodies[1])


# --- cache and budget ------------------------------------------------------------------------------------------------


def test_what_was_answered_is_asked_once_whatever_tears_the_file(server, tmp_path):
    answers(of(server, tmp_path), 6)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])  # a kill tears the last line
    again = of(server, tmp_path)
    answers(again, 6)
    assert len(server.bodies) == 7 and (again.spent.kept, again.spent.answered) == (5, 1)
    file.write_bytes(b'{"key": "x"}\n\xff\n' + file.read_bytes())
    answers(of(server, tmp_path), 6)
    assert len(server.bodies) == 7 and SECRET not in file.read_text(errors="replace")
    answers(of(server, None), 6)  # no cache: asked anew
    answers(of(server, tmp_path, model="n"), 6)
    assert len(server.bodies) == 7 + 12


def test_pictures_are_cached_by_content(server, tmp_path):
    def ask(name, content):
        (tmp_path / name).write_bytes(content)
        parts = [{"type": "image", "image": tmp_path / name}, {"type": "text", "text": "Plane?"}]
        return Ask(name, [{"role": "user", "content": parts}], SAMPLING)

    transport = of(server, tmp_path / "cache", concurrency=1)
    list(transport.run([ask("a.png", b"one")]))
    list(transport.run([ask("b.png", b"one"), ask("c.png", b"two")]))
    assert len(server.bodies) == 2
    assert server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,b25l"


def test_the_budget_is_never_passed_and_what_was_answered_is_kept(server, tmp_path):
    server.script = lambda number, body: time.sleep(0.01) or "fine"
    transport = of(server, tmp_path, concurrency=16, price=PRICE, budget=2.0)
    worst = transport._ledger.worst(asks(1)[0].messages, 10)
    found = []
    with pytest.raises(UserError, match=r"^filter\.engine\.budget: .* pass 2 USD; spent: 1\.\d+ USD; ") as error:
        for each in transport.run(asks(200)):
            found.append(each)
    spent = len(server.bodies) * 0.027
    assert 2.0 - worst < spent <= 2.0 and transport.spent.dollars == pytest.approx(spent)
    assert len(found) == len(server.bodies) and all(each.reply for each in found) and "\n" not in str(error.value)
    more = of(server, tmp_path, concurrency=16, price=PRICE, budget=100)
    answers(more, 200)
    assert more.spent.kept == len(found) and len(server.bodies) == 200


def test_a_reply_that_was_lost_counts_at_its_worst(server, hasty):
    server.script = lambda number, body: "fine" if number else Hang
    transport = of(server, timeout=0.3, price=PRICE, budget=100)
    answers(transport, 1)
    worst = transport._ledger.worst(asks(1)[0].messages, 10)
    assert transport.spent.unsure == pytest.approx(worst)
    assert transport.spent.dollars == pytest.approx(worst + 0.027)


def test_a_budget_needs_a_limit_of_tokens(server):
    server.script = lambda number, body: (
        400,
        {},
        '{"error": {"message": "max_tokens, max_completion_tokens: unknown"}}',
    )
    with pytest.raises(UserError, match=r"filter\.engine\.budget: .* no limit of tokens"):
        list(of(server, price=PRICE, budget=100).run(asks(2)))


@given(st.text(max_size=60))
def test_no_tokenizer_makes_more_tokens_than_the_bound(text):
    from tokenizers import ByteLevelBPETokenizer

    tokens = len(ByteLevelBPETokenizer().encode(text.encode("utf-8", "replace").decode()).ids)  # no merges: the most
    assert prompt_bound([{"role": "user", "content": text}]) >= tokens


# --- hostile text ----------------------------------------------------------------------------------------------------


def test_the_key_stands_nowhere(server, tmp_path, capfd, caplog):
    replies = [f"it is {SECRET}", (400, {}, json.dumps({"detail": SECRET})), (401, {}, SECRET)]
    server.script = lambda number, body: replies[min(number, 2)]
    found = []
    with pytest.raises(UserError) as error:
        for each in of(server, tmp_path, concurrency=1).run(asks(4)):
            found.append(each)
    assert found[0].reply.text == "it is ***" and "***" in found[1].problem
    kept = "".join(file.read_text() for file in tmp_path.iterdir())
    assert SECRET not in "".join([str(error.value), repr(found), kept, *capfd.readouterr(), caplog.text])


NAMES = st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "finish_reason", "reasoning"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_a_reply_or_not_answered(done):
    try:
        reply = openai.read(done)
    except openai.NotAnswered:
        return
    assert isinstance(reply.text, str) and isinstance(reply.thinking, str) and isinstance(reply.stop, str)
    assert all(count is None or count >= 0 for count in (reply.prompt_tokens, reply.tokens))


def test_half_characters_and_mad_counts_do_no_harm(server, tmp_path):
    usage = {"prompt_tokens": -5, "completion_tokens": "many"}
    server.script = lambda number, body: (200, {}, completion("\ud83d half", usage=usage))
    transport = of(server, tmp_path, price=PRICE, budget=100)
    (answer,) = transport.run(asks(1))
    assert answer.reply.text.encode() and answer.reply.tokens is None and transport.spent.unsure > 0


@pytest.mark.parametrize("header", ["soon", "nan", "", "-3", "Wed, 99 Foo", None])
def test_nonsense_for_retry_after_is_no_wait(header):
    assert openai.seconds(header) in (None, 0.0)


def test_a_caller_who_leaves_early_leaves_nothing_running(server):
    server.script = lambda number, body: time.sleep(0.02) or "fine"
    for _ in of(server, concurrency=4).run(asks(500)):
        break
    time.sleep(0.2)
    asked = len(server.bodies)
    time.sleep(0.2)
    assert asked == len(server.bodies) < 40

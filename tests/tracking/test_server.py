"""What is at the address is looked at first: each wrong thing there is one line that names it and the mend."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from loopback import PROXIES

from grandrounds.errors import UserError
from grandrounds.tracking import server, store


class Something:
    """Answers every GET alike, after `wait` seconds."""

    def __init__(self) -> None:
        outer, self.reply, self.wait = self, (200, "3.17.2"), 0.0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(outer.wait)
                status, text = outer.reply
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def something(monkeypatch: pytest.MonkeyPatch) -> Iterator[Something]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    found = Something()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("status", "text", "message", "away"),
    [
        (404, "Not Found", "this is no MLflow server (/version: 404); see MLFLOW_TRACKING_URI", False),
        (200, "<html>a shop</html>", "this is no MLflow server (/version: 200)", False),
        (200, "2.22.1", "is MLflow 2.22.1; 3 or newer is wanted, upgrade the server", False),
        (401, "who?", "refuses with 401 'who?'; set MLFLOW_TRACKING_USERNAME", False),
        (403, "Invalid Host header", "`--allowed-hosts` that name this address", False),
        (503, "starting", "answers 503 'starting'; look at its log", True),
    ],
)
def test_what_is_no_server_of_ours(something: Something, status: int, text: str, message: str, away: bool) -> None:
    something.reply = (status, text)
    with pytest.raises(UserError) as caught:
        server.check(something.uri)
    told = str(caught.value)
    assert told.startswith(f"MLflow at {something.uri}: ") and message in told and "\n" not in told
    assert server.passing(caught.value) is away


def test_the_right_one_passes_and_a_silent_one_is_not_waited_for(
    something: Something, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.check(something.uri)
    monkeypatch.setattr(server, "LOOK", 0.3)
    something.wait = 2.0
    with pytest.raises(server.Away, match=r"no answer in 0.3 s; start it, or unset MLFLOW_TRACKING_URI"):
        server.check(something.uri)


def test_a_server_that_is_down_hides_the_password(something: Something, monkeypatch: pytest.MonkeyPatch) -> None:
    something.close()
    uri = something.uri.replace("http://", "http://ann:s3cret@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    begin = time.monotonic()
    with pytest.raises(server.Away) as caught:
        store.connect()
    assert time.monotonic() - begin < 10
    assert "MLflow at http://127.0.0.1" in str(caught.value) and "no connection" in str(caught.value)
    assert "s3cret" not in str(caught.value) and "ann" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("postgresql://ann:p@ss:word@host:5432/runs?sslkey=s3cret", "postgresql://host:5432/runs"),
        ("postgresql+psycopg2://ann:p?s/s#w@host/runs", "postgresql+psycopg2://host/runs"),
        ("https://token@host/path@2#s3cret", "https://host/path@2"),
        ("s3://bucket/runs", "s3://bucket/runs"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(address: str, shown: str) -> None:
    assert server.shown(address) == shown


def test_errors_of_others_go_on_as_they_are() -> None:
    @server.asking(lambda: "http://x:y@here")
    def fails(error: Exception) -> None:
        raise error

    from mlflow.exceptions import MlflowException

    with pytest.raises(KeyError):
        fails(KeyError("a"))
    with pytest.raises(UserError, match=r"^MLflow at http://here: of http://here, no"):
        fails(MlflowException("API request to http://x:y@here/api failed with exception of http://x:y@here, no"))

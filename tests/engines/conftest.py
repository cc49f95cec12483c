"""A misbehaving loopback server for every test of what talks to endpoints."""

import pytest
from loopback import PROXIES, SECRET, Server


@pytest.fixture
def keyed(monkeypatch):
    """The key is in the environment, and no proxy is."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(keyed):
    found = Server()
    yield found
    found.close()

"""Models from a hub on loopback, cut off once, and from folders; what is not whole is refused."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from grandrounds.errors import UserError
from grandrounds.params import LocalModel
from grandrounds.training import pretrained

COMMIT = "a" * 40
CARD = "---\nlicense: other\nlicense_name: qwen-research\n---\n# A model\n"
FILES = {
    "config.json": b'{"model_type": "qwen2_5_vl"}', "README.md": CARD.encode(), "model.safetensors": bytes(25_000_000),
    "pytorch_model.bin": b"pickle", "modeling.py": b"print('code')",
}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """The two addresses of the hub that a snapshot needs. The first request for the weights is cut off half-way."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str]] = []  # (file, Range)
    cut = False

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/some/model"):
            if COMMIT not in path:
                return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body)
            listed = [{"rfilename": name} for name in FILES]
            if "/tree/" in path:
                listed = [{"type": "file", "path": n, "size": len(c), "oid": f"{n:0<40}"} for n, c in FILES.items()]
                return self._send(200, json.dumps(listed).encode(), {}, body)
            return self._send(
                200, json.dumps({"id": "some/model", "sha": COMMIT, "siblings": listed}).encode(), {}, body
            )
        name = path.rpartition("/")[2]
        if f"/resolve/{COMMIT}/" not in path or name not in FILES:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        content, span = FILES[name], self.headers.get("Range") or ""
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", span)) else 0
        head = {"X-Repo-Commit": COMMIT, "ETag": f'"{name}-1"', "Accept-Ranges": "bytes"}
        if start:
            head["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if body:
            Hub.asked.append((name, span))
        self._send(206 if start else 200, content[start:], head, body, cut=name.endswith(".safetensors") and body)

    def _send(self, code: int, content: bytes, head: dict[str, str], body: bool, cut: bool = False) -> None:
        self.send_response(code)
        for key, value in {**head, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if cut and not Hub.cut:
            Hub.cut = True
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked, Hub.cut = [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetched(hub: str, folder: Path, commit: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the address of the hub is read when its library is imported."""
    code = (
        "import json\nfrom grandrounds.params import HubModel\nfrom grandrounds.training import pretrained\n"
        f"one = {{'repository': 'some/model', 'revision': '{commit}'}}\n"
        "print(json.dumps(pretrained.fetch(HubModel(type='hub', base=one, teacher=one))))"
    )
    env = {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "hf"), "PATH": "", "HF_HUB_DISABLE_XET": "1"}
    env["PYTHONPATH"] = str(Path(pretrained.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_a_cut_off_download_goes_on_and_only_safetensors_are_taken(hub: str, tmp_path: Path) -> None:
    done = fetched(hub, tmp_path, COMMIT)
    if done.returncode:  # the library gave up at the cut: the next run goes on
        done = fetched(hub, tmp_path, COMMIT)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert (
        told["base"] == {"repository": "some/model", "revision": COMMIT, "licence": "qwen-research"} == told["teacher"]
    )
    for name in ("base", "teacher"):
        found = {path.name: path.read_bytes() for path in (tmp_path / "models" / name).iterdir()}
        assert found == {key: FILES[key] for key in ("config.json", "README.md", "model.safetensors")}
    weights = [span for name, span in Hub.asked if name == "model.safetensors"]
    assert len(weights) == 2 and weights[1].startswith("bytes=") and weights[1] != "bytes=0-"  # once, and the rest
    assert not (tmp_path / ".scratch/hub").exists()


def test_a_commit_that_the_hub_has_not_is_one_line(hub: str, tmp_path: Path) -> None:
    done = fetched(hub, tmp_path, "b" * 40)
    assert done.returncode and "UserError: base.model.base: some/model at bbbbbbbbbbbb cannot be fetched" in done.stderr
    assert not (tmp_path / "models").exists()


def test_local_folders_are_copied_and_have_to_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "mine"
    spec = LocalModel(type="local", base=source, teacher=source)
    with pytest.raises(UserError, match="is not a folder"):
        pretrained.fetch(spec)
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match="pickled weights are never loaded"):
        pretrained.fetch(spec)
    (source / "one.safetensors").write_bytes(b"1")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"lacks two\.safetensors"):
        pretrained.fetch(spec)
    (source / "two.safetensors").write_bytes(b"2")
    assert pretrained.fetch(spec)["base"] == {"folder": "mine", "licence": "not stated"}
    assert not (tmp_path / "models/base/pytorch_model.bin").exists()


@pytest.mark.parametrize(
    ("card", "name"),
    [("---\nlicense: apache-2.0\n---\n", "apache-2.0"), (CARD, "qwen-research"), ("no head", "not stated"),
     ("---\nlicense: [\n---\n", "not stated"), ("---\nlicense: other\n---\n", "other")],
)  # fmt: skip
def test_the_licence_is_what_the_card_says(card: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert pretrained.licence(tmp_path) == name

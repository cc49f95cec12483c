"""DVC's remotes: what one machine pushes, a fresh clone pulls, and `dvc repro` has nothing to run."""

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import dvc

pytestmark = pytest.mark.slow
PIPELINE = """
stages:
  make:
    cmd: python make.py
    deps: [make.py]
    params: [word]
    outs: [made, ones.bin]
"""
MAKE = """
import pathlib
word = pathlib.Path("params.yaml").read_text().split()[1]
pathlib.Path("made").mkdir(exist_ok=True)
for number in range(20):
    pathlib.Path(f"made/{number}.txt").write_text(f"{word} {number}")
pathlib.Path("ones.bin").write_bytes(word.encode() * 200_000)
"""


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "first machine"
    folder.mkdir()
    git(folder, "init", "-q")
    for name, text in {"dvc.yaml": PIPELINE, "make.py": MAKE, "params.yaml": "word: one\n"}.items():
        (folder / name).write_text(text)
    dvc(folder, "init", "-q")
    return folder


class SftpServer:
    """An SSH server of asyncssh, in a thread, that lets one key in."""

    def __init__(self, root: Path, keys: Path) -> None:
        import asyncssh

        self.root, self.key = root, keys / "id"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(self.key))
        public = keys / "authorized"
        asyncssh.read_private_key(str(self.key)).write_public_key(str(public))
        self.loop, self.started = asyncio.new_event_loop(), threading.Event()

        async def serve() -> None:
            self.server = await asyncssh.listen(
                "127.0.0.1", 0, server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
                authorized_client_keys=str(public), sftp_factory=True,
            )  # fmt: skip
            self.port = self.server.sockets[0].getsockname()[1]
            self.started.set()

        def run() -> None:
            self.loop.run_until_complete(serve())
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        assert self.started.wait(20)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpServer]:
    pytest.importorskip("asyncssh", reason="no dvc-ssh: `pip install 'grandrounds[ssh]'`")
    for name in ("store", "keys"):
        (tmp_path / name).mkdir()
    found = SftpServer(tmp_path / "store", tmp_path / "keys")
    yield found
    found.close()


def settings(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """A remote's URL and its options."""
    if kind == "local":
        return str(tmp_path / "remote store"), {}
    if kind == "s3":
        s3 = request.getfixturevalue("s3")
        return f"s3://{s3.bucket}/dvc-{tmp_path.name}", {"endpointurl": s3.endpoint}
    sftp = request.getfixturevalue("sftp")
    url = f"ssh://dvc@127.0.0.1:{sftp.port}{sftp.root}"
    return url, {"keyfile": str(sftp.key), "allow_agent": "false"}


@pytest.mark.parametrize("kind", ["local", "s3", "ssh"])
def test_push_clone_pull_and_nothing_to_run(
    kind: str, project: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, options = settings(kind, request, tmp_path)
    dvc(project, "remote", "add", "-d", "store", url)
    for name, value in options.items():
        dvc(project, "remote", "modify", "store", name, value)
    dvc(project, "repro")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "one")
    old = (project / "dvc.lock").read_bytes()
    (project / "params.yaml").write_text("word: two\n")
    dvc(project, "repro")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "two")
    dvc(project, "push", "--run-cache", "--all-commits")

    clone = tmp_path / "second machine"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    shutil.rmtree(project)
    dvc(clone, "pull", "--run-cache", "--all-commits")
    said, _ = dvc(clone, "repro")
    assert "Running stage" not in said and "up to date" in said
    assert (clone / "made/7.txt").read_text() == "two 7" and (clone / "ones.bin").stat().st_size == 600_000

    (clone / "params.yaml").write_text("word: one\n")  # what another machine ran before, under older params
    (clone / "dvc.lock").unlink()
    said, _ = dvc(clone, "repro")
    assert "Running stage" not in said and "cached" in said, said
    assert (clone / "dvc.lock").read_bytes() == old and (clone / "made/7.txt").read_text() == "one 7"

"""`grandrounds doctor`: every check on what it is to find, with real servers, repositories and folders."""

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grandrounds import cli, doctor
from grandrounds.doctor import checkout, machine, services
from grandrounds.doctor.finding import Finding

ROOT = Path(__file__).resolve().parent.parent
OURS = metadata.version("mlflow")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return tmp_path


@contextmanager
def answering(pages: dict[str, str]) -> Iterator[str]:
    """A loopback server with these pages, 404 for the rest; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def run(*words: str, cwd: Path) -> None:
    subprocess.run(words, cwd=cwd, check=True, capture_output=True)


def commit(folder: Path, name: str, **env: str) -> None:
    (folder / name).write_text(name)
    run("git", "add", name, cwd=folder)
    who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", *who, "commit", "-qm", name], cwd=folder, check=True, env={"PATH": "/usr/bin:/bin", **env})


def test_a_package_is_missed_only_where_setup_would_install_it(project, tmp_path, monkeypatch) -> None:
    site = tmp_path / "site"
    info = site / "grandrounds-9.dist-info"
    info.mkdir(parents=True)
    needs = ["needed-one; python_version > '3'", "never; python_version < '3'", "asked-for; extra == 'dev'",
             "big-thing; extra == 'ray'"]  # fmt: skip
    lines = [f"Requires-Dist: {each}" for each in needs]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", "Name: grandrounds", "Version: 9", *lines]))
    monkeypatch.syspath_prepend(str(site))
    (project / "constraints.txt").write_text("big_thing==1\nnever==1\nof-big-thing==2\n")
    found = machine.packages(project)
    assert found.state == "ok" and "3 that only extras need" in found.found
    (project / "constraints.txt").write_text("big_thing==1\nNeeded_One==1\nasked.for==1\npytest==0.0.1\n")
    found = machine.packages(project)
    assert found.state == "bad" and found.found.startswith("Needed_One is missing, asked.for is missing, pytest ")
    assert "make setup" in found.mend


def test_a_check_that_hangs_or_breaks_is_a_finding_and_holds_up_nothing(project, monkeypatch) -> None:
    def breaks(_: Path) -> Finding:
        raise RuntimeError("no such\nthing")

    checks: dict[str, Callable[[Path], Finding]] = {
        "slow": lambda _: time.sleep(30), "broken": breaks, "well": checkout.params
    }  # fmt: skip
    monkeypatch.setattr(doctor, "CHECKS", checks)
    begin = time.monotonic()
    slow, broken, well = doctor.examine(project, patience=3)
    assert time.monotonic() - begin < 8
    assert "no answer within 3 s" in slow.found and "RuntimeError: no such thing" in broken.found
    assert well.state == "ok" and slow.mend and broken.mend


def test_the_whole_is_quick_and_every_fault_has_a_mend(project, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        found = list(doctor.examine(project))
        assert time.monotonic() - begin < 10
    assert [each.what for each in found] == list(doctor.CHECKS)
    assert all(each.mend for each in found if each.state != "ok")
    server = next(each for each in found if each.what == "MLflow server")
    assert server.state == "bad" and "does not answer" in server.found
    assert CliRunner().invoke(cli.app, ["doctor"]).exit_code == 1


def test_a_server_is_up_of_another_version_of_another_kind_or_down(project, monkeypatch) -> None:
    def asked(pages: dict[str, str]) -> Finding:
        with answering(pages) as address:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("//", "//user:hunter2@"))
            found = services.mlflow(project)
        assert "hunter2" not in found.found + found.mend
        return found

    assert asked({"/": "", "/version": OURS}).state == "ok"
    old = asked({"/": "", "/version": "2.1.0"})
    assert old.state == "note" and "MLflow 2.1.0 at http://127.0.0.1" in old.found and OURS in old.mend
    assert "is no MLflow" in asked({"/": "<html>hello"}).found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
    assert "refused" in services.mlflow(project).found
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200")
    assert services.prefect(project).mend == "set it to http://127.0.0.1:4200/api"
    with answering({"/": "", "/api/admin/version": f'"{metadata.version("prefect")}"'}) as address:
        monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
        assert services.prefect(project).state == "ok"


def test_a_port_is_free_of_a_server_or_taken(project) -> None:
    number = closed_port()
    assert services.port(project, number, "MLflow").found == "free for MLflow"
    with answering({"/version": OURS}) as address:
        number = int(address.rpartition(":")[2])
        assert services.port(project, number, "MLflow").found.endswith("of another project")
        (project / ".scratch").mkdir()
        (project / ".scratch/ui.json").write_text(f'{{"mlflow": "{address}"}}')
        assert "this project's `grandrounds ui`" in services.port(project, number, "MLflow").found
        taken = services.port(project, number, "Prefect")
        assert taken.state == "note" and "(process " in taken.found


def test_git_dirty_shallow_and_a_clock_behind_the_newest_commit(project) -> None:
    assert "no git repository" in checkout.repository(project).found
    far = project / "far"
    far.mkdir()
    run("git", "init", "-q", cwd=far)
    assert checkout.repository(far).found == "no commit yet"
    commit(far, "one")
    commit(far, "two")
    assert checkout.repository(far).state == "ok" and checkout.clock(far).state == "ok"
    run("git", "clone", "-q", "--depth", "1", far.as_uri(), "near", cwd=project)
    near = project / "near"
    (near / "one").write_text("changed")
    found = checkout.repository(near)
    assert "a shallow clone, 1 tracked file with changes" in found.found and "git fetch --unshallow" in found.mend
    commit(near, "three", GIT_COMMITTER_DATE="2095-01-01T00:00:00Z")
    assert checkout.clock(near).state == "bad" and "before the newest commit" in checkout.clock(near).found


def test_keys_are_named_and_never_shown(project, monkeypatch) -> None:
    assert services.keys(project).found == "none needed"
    text = (project / "params.yaml").read_text().replace("reference: {type: reference}", "g: {type: gemini}")
    text = text.replace("engine: {type: transformers, batch: 256, memory: 2.0}", "engine: {type: openai}")
    (project / "params.yaml").write_text(text)
    found = services.keys(project)
    assert found.state == "bad" and "filter.engine needs OPENAI_API_KEY" in found.found
    assert "judge.judges.g needs GEMINI_API_KEY or GOOGLE_API_KEY" in found.found
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted")
    monkeypatch.setenv("GOOGLE_API_KEY", "sk-planted")
    assert services.keys(project).state == "ok"
    assert "sk-planted" not in CliRunner().invoke(cli.app, ["doctor"]).output


def test_the_hub_is_needed_or_not_and_offline_or_not(project, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert services.hub(project).found == "not needed: stages work offline"
    (project / "params.yaml").write_text((ROOT / "recipes/medvlthinker-3b.yaml").read_text())
    found = services.hub(project)
    assert found.state == "note" and "Qwen/" in found.found and "unset HF_HUB_OFFLINE" in found.mend
    with answering({"/": ""}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert services.hub_reachable(project).state == "ok"
    assert services.hub_reachable(project).state == "note"


def test_the_dvc_remote_and_telemetry(project) -> None:
    dvc = lambda *words: run(sys.executable, "-m", "dvc", *words, cwd=project)  # noqa: E731
    dvc("init", "-q", "--no-scm")
    assert services.telemetry(project).mend == "`dvc config core.analytics false`"
    assert "a fresh clone has to make all" in services.remote(project).found
    dvc("config", "core.analytics", "false")
    assert services.telemetry(project).state == "ok"
    dvc("remote", "add", "-d", "here", str(project / "store"))
    assert "`dvc push`" in services.remote(project).mend
    (project / "store").mkdir()
    assert services.remote(project).state == "ok"
    dvc("remote", "add", "-d", "far", "s3://bucket/x")
    dvc("remote", "modify", "far", "endpointurl", f"http://127.0.0.1:{closed_port()}")
    found = services.remote(project)  # with dvc-s3 installed or not
    assert found.state == "bad" and ("does not answer" in found.found or "'.[s3]'" in found.mend)

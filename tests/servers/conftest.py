"""Real servers for the slow tests: PostgreSQL of the distribution, and moto's S3, on free loopback ports.

`postgres()` gives the URL of a fresh, empty database; `s3` an endpoint, a bucket and its variables of the environment.
Where one is not installed, the tests that ask for it are skipped with one line that says what to install.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from processes import Process, free_port, listening

USER = "grandrounds"


class Postgres:
    """One PostgreSQL cluster in a folder of its own. Calling it makes a database and gives its URL."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self.programs, self.folder, self.port, self._numbers = programs, folder, port, count(1)
        data = str(folder / "data")
        self.run("initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        settings = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}", "fsync=off"]
        options = [word for setting in settings for word in ("-c", setting)]
        self.process = Process(self.command("postgres", "-D", data, *options), folder.with_suffix(".log"))
        self.process.wait_for(self.answers)

    def command(self, program: str, *words: str) -> list[str]:
        """PostgreSQL refuses to run as root; the distribution's own user is there for it."""
        ours = [str(self.programs / program), *words]
        return ["runuser", "-u", "postgres", "--", *ours] if os.geteuid() == 0 else ours

    def run(self, program: str, *words: str) -> str:
        done = subprocess.run(self.command(program, *words), capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def answers(self) -> bool:
        asked = self.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-d", "postgres")
        return subprocess.run(asked, cwd=self.folder).returncode == 0

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql prints, unaligned and without a heading."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *where, "-c", text).strip()

    def __call__(self, scheme: str = "postgresql+psycopg2") -> str:
        """As MLflow takes it: SQLAlchemy 2.1 reads plain `postgresql` as psycopg 3. Prefect: `postgresql+asyncpg`."""
        name = f"grandrounds_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"{scheme}://{USER}@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """At once, but in order: SIGINT is PostgreSQL's fast shutdown; the postmaster ends its children."""
        pid = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGINT)
        self.process.running.wait(30)


def programs() -> Path | None:
    """The newest PostgreSQL's folder of programs: Debian keeps initdb out of PATH."""
    debian = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if debian:
        return max(debian, key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL: `apt-get install postgresql`")
    if importlib.util.find_spec("psycopg2") is None:
        pytest.skip("no driver for PostgreSQL: `pip install 'grandrounds[postgres]'`")
    # not pytest's own folder, which no other user may enter; and a socket's path has 107 characters at most
    with tempfile.TemporaryDirectory(prefix="gr-pg-") as holder:
        folder = Path(holder, "cluster")
        folder.mkdir()
        if os.geteuid() == 0:
            Path(holder).chmod(0o755)
            shutil.chown(folder, "postgres")
        cluster = Postgres(found, folder, free_port())
        yield cluster
        cluster.stop()


@dataclass(frozen=True)
class S3:
    """A running S3 server with one empty bucket."""

    endpoint: str
    bucket: str
    process: Process
    environment: dict[str, str] = field(default_factory=dict)

    def client(self):
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """The variables of the environment are set while any test runs that asked for it, and for its child processes."""
    for module, extra in (("moto", "servers"), ("boto3", "s3")):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module}: `pip install 'grandrounds[{extra}]'`")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = Process(command, tmp_path_factory.mktemp("s3") / "moto.log")
    endpoint = f"http://127.0.0.1:{port}"
    names = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint, "MLFLOW_S3_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    found = S3(endpoint, "grandrounds", process, names)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        process.wait_for(lambda: listening(port))
        found.client().create_bucket(Bucket=found.bucket)
        yield found
    process.kill()

"""deploy/: the compose file is whole as far as it can be read, and a backup comes back as it was."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from projects import ROOT

DEPLOY = ROOT / "deploy"


def test_every_variable_is_explained_and_every_image_pinned() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    example = (DEPLOY / ".env.example").read_text()
    given = dict(line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#"))
    assert used == set(given)
    assert not [name for name in given if re.search("PASSWORD|KEY", name) and given[name]], "no secret has a default"
    services = yaml.safe_load(text)["services"]
    for name, service in services.items():
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"]), name
        assert set(service.get("depends_on", {})) <= services.keys()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).is_file(), volume
        assert all(port.startswith("${BIND_ADDRESS}:") for port in service.get("ports", ()))
    copied = re.findall(r"^COPY (.+) \S+$", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert all((ROOT / each).exists() for line in copied for each in line.split())


def script(postgres, name: str, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres.port), "PGUSER": "grandrounds"}
    env = {**os.environ, **where, "PATH": f"{postgres.programs}{os.pathsep}{os.environ['PATH']}", **more}
    return subprocess.run(["bash", str(DEPLOY / name), *words], env=env, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_a_backup_comes_back_as_it_was(postgres, s3, tmp_path: Path) -> None:
    """Both databases, with MLflow's real tables: rows that came or went after the backup are undone by the restore."""
    from mlflow import MlflowClient

    urls = [postgres(), postgres()]
    mlflow, prefect = (url.rsplit("/", 1)[1] for url in urls)
    client = MlflowClient(urls[0], urls[0])
    run = client.create_run(client.create_experiment("kept", artifact_location=f"s3://{s3.bucket}/b"), run_name="a b")
    client.log_metric(run.info.run_id, "loss", 0.25)
    client.create_registered_model("grandrounds")
    postgres.sql("CREATE TABLE flow_run (name text); INSERT INTO flow_run VALUES ('weekly')", prefect)

    names = {"MLFLOW_DB": mlflow, "PREFECT_DB": prefect}
    folder = tmp_path / "of today"
    done = script(postgres, "backup.sh", str(folder), **names)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{mlflow}.dump", f"{prefect}.dump"])

    client.delete_registered_model("grandrounds")
    client.log_metric(run.info.run_id, "late", 1.0)
    postgres.sql("DROP TABLE flow_run", prefect)
    done = script(postgres, "restore.sh", str(folder), **names)
    assert done.returncode == 0, done.stderr
    assert client.get_run(run.info.run_id).data.metrics == {"loss": 0.25}
    assert [model.name for model in client.search_registered_models()] == ["grandrounds"]
    assert postgres.sql("SELECT name FROM flow_run", prefect) == "weekly"

    (folder / f"{prefect}.dump").unlink()
    lost = script(postgres, "restore.sh", str(folder), **names)
    assert lost.returncode == 1 and lost.stderr.count("\n") == 1 and f"{prefect}.dump: missing" in lost.stderr


@pytest.mark.slow
def test_the_first_start_makes_users_and_databases(postgres) -> None:
    secrets = {"MLFLOW_DB_PASSWORD": "m'1", "PREFECT_DB_PASSWORD": "p2", "POSTGRES_USER": "grandrounds"}
    done = script(postgres, "databases.sh", **secrets)
    assert done.returncode == 0, done.stderr
    owners = "SELECT datname || ' ' || pg_get_userbyid(datdba) FROM pg_database WHERE datname IN ('mlflow', 'prefect')"
    assert sorted(postgres.sql(owners).splitlines()) == ["mlflow mlflow", "prefect prefect"]

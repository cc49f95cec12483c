"""A real MLflow server on loopback."""

import os
import sys
from pathlib import Path
from urllib.request import urlopen

from processes import Process, free_port


class Mlflow:
    """One server, its database and its folder of the bucket."""

    def __init__(self, database: str, destination: str, log: Path, **more: str) -> None:
        self.database, self.port = database.rsplit("/", 1)[1], free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", database, "--artifacts-destination", destination]
        env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **more}
        self.process = Process(command, log, {key: value for key, value in env.items() if key != "MLFLOW_TRACKING_URI"})
        self.process.wait_for(self.answers, 120)

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=2) as reply:
                return reply.status == 200
        except OSError:
            return False

    def again(self) -> None:
        self.process.start()
        self.process.wait_for(self.answers, 120)

    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri, self.uri)

    def runs(self) -> list:
        client = self.client()
        return client.search_runs([client.get_experiment_by_name("grandrounds").experiment_id], max_results=1000)

"""A key in the environment is in nothing that a stage writes, whatever the endpoint does with it."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from loopback import SECRET, Server, completion

from grandrounds import files
from grandrounds.records import Prediction, Question

REPOSITORY = Path(__file__).parents[2]
MARK = "said by the endpoint"
FORMS = (SECRET.encode(), base64.b64encode(SECRET.encode()))


def question(number: int, split: str) -> Question:
    text = dict.fromkeys(("specialty", "topic", "label", "conclusion", "image"), "")
    return Question(
        id=f"{split}{number}", source="s", split=split, group=f"g{number}", modality="text", kind="yes_no",
        question="Is it?", options=[], answer="yes", synonyms=[], explanation="It is.", key_facts=[], **text,
    )  # fmt: skip


def prediction(asked: Question, prompt: str) -> Prediction:
    return Prediction(
        arm="base", question_id=asked.id, split=asked.split, prompt=prompt, completion="<answer>yes</answer>", tokens=3,
        finished=True, extracted=True, format_ok=True, answer="yes", correct=True, correct_lenient=True,
    )  # fmt: skip


def judged_by(root: Path, url: str) -> "subprocess.CompletedProcess[bytes]":
    """`python -m tasks.judge` in a process of its own, with the key in its environment."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["judge"] |= {"judges": {"remote": {"type": "openai", "model": "m", "endpoints": [url], "timeout": 5}}}
    params["judge"] |= {"baselines": [], "resamples": 200}
    params["predict"]["arms"] = {"base": params["predict"]["arms"]["base"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    env = ours | {"PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": SECRET}
    return subprocess.run([sys.executable, "-m", "tasks.judge"], cwd=root, env=env, capture_output=True, timeout=240)


def written(root: Path) -> dict[str, bytes]:
    """Everything under the project: results, records, MLflow's database and artifacts, kept replies."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("keyed")
def test_a_planted_key_is_in_nothing_that_is_written(tmp_path: Path) -> None:
    questions = {split: [question(number, split) for number in range(3)] for split in ("val", "test", "unseen")}
    for split, rows in questions.items():
        files.write(tmp_path / f"data/curated/{split}.parquet", rows, Question)
    (tmp_path / "data/curated/benchmarks").mkdir()
    prompts = ("reasoning", "no_reasoning")
    asked = [prediction(each, prompt) for rows in questions.values() for each in rows for prompt in prompts]
    files.write(tmp_path / "data/predictions/base.parquet", asked, Prediction)
    verdict = f'{{"evaluation": "{MARK}: {SECRET}", "reasoning_score": 1, "prediction_score": 1}}'

    def echo(number: int, body: Any) -> Any:
        """Says the key in a refusal, in an error to be tried again, in its verdicts and beside them."""
        if number == 0:
            return 500, {"X-Key": SECRET, "Retry-After": "0"}, f"failed with Bearer {SECRET}"
        return 200, {"X-Key": SECRET}, completion(verdict, system_fingerprint=SECRET)

    def refuse(number: int, body: Any) -> Any:
        return 401, {}, f'{{"error": {{"message": "Incorrect API key provided: {SECRET}", "code": "{SECRET}"}}}}'

    for script, code in ((echo, 0), (refuse, 1)):
        server = Server(script)
        try:
            done = judged_by(tmp_path, server.url)
        finally:
            server.close()
        assert done.returncode == code, done.stderr.decode()
        assert any(SECRET in str(headers) for headers in server.headers)  # it was used
        everything = {**written(tmp_path), "stdout": done.stdout, "stderr": done.stderr}
        assert {".mlflow/mlflow.db", "reports/judge/run.json", "data/verdicts.parquet"} <= set(everything)
        assert not [(name, form) for name, text in everything.items() for form in FORMS if form in text]
        if code == 0:  # the search sees what an endpoint says: its replies are kept as they came, but for the key
            kept = [path for path in (tmp_path / ".cache").rglob("*") if path.is_file()]
            assert any(MARK.encode() in path.read_bytes() for path in kept)
            for path in kept:
                path.unlink()  # else the second run would ask nothing
    rows = str(pq.read_table(tmp_path / "data/verdicts.parquet").to_pylist())  # compressed in the file
    assert MARK in rows and SECRET not in rows

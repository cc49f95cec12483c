"""Checkpoints as MLflow's logged models: found by their scores, and a resumed run names those of the one before."""

from pathlib import Path
from typing import Any

import pytest

from grandrounds.tracking import lineage, store
from grandrounds.tracking.stage import stage_run

SCORES = {
    10: {"accuracy": 0.5, "reasoning": 0.9, "tokens": 400.0},  # the best reasoning, but too long
    20: {"accuracy": 0.6, "reasoning": 0.7, "tokens": 200.0},
    30: {"accuracy": 0.7, "reasoning": 0.6, "tokens": 90.0},
    40: {"accuracy": 0.7, "reasoning": None, "tokens": 80.0},
}


def _train(project: Any, steps: list[int], fail: bool = False) -> None:
    with stage_run("grpo", "rarl", project.params, inputs=[], outputs=["models/policies/rarl"]) as run:
        for step in steps:
            folder = Path(f"outbox-{step}")
            folder.mkdir(exist_ok=True)
            (folder / "adapter_model.safetensors").write_text(f"weights of {step}")
            run.checkpoint(step, SCORES[step], folder)
        run.checkpoint(5, {}, None)  # full weights, not scored
        if fail:
            raise RuntimeError("killed")
        run.finish({"steps": 40})


def test_the_best_reasoning_under_256_tokens_is_one_search(project: Any) -> None:
    import mlflow

    with pytest.raises(RuntimeError):
        _train(project, [10, 20], fail=True)
    _train(project, [10, 20, 30, 40])
    assert not list(Path().glob("outbox-*"))  # the writer removes what it has logged

    client, experiment = store.connect()
    found = mlflow.search_logged_models(
        filter_string="metrics.reasoning > 0 AND metrics.tokens < 256 AND tags.`grandrounds.item` = 'rarl'",
        order_by=[{"field_name": "metrics.reasoning", "ascending": False}],
        experiment_ids=[experiment],
        output_format="list",
    )
    assert [model.name for model in found] == ["grpo-rarl-step-20", "grpo-rarl-step-30"]
    assert {metric.key: metric.value for metric in found[0].metrics} == SCORES[20]
    place = mlflow.artifacts.download_artifacts(f"models:/{found[0].model_id}", dst_path="down")
    assert Path(place, "adapter_model.safetensors").read_text() == "weights of 20"

    assert len(client.search_logged_models([experiment])) == 5  # none twice
    runs = [client.get_run(run.info.run_id) for run in client.search_runs([experiment])]
    outputs = {run.info.status: len(run.outputs.model_outputs) for run in runs}
    assert outputs == {"FAILED": 3, "FINISHED": 5}
    first, second = sorted(runs, key=lambda run: run.info.status)
    assert found[0].source_run_id == first.info.run_id  # which was killed; the one that went on has its code recorded
    node = lineage.of_checkpoint(client, experiment, first.info.run_id, found[0].model_id)
    assert node is not None and node.whole and node.run_id == second.info.run_id

"""merge <item>: several LoRA updates of the base become one, with their conflicts in view.

Chosen: the merge works on the exact updates dW = scale * B A, not on the A's and B's, whose averages mean nothing; TIES
by default (trim, elect a sign, average what agrees: MMedExpert-R1's conflict-aware integration is described as
TIES-style); and the result is cut back to a LoRA of `rank`, so that it serves like any other adapter. The cost of that
cut is in the metrics (`truncation_error`): when it is large, raise `rank`.

The fifth adapter beside the specialists is either one more update (the policy, in `unified`) or a twin: the same
specialty under another seed. A twin is not merged; it says how much two updates disagree by training noise alone, which
is the yardstick for every other pair of the conflict report.
"""

from statistics import fmean

from grandrounds import files, runtime
from grandrounds.domain.conflicts import compare_all
from grandrounds.domain.merging import merge
from grandrounds.lora import load_update, save_update
from grandrounds.params import Params
from grandrounds.records import Conflict, MergeReport
from grandrounds.tracking.stage import stage_run, task_main


def main(item: str, params: Params) -> None:
    settings = params.merge.items[item]
    beside = settings.beside
    model, report = f"models/merged/{item}", f"data/conflicts/{item}.parquet"
    paths = {name: str(path) for name, path in settings.updates.items()}
    inputs = [*paths.values(), str(beside.path)]

    with stage_run("merge", item, params, inputs=inputs, outputs=[model, report]) as run:
        updates = {name: load_update(path) for name, path in paths.items()}
        other = load_update(beside.path)
        twin = None
        if beside.role == "update":
            updates[beside.name] = other
        else:
            twin = (beside.of, beside.name, other)

        conflicts = compare_all(updates, twin)
        with runtime.one_thread():
            merged = merge(updates, settings.weights, settings.method, settings.rank)

        save_update(model, merged.update)
        files.write(report, conflicts, Conflict)
        run.finish(
            {
                "method": settings.method.type,
                "rank": settings.rank,
                "modules": len(merged.report),
                "truncation_error": truncation(merged.report),
                "pairs": pairs(conflicts),
            }
        )


def truncation(report: list[MergeReport]) -> dict[str, float]:
    errors = [row.truncation_error for row in report]
    return {"mean": fmean(errors), "max": max(errors)}


def pairs(conflicts: list[Conflict]) -> list[dict[str, str | bool | float]]:
    """Means over modules for each pair, in the order of the report."""
    rows: dict[tuple[str, str, bool], list[Conflict]] = {}
    for row in conflicts:
        rows.setdefault((row.first, row.second, row.null), []).append(row)
    return [
        {
            "first": first,
            "second": second,
            "null": null,
            "cosine": fmean(row.cosine for row in group),
            "sign_disagreement": fmean(row.sign_disagreement for row in group),
        }
        for (first, second, null), group in rows.items()
    ]


if __name__ == "__main__":
    task_main("merge", main, items=True)

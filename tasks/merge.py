"""merge <item>: several LoRA updates of the base become one, with their conflicts in view.

Chosen: the merge works on the exact updates dW = scale * B A, not on the A's and B's, whose averages mean nothing;
conflict-aware in the embedded default (MMedExpert-R1's conflict-aware integration is described as TIES-style; what ours
does otherwise, and how all methods compare, is in docs/merging.md); and the result is cut back to a LoRA of `rank`, so
that it serves like any other adapter. The cost is in the metrics (`truncation_error`): when it is large, raise `rank`.

The fifth adapter beside the specialists is either one more update (the policy, in `unified`) or a twin: the same
specialty under another seed. A twin is not merged; it says how much two updates disagree by training noise alone, which
is the yardstick for every other pair of the conflict report.

With `merge.search` the method is not the item's own but the best of several that were scored on the validation split,
by the engine that `predict` uses, among those that keep every specialist's gain (domain/merging/selection.py).
"""

from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from grandrounds import files, runtime, search
from grandrounds.domain.adapters import LoraUpdate
from grandrounds.domain.conflicts import compare_all, hardest, pair_means
from grandrounds.domain.merging.merge import MergedUpdate, merge
from grandrounds.domain.merging.selection import Trial, frontier, kept, pick
from grandrounds.engines.validation import right
from grandrounds.lora import load_update, save_update
from grandrounds.params import MergeMethod, MergeSearch, Params
from grandrounds.records import Conflict, MergeReport, Question
from grandrounds.tracking.stage import StageRun, stage_run, task_main

VALIDATION, IMAGES, BASE = "data/curated/val.parquet", "data/curated/images", "models/base"
Updates = dict[str, LoraUpdate]


def main(item: str, params: Params) -> None:
    settings, space = params.merge.items[item], params.merge.search
    beside = settings.beside
    model, report = f"models/merged/{item}", f"data/conflicts/{item}.parquet"
    inputs = [*map(str, settings.updates.values()), str(beside.path), *([VALIDATION, IMAGES, BASE] if space else [])]

    with stage_run("merge", item, params, inputs=inputs, outputs=[model, report]) as run:
        updates = {name: load_update(path) for name, path in settings.updates.items()}
        other, twin = load_update(beside.path), None
        if beside.role == "update":
            updates[beside.name] = other
        else:
            twin = (beside.of, beside.name, other)
        with runtime.one_thread():
            conflicts = compare_all(updates, twin)
        method, found = searched(item, params, updates, space, run) if space else (settings.method, {})
        merged = merged_by(method, item, params, updates)
        save_update(model, merged.update)
        files.write(report, conflicts, Conflict)
        run.finish(
            {
                "method": method.type,
                "rank": settings.rank,
                "modules": len(merged.report),
                "truncation_error": truncation(merged.report),
                "pairs": pair_means(conflicts),
                "hardest": hardest(conflicts),
                **found,
            }
        )


def merged_by(method: MergeMethod, item: str, params: Params, updates: Updates) -> MergedUpdate:
    settings, workers = params.merge.items[item], runtime.torch_threads()
    return merge(
        updates, settings.weights, method, settings.rank, energy=settings.energy, rules=settings.rules, workers=workers
    )


def searched(
    item: str, params: Params, updates: Updates, space: MergeSearch, run: StageRun
) -> tuple[MergeMethod, dict[str, dict]]:
    """The method that the search picks, and what it saw. Every trial is a child run; the study goes on if cut off."""
    questions = files.read(VALIDATION, Question)

    def accuracy(adapter: str | Path | None) -> dict[str, float]:
        answers: dict[str, list[bool]] = {}
        for question, answer in zip(questions, right(questions, params, adapter), strict=True):
            answers.setdefault(question.specialty, []).append(answer)
        return {name: fmean(each) for name, each in sorted(answers.items())}

    def score(method: MergeMethod) -> dict[str, float]:
        with TemporaryDirectory() as folder:
            save_update(Path(folder) / "merged", merged_by(method, item, params, updates).update)
            return accuracy(Path(folder) / "merged")

    def note(trial: Trial) -> None:
        run.child(f"trial {trial.number}", trial.method, {"macro": trial.macro, **trial.scores})

    base, own = accuracy(None), {}
    for path in params.merge.items[item].updates.values():
        home = params.adapt.items[path.name].specialties if path.name in params.adapt.items else ()
        if len(home) == 1:
            own[home[0]] = accuracy(path)[home[0]]
    study = Path(f".cache/searches/{item}-{run.identity}.log")
    seed = runtime.derive_seed(params.seed, "merge", item)
    done = search.trials(space, params.merge.items[item].method, score, seed, study, note)
    run.artifact(study)
    choice = pick(done, base, own, space.keep)
    run.warn(*(f"{name}: the merge keeps {kept(choice.trial.scores, base, own)[name]:.0%} of its specialist's gain "
               f"({choice.why})" for name in choice.lost))  # fmt: skip
    best = {trial.number for trial in frontier(done)}
    rows = [{"number": each.number, "method": each.method, "scores": each.scores, "macro": each.macro,
             "frontier": each.number in best} for each in done]  # fmt: skip
    seen = {"base": base, "specialists": own, "trials": rows, "picked": choice.trial.number, "why": choice.why}
    return TypeAdapter(MergeMethod).validate_python(choice.trial.method), {"search": seen}


def truncation(report: list[MergeReport]) -> dict[str, float]:
    errors = [row.truncation_error for row in report]
    return {"mean": fmean(errors), "max": max(errors)}


if __name__ == "__main__":
    task_main("merge", main, items=True)

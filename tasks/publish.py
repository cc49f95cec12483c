"""Publish: every arm in the registry, its aliases, model cards, and the report.

The best arm on the validation split becomes `challenger`; it becomes `champion` only where there is none, because a
champion is what others build on and a person replaces it (`grandrounds promote`). Test and unseen are reported, never
selected on. Inside a DVC experiment the registry is left alone, and only the report is written.
"""

from pathlib import Path
from typing import Any

from grandrounds import files
from grandrounds.params import Params
from grandrounds.tracking.stage import StageRun, stage_run, task_main

SCORES = "reports/judge/metrics.json"
REPORT = ("reports/report.html", "reports/report.md", "reports/cards")
ARMS = "reports/publish/arms.csv"  # for `dvc plots`


def main(item: str | None, params: Params) -> None:
    models = dict.fromkeys(str(arm.adapter) for arm in params.predict.arms.values())
    with stage_run("publish", item, params, inputs=[SCORES, *models], outputs=REPORT) as run:
        publish(run, params, Path())


def publish(run: StageRun, params: Params, root: Path) -> None:
    from grandrounds.reporting.cards import card
    from grandrounds.reporting.collect import collect
    from grandrounds.reporting.report import write_report
    from grandrounds.tracking import lineage, registry

    scores = files.read_json(root / SCORES)
    results = collect(root, params)  # once for all cards: it reads every prediction
    cards = {arm: card(results, arm) for arm in params.predict.arms if arm in scores}
    registered = registry.publish(params, scores, cards, root)
    best = registry.best_arm(params, scores)
    if registered.champion:
        tree = lineage.walk(registered.model, "champion")
    else:
        tree = lineage.champion_lineage_from_files(best, root)
    write_report(root, params, lineage.as_dict(tree), root / "reports")
    write_arms(root / ARMS, params, scores)
    run.artifact(root / "reports/report.html")
    split = params.publish.select_split
    run.finish(
        {
            "champion": registered.champion or None,
            "challenger": best,
            **{
                f"{name}_accuracy": _accuracies(scores, name) for name in dict.fromkeys((split, *params.predict.splits))
            },
        }
    )
    _print_table(params, scores, registered)


def write_arms(path: Path, params: Params, scores: dict[str, Any]) -> None:
    """A row for each arm and split, in the order of params.yaml: what `dvc plots show` and `diff` draw as bars."""
    import csv

    columns = ("arm", "split", "accuracy", "low", "high")
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        for arm in params.predict.arms:
            for split in params.predict.splits:
                figures = scores.get(arm, {}).get(split)
                if figures:
                    table.writerow([f"{arm} ({split})", split, *(figures[name] for name in columns[2:])])


def _accuracies(scores: dict[str, Any], split: str) -> dict[str, float]:
    return {arm: figures[split]["accuracy"] for arm, figures in scores.items() if split in figures}


def _print_table(params: Params, scores: dict[str, Any], registered: Any) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Arms: accuracy in percent, with 95 % intervals", title_justify="left")
    table.add_column("arm", no_wrap=True)
    headings = ["val", "test", "unseen", "reasoning", *(f"test - {name}" for name in params.judge.baselines)]
    for name in headings:
        table.add_column(name, justify="right")
    table.add_column("aliases")
    for arm in params.predict.arms:
        if arm not in scores:
            continue
        test = scores[arm].get("test", {})
        cells = [
            _percent(scores[arm].get("val", {})),
            _percent(test, wide=True),
            _percent(scores[arm].get("unseen", {})),
        ]
        cells += [_number(test.get("reasoning"))]
        cells += [_difference(test.get(f"delta_{name}")) for name in params.judge.baselines]
        table.add_row(arm, *cells, _aliases(arm, registered), style="bold" if arm == registered.challenger else "")
    console = Console()
    if not console.is_terminal:  # a log has no width; 80 columns would fold every cell
        console.width = 160
    console.print(table)
    if not registered.versions:
        console.print("  inside a DVC experiment: nothing was registered, no alias was moved", style="yellow")
    elif registered.versions.get(registered.champion) != registered.champion_version:
        stays = (
            f"  champion stays version {registered.champion_version} ({registered.champion}), which is none of these"
        )
        console.print(stays, style="yellow", markup=False)
    console.print("  the report is reports/report.html", markup=False)


def _aliases(arm: str, registered: Any) -> str:
    version = registered.versions.get(arm, "")
    names = [f"version {version}"] if version else []
    names += ["champion"] if version and version == registered.champion_version else []
    names += ["challenger"] if version and arm == registered.challenger else []
    return ", ".join(names)


def _percent(figures: dict[str, Any], wide: bool = False) -> str:
    text = _number(figures.get("accuracy"))
    return f"{text} [{_number(figures.get('low'))}, {_number(figures.get('high'))}]" if wide else text


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{100 * value:{sign}.1f}"


def _difference(delta: dict[str, Any] | None) -> str:
    if not delta:
        return "-"
    return f"{_number(delta['difference'], '+')} [{_number(delta['low'], '+')}, {_number(delta['high'], '+')}]"


if __name__ == "__main__":
    task_main("publish", main, items=False)

"""What the run ran on, how long each stage took, and what the arms are."""

from collections import defaultdict

from grandrounds.params import HubModel, Ties
from grandrounds.reporting.blocks import Block, Row, Section, Table, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import MISSING, count, duration, number, words
from grandrounds.reporting.stages import chain


def environment(run: Run) -> Section:
    title = "How it was run"
    if not run.records:
        return Section("environment", title, [missing("The run records (run.json)")])
    rows, total, largest = [], 0.0, 0.0
    for key, record in run.records.items():
        seconds, peak = number(record.get("seconds")), number(record.get("peak_mib"))
        total, largest = total + (seconds or 0), max(largest, peak or 0)
        rows.append(
            Row(
                [
                    _name(key),
                    duration(seconds),
                    count(peak),
                    str(record.get("device") or MISSING),
                    _text(record.get("threads")),
                ]
            )
        )
    rows.append(Row(["all stages, one after another", duration(total), count(largest or None), "", ""], "best"))
    blocks: list[Block] = [
        Table(
            "Time and memory by stage",
            ["stage", "time", "peak memory, MiB", "device", "threads"],
            rows,
            align="lrrlr",
            caption="Time from start to end of the stage as that stage's last run recorded it, on a machine that may "
            "have been shared: it is a record, not a benchmark. The last row adds times up and has the largest peak.",
        ),
        Table("Settings and versions", ["what", "value"], _facts(run), align="lw"),
    ]
    return Section("environment", title, blocks)


def _name(key: str) -> str:
    stage, _, item = key.partition("/")
    return f"{stage}: {words(item)}" if item else stage


def _facts(run: Run) -> list[Row]:
    """Each fact once; where stages differ, every value with the number of stages that had it."""
    seen: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record in run.records.values():
        git = record.get("git") or {}
        if git.get("commit"):
            seen["code commit"][f"{git['commit']}{' with uncommitted changes' if git.get('dirty') else ''}"] += 1
        if record.get("seed") is not None:
            seen["seed"][str(record["seed"])] += 1
        for package, version in (record.get("versions") or {}).items():
            seen[str(package)][str(version)] += 1
    first = [name for name in ("code commit", "seed") if name in seen]
    order = [*first, *sorted(set(seen) - set(first))]
    rows = [Row(["seed of params.yaml", str(run.params.seed)])]
    for name in order:
        values = seen[name]
        told = (
            next(iter(values))
            if len(values) == 1
            else "; ".join(f"{value} ({times} stages)" for value, times in values.items())
        )
        rows.append(Row([name, told]))
    return rows


def _text(value: object) -> str:
    return MISSING if value is None else str(value)


def glossary(run: Run) -> Section:
    rows = []
    for name, arm in run.params.predict.arms.items():
        rows.append(Row([arm.title, name, describe(run, name)]))
    terms = [
        Row(
            [
                "strict, lenient",
                "Strict: one think block, one answer block, the answer right. Lenient also takes another form.",
            ]
        ),
        Row(["pass count", "How many of n sampled answers of the filter model are right."]),
        Row(
            [
                "group (of questions)",
                "Questions that stay in one split together: a slab of the brain, a vignette family.",
            ]
        ),
        Row(
            ["group (of rollouts)", "The answers sampled for one question, against whose mean each is judged in GRPO."]
        ),
        Row(["zero-variance group", "All rewards equal: there is nothing to learn from it."]),
        Row(["champion, challenger", "Registry names: the model in use, and the best on val in this run."]),
    ]
    blocks: list[Block] = [
        Table("The arms", ["arm", "name in params.yaml", "what it is"], rows, align="llw"),
        Table("Words", ["word", "meaning"], terms, align="lw"),
        Text("All updates in a merge are relative to the base model, and exact before the rank is cut.", tone="note"),
    ]
    return Section("glossary", "Glossary", blocks)


def describe(run: Run, name: str) -> str:
    """One sentence on how an arm was made, from params.yaml alone."""
    params, path = run.params, run.params.predict.arms[name].adapter
    steps = chain(params, path)
    last = steps[-1] if steps else None
    if last is None or last.stage == "base":
        model = params.base.model
        return f"{model.base.repository} as it is." if isinstance(model, HubModel) else "The base model, nothing added."
    if last.stage == "adapt":
        adapter, training = params.adapt.items[last.item], params.adapt.training
        of = ", ".join(map(words, adapter.specialties))
        return f"SFT of the base on the teacher's traces in {of}: LoRA rank {training.lora.r}, {training.steps} steps."
    if last.stage == "merge":
        merge = params.merge.items[last.item]
        parts = [*merge.updates, *([merge.beside.name] if merge.beside.role == "update" else [])]
        how = f"TIES, density {merge.method.density:g}" if isinstance(merge.method, Ties) else "linear"
        return f"Merge of the updates {', '.join(map(words, parts))} ({how}), saved at rank {merge.rank}."
    item = params.grpo.items[last.item]
    rewards = ", ".join(map(words, item.rewards))
    return (
        f"GRPO from {words(item.init.name)} on {words(item.questions.stem)} questions "
        f"({', '.join(map(words, item.modalities))}), rewards {rewards}, {item.group} rollouts a question, "
        f"{item.steps} steps."
    )

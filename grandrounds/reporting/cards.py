"""A model card for each arm: Markdown under YAML front matter, as the Hugging Face hub reads it."""

from pathlib import Path
from typing import Any

import yaml

from grandrounds.errors import UserError
from grandrounds.params import EmbeddedModel, HubModel, Params
from grandrounds.reporting import markdown
from grandrounds.reporting.blocks import Row, Table
from grandrounds.reporting.collect import Run
from grandrounds.reporting.datacard import handing_on
from grandrounds.reporting.escaping import inline
from grandrounds.reporting.numbers import MISSING, count, difference, estimate, number, percent, words
from grandrounds.reporting.sections.environment import describe
from grandrounds.reporting.sections.summary import RESEARCH_ONLY, judges, statement
from grandrounds.reporting.stages import Step, chain


def card(run: Run, arm: str) -> str:
    """The card of one arm, which params.yaml names, of a run that was read already."""
    title = run.title(arm)
    said = "\n>\n".join(f"> **{inline(line)}**" for line in statement(run.params))
    parts = [
        "---\n" + yaml.safe_dump(_front(run, arm), sort_keys=False, allow_unicode=True).rstrip() + "\n---",
        f"# {inline(run.params.publish.model_name)}: {inline(title)}",
        said,
        f"## What it is\n\n{inline(describe(run, arm))} {_weights(run, arm)}",
        f"## How to load it\n\n{_loading(run, arm)}",
        f"## How it was made\n\n{_made(run, arm)}",
        f"## Data\n\n{_data(run)}",
        f"## Results\n\n{_results(run, arm)}",
        f"## Intended use\n\n{inline(RESEARCH_ONLY)} It is meant for comparing training methods and for reproducing a "
        "run. It was not tested for safety, bias or calibration, and no regulator has seen it.",
        f"## Limits\n\n{_limits(run)}",
        f"## Licence\n\n{_licence(run.params)}{_data_licences(run)}",
    ]
    return "\n\n".join(parts) + "\n"


def _front(run: Run, arm: str) -> dict[str, Any]:
    """The hub's metadata: https://huggingface.co/docs/hub/model-cards (library, base model, licence, results)."""
    model, path = run.params.base.model, run.params.predict.arms[arm].adapter
    adapter = str(path) != "models/base"
    front: dict[str, Any] = {"language": ["en"], "license": "other" if isinstance(model, HubModel) else "apache-2.0"}
    if isinstance(model, HubModel):
        front["license_name"] = "see-base-model"
        front["base_model"] = model.base.repository
    front["library_name"] = "peft" if adapter else "transformers"
    front["pipeline_tag"] = "image-text-to-text"
    front["tags"] = ["medical", "research-only", "grand-rounds", run.params.predict.arms[arm].family] + (
        ["lora"] if adapter else []
    )
    results = []
    for split in run.splits:
        accuracy = number(run.scores(arm, split).get("accuracy"))
        if accuracy is not None:
            source = ", ".join(run.params.curate.sources)
            results.append(
                {
                    "task": {"type": "visual-question-answering"},
                    "dataset": {"name": f"{source} corpus", "type": source, "split": split},
                    "metrics": [{"type": "accuracy", "name": "strict accuracy, %", "value": round(100 * accuracy, 1)}],
                }
            )
    if results:
        front["model-index"] = [{"name": f"{run.params.publish.model_name}-{arm}", "results": results}]
    return front


def _weights(run: Run, arm: str) -> str:
    path = str(run.params.predict.arms[arm].adapter)
    what = (
        "These are the full weights" if path == "models/base" else "These are LoRA weights, to be loaded on models/base"
    )
    md5 = locked(run.root).get(path)
    told = f"md5 {md5} (DVC's, of the folder)" if md5 else "md5 not in this run (dvc.lock does not name the folder)"
    return inline(f"{what}: {path}, {told}.")


def _loading(run: Run, arm: str) -> str:
    """Code that loads the arm in a clone of the project."""
    path = str(run.params.predict.arms[arm].adapter)
    paths = list(dict.fromkeys(("models/base", path)))
    lines = ["from transformers import AutoModelForImageTextToText, AutoProcessor", ""]
    lines += ['processor = AutoProcessor.from_pretrained("models/base")']
    lines += ['model = AutoModelForImageTextToText.from_pretrained("models/base")']
    if path != "models/base":
        lines.insert(0, "from peft import PeftModel")
        lines += [f'model = PeftModel.from_pretrained(model, "{path}")']
    told = (
        f"In a clone of the project, after `dvc pull {' '.join(paths)}`; the model registry has it as "
        f"`models:/{run.params.publish.model_name}@{arm}`. It was trained and judged under the prompts of "
        f"`prompts.wording: {run.params.prompts.wording}` (`grandrounds/forms.py`)."
    )
    return told + "\n\n```python\n" + "\n".join(lines) + "\n```"


def locked(root: Path) -> dict[str, str]:
    """Path -> md5 of every output that dvc.lock names; empty without a lock file."""
    path = root / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(
            f"{path}: not YAML ({' '.join(str(error).split())}); restore it with `git checkout {path.name}`"
        ) from None
    stages = raw.get("stages") if isinstance(raw, dict) else None
    outs = [out for stage in (stages or {}).values() for out in (stage or {}).get("outs") or []]
    return {
        str(out["path"]): str(out["md5"]) for out in outs if isinstance(out, dict) and "path" in out and "md5" in out
    }


def _made(run: Run, arm: str) -> str:
    steps = chain(run.params, run.params.predict.arms[arm].adapter)
    md5s = locked(run.root)
    lines = []
    for index, step in enumerate(steps, 1):
        name = f"{step.stage}: {words(step.item)}" if step.item else step.stage
        made = [f"{path} {md5s[path]}" for path in _paths(step) if path in md5s]
        lines.append(
            f"{index}. **{inline(name)}**: {inline(_settings(run.params, step))}"
            + "".join(f"  \n   {inline(m)}" for m in made)
        )
    return "\n".join(lines)


def _paths(step: Step) -> list[str]:
    """The main output of a step: what the next one reads."""
    return {
        "base": ["models/base", "models/teacher"],
        "filter": [f"data/filtered/{step.item}.parquet"],
        "distill": ["data/traces.parquet"],
        "adapt": [f"models/adapters/{step.item}"],
        "merge": [f"models/merged/{step.item}"],
        "grpo": [f"models/policies/{step.item}"],
        "curate": [f"data/curated/{split}.parquet" for split in ("pretrain", "train", "val")],
    }.get(step.stage, [])


def _settings(params: Params, step: Step) -> str:
    """The stage's parameters as one line; of a stage with items, the shared ones and this item's."""
    section = getattr(params, step.stage).model_dump(mode="json")
    items = section.pop("items", {})
    if step.item:
        section = {**section, **(items.get(step.item) or {})}
    return ", ".join(f"{key}={value}" for key, value in _flat(section)) or "no parameters"


def _flat(section: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in section.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return pairs


def _data(run: Run) -> str:
    splits = run.metrics.get("curate", {}).get("splits") or {}
    if not splits:
        return "*The audit of the curated questions: not in this run.*"
    rows = [Row([name, count(splits[name].get("n")), count(splits[name].get("groups"))]) for name in splits]
    return markdown.table(Table("Questions by split", ["split", "questions", "groups"], rows))


def _results(run: Run, arm: str) -> str:
    splits = [split for split in run.splits if run.scores(arm, split)]
    if not splits:
        return "*Scores of the judge: not in this run.*"
    rows = []
    for split in splits:
        scores = run.scores(arm, split)
        cells = [
            count(scores.get("n")),
            estimate(scores),
            percent(scores.get("unparsed_rate")),
            percent(scores.get("reasoning")),
        ]
        deltas = [
            MISSING if arm == name else difference(scores.get(f"delta_{name}")) for name in run.params.judge.baselines
        ]
        rows.append(Row([split, *cells, *deltas]))
    columns = ["split", "n", "strict accuracy, %", "unparsed, %", "reasoning score, %"]
    columns += [f"points over {name}" for name in run.params.judge.baselines]
    caption = (
        "95 % bootstrap intervals in brackets; differences are paired. The best arm is chosen on val only. "
        + judges(run.params)
    )
    return markdown.table(Table("Reasoning prompt, greedy decoding", columns, rows, caption=caption))


def _limits(run: Run) -> str:
    limits = [
        "Answers and thinking may be false, and fluent all the same.",
        "Only English, and only the topics of its data.",
    ]
    if isinstance(run.params.base.model, EmbeddedModel):
        limits.append("A tiny model trained in minutes: it knows the rules of its corpus and nothing else of medicine.")
    if run.params.curate.embedded:
        limits.append(
            "Images are slices of one template brain, so nothing is known of other people, scanners or diseases."
        )
    limits.append("Intervals cover the sampling of questions, not a new training run under another seed.")
    return "\n".join(f"- {inline(line)}" for line in limits)


def _data_licences(run: Run) -> str:
    """A line for each source whose licence binds those who hand the weights on. Its questions stay here."""
    sources = run.metrics.get("curate", {}).get("sources") or {}
    bound = [
        f"\n- {inline(name)} ({inline(each['name'])}), licence: {inline(each['licence'])}. May be handed on: "
        f"{inline(handing_on(each))}."
        for name, each in sources.items()
        if not (each["redistribute"] and each["derivatives"])
    ]
    if not bound:
        return ""
    return (
        "\n\nThese weights were trained or tested on data that may not be handed on freely, and that is no part of "
        "this model:\n" + "".join(bound)
    )


def _licence(params: Params) -> str:
    told = ["The code of the project is under Apache-2.0."]
    if isinstance(params.base.model, HubModel):
        told.append(
            f"The weights derive from {params.base.model.base.repository} and stand under that model's licence."
        )
    elif isinstance(params.base.model, EmbeddedModel):
        told.append("The weights were trained from nothing by that code, and are under the same licence.")
    else:
        told.append("The weights derive from a local model and stand under its licence.")
    if params.curate.embedded:
        told.append(
            "The images are cut from the MNI152 template (copyright Louis Collins, McConnell Brain Imaging Centre, "
            "Montreal Neurological Institute, McGill University), whose notice allows use, copying and distribution "
            "when it is kept."
        )
    return inline(" ".join(told))

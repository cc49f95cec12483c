"""A project folder as the stages would leave it: plausible figures, a few hostile texts, no model anywhere."""

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import yaml

from grandrounds import files
from grandrounds.params import Params, load
from grandrounds.records import SPECIALTIES, Conflict, Difficulty, Prediction, Question, Verdict

HOSTILE = (
    "<script>document.title='owned'</script></think></script><svg onload=\"document.title='owned'\">"
    "<img src=x onerror=alert(1)> | pipe `tick` ```fence [link](javascript:alert(1)) \u202egnorw\u202c "
    "http://evil.example/x"
)
ACCURACY = {
    "base": 0.45, "sft": 0.74, "adult_medicine": 0.54, "pediatrics": 0.53, "brain_senses": 0.51,
    "oncology_surgery": 0.5, "experts": 0.66, "medvlthinker": 0.58,
    "rarl": 0.6, "mmedexpert_policy": 0.76, "mmedexpert": 0.73,
}  # fmt: skip
HOME = dict(zip(("adult_medicine", "pediatrics", "brain_senses", "oncology_surgery"), SPECIALTIES, strict=False))
TOPICS = {
    "adult_medicine": ["adult vital signs", "electrolytes"],
    "pediatrics": ["pediatric vital signs", "apgar"],
    "brain_senses": ["plane", "coma scale"],
    "oncology_surgery": ["recist", "burns"],
}
TOPIC_ACCURACY = {("adult_medicine", "pediatric vital signs"): 0.31, ("pediatrics", "adult vital signs"): 0.34}
MODULES = [f"layers.{layer}.self_attn.{name}_proj" for layer in range(4) for name in "qkvo"]


def png(shade: int) -> bytes:
    """A small grey PNG with a ramp."""
    size = 56
    raw = b"".join(b"\0" + bytes(min(255, abs(shade + 3 * x - 2 * y) % 256) for x in range(size)) for y in range(size))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def build(root: Path, repository: Path, questions: int = 200) -> Params:
    """Write the whole folder under `root`; params.yaml is the repository's own. Returns the parameters."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text((repository / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    params = load(root / "params.yaml")
    draw = random.Random(7)
    by_split = {split: _questions(root, split, questions, draw) for split in ("val", "test", "unseen")}
    _curated(root, by_split)
    _filtered(root, params, draw)
    _trained(root, params, draw)
    _merged(root, params, draw)
    _judged(root, params, by_split, draw)
    _records(root, params)
    return params


def lineage() -> dict[str, Any]:
    """A champion's tree as the tracking package hands it over."""
    curate = {
        "name": "data/curated",
        "stage": "curate",
        "md5": "a" * 32 + ".dir",
        "commit": "c" * 40,
        "params": {"seed": 7},
        "inputs": [],
    }
    base = {
        "name": "models/base",
        "stage": "base",
        "md5": "b" * 32,
        "commit": "c" * 40,
        "params": {},
        "inputs": [curate],
        "run": "r1",
    }
    adapter = {
        "name": "models/adapters/pediatrics",
        "stage": "adapt",
        "md5": "d" * 32,
        "commit": "c" * 40,
        "params": {"steps": 100, "lora": {"r": 8, "alpha": 16}},
        "inputs": [base, curate],
    }
    experts = {
        "name": "models/merged/experts",
        "stage": "merge",
        "md5": "e" * 32,
        "commit": "c" * 40,
        "inputs": [adapter, base],
    }
    return {
        "name": HOSTILE,
        "stage": "grpo",
        "md5": "f" * 32,
        "commit": "c" * 40,
        "params": {"steps": 100},
        "inputs": [experts, base],
    }


def _questions(root: Path, split: str, count: int, draw: random.Random) -> list[Question]:
    rows = []
    for index in range(count):
        specialty = SPECIALTIES[index % 4]
        topic = TOPICS[specialty][index // 4 % 2]
        image = f"{split}{index:04d}.png" if topic == "plane" else ""
        if image:
            (root / "data/curated/images").mkdir(parents=True, exist_ok=True)
            (root / "data/curated/images" / image).write_bytes(png(draw.randrange(256)))
        hostile = f" {HOSTILE}" if index % 40 == 5 else ""
        kind = ("multiple_choice", "yes_no", "open_ended")[index % 3]
        text = f"A patient of {index} years has a heart rate of {60 + index} per minute. How is it?"
        rows.append(
            Question(
                id=f"{split}-{index}", source="embedded", split=split, group=f"g{index // 3}",
                specialty=specialty, topic=topic, modality="image_text" if image else "text", kind=kind,
                question=("In which plane is this slice cut?" if image else text) + hostile,
                options=["slow", "normal", "fast", "cannot be said"] if kind == "multiple_choice" else [],
                answer="normal", label="", synonyms=[], explanation="60 to 100 is normal.", key_facts=["60 to 100"],
                conclusion="normal", image=image,
            )
        )  # fmt: skip
    return rows


def _curated(root: Path, by_split: dict[str, list[Question]]) -> None:
    splits = {}
    for split, rows in by_split.items():
        files.write(root / f"data/curated/{split}.parquet", rows, Question)
        splits[split] = _audit(rows)
    for split, n in (("pretrain", 6000), ("train", 1600)):
        kinds = {"multiple_choice": n // 2, "yes_no": n // 4, "open_ended": n // 4}
        splits[split] = {
            "n": n, "groups": n // 5, "by_specialty": {name: n // 4 for name in SPECIALTIES[:4]},
            "by_modality": {"text": n * 7 // 10, "image_text": n * 3 // 10}, "by_kind": kinds,
        }  # fmt: skip
    metrics = {
        "splits": splits,
        "read": 9800,
        "kept": 9400,
        "dropped": {"duplicate": 380, "seen_in_test": 20},
        "leaks": 0,
    }
    files.write_json(root / "reports/curate/metrics.json", metrics)
    same = {"source": "embedded", "split": "test", "similarity": 0.98}
    removed = [{**same, "removed": f"train-{n}", "by": "question", "of": f"test-{n}", "images": []} for n in range(20)]
    removed[:5] = [{**each, "text": f"In which plane? {HOSTILE}"} for each in removed[:5]]
    removed += [{**removed[0], "by": "image", "of": "test-2", "images": ["test0002.png"]}]
    files.write_json(root / "data/curated/audit.json", {"removed": removed})


def _audit(rows: list[Question]) -> dict[str, Any]:
    out: dict[str, Any] = {"n": len(rows), "groups": len({row.group for row in rows})}
    for key in ("specialty", "modality", "kind", "topic"):
        values = [getattr(row, key) for row in rows]
        out[f"by_{key}"] = {value: values.count(value) for value in values}
    return out


def _filtered(root: Path, params: Params, draw: random.Random) -> None:
    for modality, total in (("text", 1120), ("image_text", 480)):
        rows = []
        for index in range(total):
            skill = draw.betavariate(0.55, 0.6)
            right = sum(draw.random() < skill for _ in range(8))
            keep = params.filter.keep
            reason = "too_hard" if right < keep.min else "too_easy" if right > keep.max else "kept"
            specialty = SPECIALTIES[index % 4]
            kind = ("multiple_choice", "yes_no", "open_ended")[index % 3]
            rows.append(
                Difficulty(
                    f"train-{index}", specialty, TOPICS[specialty][0], kind, 8, 8, 8, right, reason == "kept", reason
                )
            )
        files.write(root / f"data/filtered/{modality}.parquet", rows, Difficulty)
        by = {name: _bands([row for row in rows if row.specialty == name]) for name in SPECIALTIES[:4]}
        histogram = [sum(row.correct == count for row in rows) for count in range(9)]
        extra = {
            "n": 8,
            "extraction_rate": 0.973,
            "accuracy": sum(r.correct for r in rows) / 8 / total,
            "histogram": histogram,
        }
        files.write_json(
            root / f"reports/filter/{modality}/metrics.json", {**_bands(rows), **extra, "by_specialty": by}
        )
    files.write_json(
        root / "reports/distill/metrics.json",
        {
            "questions": 1600, "accepted": 1432, "rejected": {"all_wrong": 151, "no_answer": 17},
            "teacher_accuracy": 0.871, "mean_tokens": 31.4,
            "by_specialty": {name: {"questions": 400, "accepted": 358} for name in SPECIALTIES[:4]},
        },
    )  # fmt: skip


def _bands(rows: list[Difficulty]) -> dict[str, int]:
    reasons = [row.reason for row in rows]
    return {
        "questions": len(rows),
        "kept": reasons.count("kept"),
        "too_easy": reasons.count("too_easy"),
        "too_hard": reasons.count("too_hard"),
    }


def _curve(path: Path, columns: dict[str, Any], steps: int) -> None:
    lines = [",".join(["step", *columns])]
    for step in range(1, steps + 1):
        lines.append(",".join([str(step), *(f"{make(step / steps):.4f}" for make in columns.values())]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _trained(root: Path, params: Params, draw: random.Random) -> None:
    def rising(low: float, high: float, noise: float) -> Any:
        return lambda part: low + (high - low) * (1 - 2.7 ** (-3 * part)) + draw.gauss(0, noise)

    _curve(root / "reports/base/curves.csv", {"loss": rising(6.8, 0.7, 0.05)}, 300)
    for index, name in enumerate(params.adapt.items):
        if name == "brain_senses":
            continue  # one adapter has no curve
        _curve(
            root / f"reports/adapt/{name}/curves.csv", {"loss": rising(0.8 - index / 20, 0.2 + index / 40, 0.02)}, 100
        )
        files.write_json(
            root / f"reports/adapt/{name}/metrics.json",
            {
                "questions": 358,
                "steps": 100,
                "loss_first": 0.8,
                "loss_last": 0.21,
                "token_accuracy": 0.94,
                "trainable_parameters": 65536,
            },
        )
    for name, item in params.grpo.items.items():
        if name == "mmedexpert":
            columns: dict[str, Any] = {"reward": rising(0.6, 0.78, 0.03)}
        else:
            columns = {"reward": rising(0.45, 0.62, 0.04) if len(item.rewards) == 1 else rising(2.1, 2.6, 0.06)}
        columns |= {"completion_length": rising(28, 34, 1), "zero_variance_share": rising(0.3, 0.45, 0.03)}
        columns |= {f"rewards/{reward}": rising(0.4, 0.7, 0.03) for reward in item.rewards}
        _curve(root / f"reports/grpo/{name}/curves.csv", columns, 100)
        files.write_json(
            root / f"reports/grpo/{name}/metrics.json",
            {
                "questions": 640, "steps": 100, "reward_first": 0.46, "reward_last": 0.61, "zero_variance_share": 0.38,
                "rewards": {reward: {"first": 0.4, "last": 0.66} for reward in item.rewards},
                "advantage_share": {reward: 1 / len(item.rewards) for reward in item.rewards},
            },
        )  # fmt: skip


def _merged(root: Path, params: Params, draw: random.Random) -> None:
    for name, item in params.merge.items.items():
        updates = list(item.updates)
        pairs = [(a, b, False) for index, a in enumerate(updates) for b in updates[index + 1 :]]
        pairs += [(item.beside.of, item.beside.name, True)] if item.beside.role == "twin" else []
        rows, means = [], []
        for first, second, null in pairs:
            cosine, sign = (0.62, 0.24) if null else (draw.uniform(-0.05, 0.2), draw.uniform(0.39, 0.48))
            measures = {"cosine": cosine, "sign_disagreement": sign, "interference": sign / 2, "overlap_in": 0.5}
            means.append({"first": first, "second": second, "null": null, **measures})
            for layer, module in enumerate(MODULES):
                rows.append(
                    Conflict(
                        module, layer // 4, first, second, null, sign, cosine, sign / 2, 0.1, 0.5, 60.0, 20.0, 1.0, 1.1
                    )
                )
        files.write(root / f"data/conflicts/{name}.parquet", rows, Conflict)
        files.write_json(
            root / f"reports/merge/{name}/metrics.json",
            {
                "method": "ties",
                "rank": item.rank,
                "modules": 16,
                "truncation_error": {"mean": 0.121, "max": 0.243},
                "pairs": means,
                "hardest": "a specialist and another fight most, in layer 1",
            },
        )


def _judged(root: Path, params: Params, by_split: dict[str, list[Question]], draw: random.Random) -> None:
    scores: dict[str, Any] = {}
    verdicts: list[Verdict] = []
    for arm in params.predict.arms:
        predictions: list[Prediction] = []
        for rows in by_split.values():
            for prompt, shift in (("reasoning", 0.0), ("no_reasoning", -0.04)):
                if arm == "rarl" and prompt == "no_reasoning":
                    continue  # one arm was not asked without reasoning
                predictions += [_predict(arm, prompt, row, shift, draw) for row in rows]
        files.write(root / f"data/predictions/{arm}.parquet", predictions, Prediction)
        verdicts += [
            Verdict(
                arm, p.question_id, p.split, p.prompt, "reference", int(p.correct), int(p.correct), "Key facts found."
            )
            for p in predictions
        ]
        scores[arm] = _scores(arm, predictions, by_split)
    for arm in ("medvlthinker", "mmedexpert_policy"):
        scores[arm]["test"]["reasoning"] = None
    files.write(root / "data/verdicts.parquet", verdicts, Verdict)
    files.write_json(root / "reports/judge/metrics.json", scores)


def _predict(arm: str, prompt: str, row: Question, shift: float, draw: random.Random) -> Prediction:
    skill = ACCURACY[arm] + shift - (0.12 if row.split == "unseen" else 0.0)
    if arm in HOME:
        skill = TOPIC_ACCURACY.get((arm, row.topic), 0.85 if HOME[arm] == row.specialty else skill - 0.1)
    right, parsed = draw.random() < skill, draw.random() < 0.98
    said = (
        HOSTILE
        if row.id.endswith(("5", "11"))
        else "The normal range is 60 to 100 per minute; this reading lies in it."
    )
    answer = "normal" if right else HOSTILE if row.id.endswith("7") else "fast"
    text = f"<think>{said}</think><answer>{answer}</answer>"
    return Prediction(
        arm,
        row.id,
        row.split,
        prompt,
        text,
        24,
        True,
        parsed,
        parsed,
        answer if parsed else "",
        right and parsed,
        right,
    )


def _scores(arm: str, predictions: list[Prediction], by_split: dict[str, list[Question]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for split, rows in by_split.items():
        known = {row.id: row for row in rows}
        for prompt, suffix in (("reasoning", ""), ("no_reasoning", "_no_reasoning")):
            of = [p for p in predictions if p.split == split and p.prompt == prompt]
            if not of:
                continue
            mean = sum(p.correct for p in of) / len(of)
            entry: dict[str, Any] = {
                "n": len(of), "groups": len({row.group for row in rows}), "accuracy": mean,
                "low": max(0, mean - 0.03), "high": mean + 0.03, "reasoning": mean - 0.06,
                "lenient_accuracy": sum(p.correct_lenient for p in of) / len(of),
                "unparsed_rate": sum(not p.extracted for p in of) / len(of),
            }  # fmt: skip
            for name in ("base", "sft"):
                gap = ACCURACY[arm] - ACCURACY[name]
                entry[f"delta_{name}"] = {"difference": gap, "low": gap - 0.03, "high": gap + 0.03}
            for key in ("specialty", "modality", "kind", "topic"):
                entry[f"by_{key}"] = _by(of, known, key)
            if not suffix and arm != "rarl":
                entry["prompt_gain"] = {"difference": 0.04, "low": 0.01, "high": 0.07}
            out[split + suffix] = entry
    return out


def _by(of: list[Prediction], known: dict[str, Question], key: str) -> dict[str, Any]:
    groups: dict[str, list[bool]] = {}
    for p in of:
        groups.setdefault(getattr(known[p.question_id], key), []).append(p.correct)
    return {name: {"n": len(values), "accuracy": sum(values) / len(values)} for name, values in groups.items()}


def _records(root: Path, params: Params) -> None:
    seconds = {"base": 88.2, "filter": 31.4, "grpo": 96.0, "adapt": 22.5}
    outs = {}
    for folder in sorted((root / "reports").glob("**/metrics.json")):
        key = str(folder.parent.relative_to(root / "reports"))
        stage, _, item = key.partition("/")
        record = {
            "stage": stage, "item": item or None, "mlflow_run_id": "0" * 32, "seconds": seconds.get(stage, 8.4),
            "peak_mib": 1480, "seed": 7, "params": {}, "metrics": {}, "inputs": [], "outputs": [],
            "threads": 2, "device": "cpu",
            "versions": {"python": "3.11.2", "torch": "2.9.1", "transformers": "5.1.0", "trl": "1.2.0"},
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": stage == "judge"},
        }  # fmt: skip
        files.write_json(folder.parent / "run.json", record)
    for path in [str(arm.adapter) for arm in params.predict.arms.values()]:
        outs[path] = {
            "cmd": "python -m tasks.x",
            "outs": [{"path": path, "hash": "md5", "md5": f"{zlib.crc32(path.encode()):032x}.dir"}],
        }
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": outs}), encoding="utf-8")

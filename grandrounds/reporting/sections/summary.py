"""What must be read first: what this is not, the headline figures, and whether RL beat SFT here."""

from grandrounds.params import EmbeddedModel, Params, ReferenceJudge
from grandrounds.reporting.blocks import Block, Key, Keys, Section, Text, missing
from grandrounds.reporting.collect import Run
from grandrounds.reporting.numbers import count, difference, estimate, number, percent, verdict
from grandrounds.reporting.stages import reinforced

RESEARCH_ONLY = "Research only, never for clinical use: nothing here may guide the care of any person."


def statement(params: Params) -> list[str]:
    """The plain statement under the title; each line only where it is true of this run."""
    said = [RESEARCH_ONLY]
    if isinstance(params.base.model, EmbeddedModel):
        said.append(
            "Embedded default: a tiny model, trained here from nothing in minutes. Its figures show that the "
            "pipeline works and how the methods compare at this size; they say nothing of the published systems' own "
            "figures."
        )
    if params.curate.embedded:
        said.append(
            "The images are slices of one template brain (MNI152): slabs are not patients. The vignettes are "
            "generated from published reference rules: they are no patients either."
        )
    reference = [name for name, judge in params.judge.judges.items() if isinstance(judge, ReferenceJudge)]
    if reference:
        said.append(
            f"The judge “{'”, “'.join(reference)}” is not a language model: it is fixed code that checks the answer "
            "with the verifier and looks for a question's key facts in the thinking."
        )
    return said


def judges(params: Params) -> str:
    """Who judged, with the reference judge labelled for what it is."""
    told = []
    for name, judge in params.judge.judges.items():
        what = "fixed code, not a language model" if isinstance(judge, ReferenceJudge) else judge.model
        told.append(f"“{name}” ({what})")
    return "Judge: " + ", ".join(told) + "."


def section(run: Run) -> Section:
    best = run.best()
    if best is None:
        return Section("headline", "Headline", [missing("Scores of the judge (reports/judge/metrics.json)")])
    test = run.scores(best, "test")
    keys = [
        Key(estimate(test), f"% of test right: {run.title(best)}", _chosen(run, best)),
        Key(difference(test.get("delta_base")), "points over base on test", _paired(test.get("delta_base"))),
    ]
    blocks: list[Block] = [Keys(keys)]
    answers: list[Block] = []
    for start, words in (("base", "straight from the base model"), ("adapted", "after the specialists' SFT")):
        arms = [arm for arm in run.arms if reinforced(run.params, arm) == start]
        answers.append(_against_sft(run, arms, words, keys))
    blocks += answers
    blocks.append(
        Text(
            f"Arms are compared on {run.params.publish.select_split} only; test and unseen are reported and choose "
            "nothing. Brackets hold 95 % bootstrap intervals over groups of questions; a difference is paired, "
            "question by question, and is called better or worse only when its interval leaves out zero, McNemar's "
            "test bears it out after Holm's correction for all arms, and there are 15 groups or more. Intervals cover "
            "the sampling of questions, not a new training run under another seed, and are themselves not corrected.",
            tone="note",
        )
    )
    return Section("headline", "Headline", blocks)


def _chosen(run: Run, best: str) -> str:
    test, split = run.scores(best, "test"), run.params.publish.select_split
    return (
        f"The challenger: best of {len(run.arms)} arms on {split} ({percent(run.scores(best, split).get('accuracy'))} "
        f"%). Test: {count(test.get('n'))} questions in {count(test.get('groups'))} groups."
    )


def _paired(delta: dict | None) -> str:
    return {
        "better": "Better than base, also after correction for all arms.",
        "worse": "Worse than base, also after correction for all arms.",
        "no difference shown": "No difference from base is shown once all arms are corrected for.",
        "too few clusters": "Too few groups of questions to say more.",
    }.get(verdict(delta), "No paired interval in this run.")


def _against_sft(run: Run, arms: list[str], words: str, keys: list[Key]) -> Block:
    """Does RL of this kind beat SFT here? The arm is picked on val, the answer read off test."""
    question = f"Does RL {words} beat SFT here?"
    arm = run.best(arms)
    if arm is None or not run.scores("sft", "test"):
        return missing(question)
    test = run.scores(arm, "test")
    delta = test.get("delta_sft")
    if number((delta or {}).get("difference")) is None:
        return missing(question)
    shown = verdict(delta)
    keys.append(Key(difference(delta), f"points, RL {words} − SFT", f"{run.title(arm)} on test: {shown}."))
    answer = {
        "better": "Yes",
        "worse": "No, it is worse",
        "no difference shown": "Not shown either way",
        "too few clusters": "Cannot be said with so few groups of questions",
    }.get(shown, "Cannot be said without a paired interval")
    return Text(
        f"{answer}. {run.title(arm)}, the best such arm on {run.params.publish.select_split}, has {estimate(test)} % "
        f"of test right; {run.title('sft')} has {estimate(run.scores('sft', 'test'))} %; the paired difference is "
        f"{difference(delta)} points.",
        lead=question,
    )

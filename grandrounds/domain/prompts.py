"""Every prompt form, as data: what is asked of the model around a question, in our own words.

A form has an instruction that stands before the question, whether it asks for thinking, and a prefill that opens the
assistant's turn (RARL's thinking initialisation, 2506.06600). The forms follow MedVLThinker (2508.02669), RARL's three
training styles, and four clinical reasoning perspectives for MMedExpert-R1 (2601.10949; the wording is ours). Two
wordings: `full` for real models; `compact`, a few words a form, for the embedded one, which is trained on them all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from grandrounds.errors import unknown
from grandrounds.records import Question


@dataclass(frozen=True)
class Form:
    instruction: str
    thinking: bool = True
    prefill: str = ""


BLOCKS = "Put your thoughts inside <think> </think> and the final answer inside <answer> </answer>."

FULL: dict[str, Form] = {
    "reasoning": Form(f"Think step by step about the question below, then answer it. {BLOCKS}"),
    "no_reasoning": Form("Answer the question below. Give only the final answer, inside <answer> </answer>.", False),
    "explanation": Form(
        f"Explain step by step, name the visual or clinical cues that you rely on, and justify your answer. {BLOCKS}",
        prefill="<think>Let me think step by step.",
    ),
    "short_form": Form(f"Think briefly and give a concise, factual answer. {BLOCKS}"),
    "open_ended": Form(
        "Consider all visual and contextual detail, reason freely, and give the answer that is best in your judgment. "
        + BLOCKS
    ),
    "differential": Form(
        f"List the possible answers, weigh them against each other, and rule out all but one. {BLOCKS}"
    ),
    "intuitive": Form(f"Recognise the pattern as an experienced clinician would, and check it in a sentence. {BLOCKS}"),
    "analytical": Form(f"Apply the relevant definition or reference range, rule by rule, to the findings. {BLOCKS}"),
    "bayesian": Form(f"Start from how likely each answer is, and update it with each finding in turn. {BLOCKS}"),
}

COMPACT: dict[str, Form] = {
    "reasoning": Form("Think, then answer."),
    "no_reasoning": Form("Answer only.", False),
    "explanation": Form("Explain step by step.", prefill="<think>Step by step:"),
    "short_form": Form("Be brief and factual."),
    "open_ended": Form("Use all detail, think freely."),
    "differential": Form("Weigh the alternatives."),
    "intuitive": Form("Recognise the pattern."),
    "analytical": Form("Apply the rule."),
    "bayesian": Form("Update what is likely."),
}

WORDINGS: dict[str, dict[str, Form]] = {"compact": COMPACT, "full": FULL}
GUIDELINES = ("differential", "intuitive", "analytical", "bayesian")


def form(name: str, forms: Mapping[str, Form]) -> Form:
    """A form by name. Raises UserError, with the nearest valid name."""
    if name not in forms:
        raise unknown("prompt form", name, forms)
    return forms[name]


def user_text(question: Question, asked: Form) -> str:
    """The user's turn: instruction, question, options (lettered when the question has a label)."""
    lines = [asked.instruction, question.question]
    if question.label:
        lines += [f"{chr(ord('A') + i)}. {option}" for i, option in enumerate(question.options)]
    elif question.kind == "multiple_choice":
        lines.append("Options: " + ", ".join(question.options) + ".")
    return "\n".join(lines)


def messages(question: Question, asked: Form, images: Sequence[object] = ()) -> list[dict]:
    """The conversation in transformers' chat format; a prefill is a last, unfinished assistant's turn.

    `images` are the question's, in order; without them each is its place only.
    """
    content: list[dict] = [{"type": "image", "image": each} for each in images]
    content = content or [{"type": "image"} for _ in question.images]
    content.append({"type": "text", "text": user_text(question, asked)})
    turns = [{"role": "user", "content": content}]
    if asked.prefill:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": asked.prefill}]})
    return turns


def target(thinking: str, answer: str, asked: Form) -> str:
    """The assistant's whole turn, prefill included, that supervised training aims at."""
    if not asked.thinking:
        return f"<answer>{answer}</answer>"
    opening = asked.prefill.removeprefix("<think>")
    return f"<think>{opening + ' ' if opening else ''}{thinking}</think><answer>{answer}</answer>"


def digest(forms: Mapping[str, Form]) -> str:
    """Hash of a wording, to be logged with what was made under it."""
    return sha256(repr(sorted(forms.items())).encode()).hexdigest()[:16]

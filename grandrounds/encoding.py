"""Question and prompt form -> tokens and pixels, the same way for training, reinforcement and generation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandrounds.domain import prompts
from grandrounds.domain.prompts import Form
from grandrounds.errors import UserError
from grandrounds.files import need
from grandrounds.records import Question


class Rejected(UserError):
    """The processor cannot make tokens of a question: a picture too narrow, say."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt. `vision` holds what the processor made of its images (pixel_values, image_grid_thw), or nothing."""

    ids: list[int]
    kinds: list[int]  # mm_token_type_ids: 1 at image tokens
    vision: dict[str, Any]


class Encoder:
    """Encodes prompts with a model's own processor and chat template; each distinct prompt once."""

    def __init__(self, processor: Any, images: str | Path = "data/curated/images") -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.images = Path(images)
        self.end = self.tokenizer.eos_token_id
        self.pad = self.tokenizer.pad_token_id
        self._seen: dict[tuple[str, str], Encoded] = {}

    def prompt(self, question: Question, asked: Form) -> Encoded:
        key = (question.id, asked.instruction)
        if key not in self._seen:
            self._seen[key] = self._encode(question, asked)
        return self._seen[key]

    def text(self, question: Question, asked: Form) -> str:
        """The prompt as the model's chat template writes it, each image as its one placeholder."""
        return self.processor.apply_chat_template(
            prompts.messages(question, asked),
            tokenize=False,
            **({"continue_final_message": True} if asked.prefill else {"add_generation_prompt": True}),
        )

    def _encode(self, question: Question, asked: Form) -> Encoded:
        rendered = self.text(question, asked)
        if not question.image:
            ids = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
            return Encoded(ids, [0] * len(ids), {})
        pictures = self.pictures(question)
        try:
            made = self.processor(text=[rendered], images=pictures, return_tensors="pt")
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:200]
            shown = ", ".join(f"{name} {each.size}" for name, each in zip(question.images, pictures, strict=True))
            raise Rejected(f"question {question.id}: {shown}: {reason}") from error
        ids, kinds = made.pop("input_ids")[0].tolist(), made.pop("mm_token_type_ids")[0].tolist()
        made.pop("attention_mask")
        return Encoded(ids, kinds, dict(made))

    def pictures(self, question: Question) -> list[Any]:
        """The question's pictures as loaded RGB images, in order."""
        return [self._picture(self.images / name) for name in question.images]

    def _picture(self, path: Path) -> Any:
        from PIL import Image

        path = need(path)
        try:
            with Image.open(path) as picture:
                return picture.convert("RGB")
        except OSError as error:
            raise UserError(f"{path}: not a readable image ({error}); run `dvc checkout {self.images}`") from error

    def completion(self, text: str) -> list[int]:
        """Tokens of an assistant's turn, its end-of-turn token with them."""
        return [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.end]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def collate(encoder: Encoder, rows: Sequence[Encoded], completions: Sequence[Sequence[int]] | None = None) -> dict:
    """A padded batch: left-padded prompts for generation; with completions right-padded, and labels on them only."""
    import torch

    width = max(len(row.ids) + len(c) for row, c in zip(rows, completions or [()] * len(rows), strict=True))
    batch: dict[str, Any] = {"input_ids": [], "attention_mask": [], "mm_token_type_ids": [], "labels": []}
    for row, completion in zip(rows, completions or [()] * len(rows), strict=True):
        ids = [*row.ids, *completion]
        padding = width - len(ids)
        columns = {
            "input_ids": (ids, encoder.pad),
            "attention_mask": ([1] * len(ids), 0),
            "mm_token_type_ids": ([*row.kinds, *[0] * len(completion)], 0),
            "labels": ([-100] * len(row.ids) + list(completion), -100),
        }
        for name, (values, filler) in columns.items():
            fill = [filler] * padding
            batch[name].append([*values, *fill] if completions is not None else [*fill, *values])
    tensors = {name: torch.tensor(values) for name, values in batch.items()}
    if completions is None:
        del tensors["labels"]
    for name in sorted({name for row in rows for name in row.vision}):
        tensors[name] = torch.cat([row.vision[name] for row in rows if name in row.vision])
    return tensors

"""Several examples in one row of a batch, none of which sees another: less padding, the same loss.

TRL packs text only. A Qwen2.5-VL takes four rows of positions: those of text, which restart with each example and from
which transformers makes a mask of blocks, and its three rotary ones, which each example gets as if it stood alone.
"""

from collections.abc import Sequence
from typing import Any

from grandrounds.encoding import Encoded, Encoder
from grandrounds.errors import UserError


def bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of examples by row, each row of at most `room` tokens: the longest first, each where least room is left.

    Best-fit decreasing, as TRL's `bfd`. Raises UserError for an example that is longer than a row.
    """
    rows: list[tuple[int, list[int]]] = []  # room left, and who is in it
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[index] > room:
            raise UserError(
                f"adapt.training.packing: an example has {lengths[index]} tokens and a row {room}; "
                f"packing: {lengths[index]} would do"
            )
        fitting = [(left, i) for i, (left, _) in enumerate(rows) if left >= lengths[index]]
        if fitting:
            left, at = min(fitting)
            rows[at] = (left - lengths[index], [*rows[at][1], index])
        else:
            rows.append((room - lengths[index], [index]))
    return [sorted(row) for _, row in rows]


def check(model: Any) -> None:
    """Raises UserError for a model whose positions we do not know how to restart."""
    if not hasattr(_positioned(model), "get_rope_index"):
        raise UserError(
            f"adapt.training.packing: a {type(model).__name__} has no rotary positions by example (get_rope_index), so "
            "that packed examples would see each other; set packing: 0"
        )


def collate(
    model: Any, encoder: Encoder, packed: Sequence[Sequence[tuple[Encoded, Sequence[int]]]], whole_turns: bool = False
) -> dict[str, Any]:
    """A batch of packed rows: no attention mask, positions (4, rows, width), padding as an example of its own.

    `whole_turns`: the prompts are learned too, but for their image tokens and the first token of each example.
    """
    import torch

    width = max(sum(len(prompt.ids) + len(turn) for prompt, turn in row) for row in packed)
    ids, kinds, labels, positions, vision = [], [], [], [], []
    for row in packed:
        row_ids, row_kinds, row_labels, row_positions = [], [], [], []
        for prompt, turn in row:
            length = len(prompt.ids) + len(turn)
            row_ids += [*prompt.ids, *turn]
            row_kinds += [*prompt.kinds, *[0] * len(turn)]
            before = [-100 if kind else token for token, kind in zip(prompt.ids, prompt.kinds, strict=True)]
            row_labels += [-100, *before[1:], *turn] if whole_turns else [*[-100] * len(prompt.ids), *turn]
            row_positions.append(_positions(model, prompt, turn, length))
            vision.append(prompt.vision)
        padding = width - len(row_ids)
        ids.append([*row_ids, *[encoder.pad] * padding])
        kinds.append([*row_kinds, *[0] * padding])
        labels.append([*row_labels, *[-100] * padding])
        positions.append(torch.cat([*row_positions, torch.arange(padding).expand(4, -1)], dim=-1))
    batch = {
        "input_ids": torch.tensor(ids),
        "mm_token_type_ids": torch.tensor(kinds),
        "labels": torch.tensor(labels),
        "position_ids": torch.stack(positions, dim=1),
    }
    for name in sorted({name for each in vision for name in each}):
        batch[name] = torch.cat([each[name] for each in vision if name in each])
    return batch


def _positions(model: Any, prompt: Encoded, turn: Sequence[int], length: int) -> Any:
    """(4, length): of text, and the three rotary ones."""
    import torch

    text = torch.arange(length).expand(1, -1)
    if not prompt.vision:
        return text.expand(4, -1)
    found, _ = _positioned(model).get_rope_index(
        torch.tensor([[*prompt.ids, *turn]]),
        mm_token_type_ids=torch.tensor([[*prompt.kinds, *[0] * len(turn)]]),
        image_grid_thw=prompt.vision["image_grid_thw"],
    )
    return torch.cat([text, found[:, 0]])


def _positioned(model: Any) -> Any:
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    return whole.base_model

"""Conversations in chat format: one question, one answer, as TRL and LLaMA-Factory write them.

A row has `messages`, a list of {role, content}: content is text, or a list of parts {type: text, text} and {type:
image, image or path}. Pictures stand in `images` or `image` of the row, or in the parts. Of the answer, thinking and
answer blocks become explanation and answer; lettered options at the question's end become options.
"""

import re
from dataclasses import replace
from typing import Any

from grandrounds.domain import answers
from grandrounds.sources import options
from grandrounds.sources.layout import LONGEST, Draft, Layout, plain
from grandrounds.sources.rows import Row
from grandrounds.sources.store import Refused, Store

_PLACE = re.compile(r"\s*<image>\s*")  # where a picture stands; ours stand before the text, in order


def read(row: Row, layout: Layout, store: Store) -> Draft:
    asked, answered, pictures = _turns(row.values.get("messages"))
    given = row.values.get("images") or row.values.get("image") or pictures
    question, choices = options.split(_PLACE.sub(" ", asked).strip())
    extraction = answers.extract(answered)
    answer = extraction.answer if extraction.answer is not None else answered
    values = {**row.values, "question": question, "answer": answer, "options": choices, "image": given}
    columns = layout.columns.model_copy(
        update={"question": ("question",), "answer": ("answer",), "options": ("options",), "image": ("image",)}
    )
    draft = plain(replace(row, values=values), replace(layout, columns=columns), store)
    return replace(draft, explanation=draft.explanation or extraction.thinking)


def _turns(messages: Any) -> tuple[str, str, list[Any]]:
    """(question, answer, pictures) of the only two turns beside a system prompt."""
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise Refused("no list of objects with role and content", "messages")
    turns = [each for each in messages if each.get("role") != "system"]
    if [each.get("role") for each in turns] != ["user", "assistant"]:
        raise Refused("not one turn of user and one of assistant", "messages")
    pictures: list[Any] = []
    texts = [_content(each.get("content"), pictures) for each in turns]
    if any(len(text) > LONGEST for text in texts):
        raise Refused(f"a turn has more than {LONGEST} letters", "messages")
    return texts[0], texts[1], pictures


def _content(content: Any, pictures: list[Any]) -> str:
    """The text of one turn; its pictures are added to `pictures`."""
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise Refused("content is neither text nor a list of parts", "messages")
    pictures += [part.get("image") or part.get("path") for part in content if part.get("type") == "image"]
    return "\n".join(str(part.get("text", "")) for part in content if part.get("type") == "text").strip()

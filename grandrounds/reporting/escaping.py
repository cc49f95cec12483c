"""Text that a model or a dataset wrote, made safe to print: it can neither run, nor format, nor reorder anything."""

import re

# C0 and C1 controls (but tab and newline), direction marks, zero-width and other invisible characters, lone surrogates
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~$])")  # what means something inside a line
_OPENING = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=#:]))")  # what would open a list, a heading or a rule
_ADDRESS = re.compile(r"(?i)\b(https?|ftp|mailto|www)(:|\.)")  # what a reader turns into a link by itself


def visible(text: str) -> str:
    """The text with every control and direction character shown as its code point, `[U+202E]`.

    A right-to-left override would otherwise print "wrong" as another word; a NUL ends the page in some readers.
    """
    return _INVISIBLE.sub(lambda found: f"[U+{ord(found[0]):04X}]", text.replace("\r\n", "\n"))


def inline(text: str) -> str:
    """Text as one line of Markdown in which nothing is markup: for paragraphs, headings and table cells."""
    text = " ".join(visible(text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKDOWN.sub(r"\\\1", text).replace("@", "&#64;")
    text = _ADDRESS.sub(lambda found: found[1] + f"&#{ord(found[2])};", text)
    return _OPENING.sub(r"\1\\", text)


def quoted(text: str, indent: str = "") -> str:
    """Text of several lines as a Markdown quotation, line by line inert."""
    lines = visible(text).split("\n")
    return "\n".join(f"{indent}> {inline(line)}  ".rstrip(" ") + "  " for line in lines)

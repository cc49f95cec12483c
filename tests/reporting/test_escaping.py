from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from grandrounds.reporting.escaping import inline, quoted, visible

ODD = st.text(
    st.one_of(st.sampled_from("|`*_[]()<>#-+=~!$\\&\n\t\r\u202e\u200b\x00:.@1"), st.characters()), max_size=60
)
RENDER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")


def words(text: str) -> list[str]:
    """The text of rendered Markdown: every token must be text, nothing may have become markup."""
    found = []
    for token in RENDER.parse(text):
        assert token.type in ("paragraph_open", "paragraph_close", "inline"), token.type
        for child in token.children or []:
            assert child.type in ("text", "text_special"), child.type
            found.append(child.content)
    return found


@given(ODD)
def test_inline_renders_as_the_very_text(text):
    assert "".join(words("x " + inline(text))).split() == ("x " + visible(text)).split()
    assert "\n" not in inline(text)
    assert "".join(words(inline(text))).split() == visible(text).split()


@given(ODD)
def test_a_quotation_holds_every_line(text):
    types = {token.type for token in RENDER.parse(quoted(text))}
    assert types <= {"blockquote_open", "blockquote_close", "paragraph_open", "paragraph_close", "inline"}


def test_direction_and_control_characters_are_shown():
    assert visible("a\u202eb\x00\u200f\u2066") == "a[U+202E]b[U+0000][U+200F][U+2066]"
    assert visible("tab\tline\nend é 漢 \U0001f642") == "tab\tline\nend é 漢 \U0001f642"


def test_addresses_do_not_become_links_by_themselves():
    assert "http://" not in inline("see http://evil.example") and "www." not in inline("www.evil.example")
    assert "data: training" in inline("Green data: training")

import dataclasses
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fixture import HOSTILE, lineage
from markdown_it import MarkdownIt

from grandrounds import files
from grandrounds.errors import UserError
from grandrounds.params import OpenAIEngine
from grandrounds.records import Prediction
from grandrounds.reporting import browser
from grandrounds.reporting.collect import collect, known_parts
from grandrounds.reporting.report import build, write_report
from grandrounds.reporting.sections import arms, cases, corpus, papers, summary
from grandrounds.reporting.sections import lineage as lineage_section

SECTIONS = 21


class Tags(HTMLParser):
    """Counts tags and keeps every attribute, as a browser's parser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_html_runs_and_loads_nothing_that_a_model_wrote(written):
    seen = Tags(written.html)
    assert seen.tags.count("script") == 2  # the page's own, and the JSON of the case browser
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert "&lt;script&gt;document.title=" in written.html  # the text is there, inert
    assert "\u202e" not in written.html and "[U+202E]" in written.html
    addresses = [
        (tag, name, value) for tag, name, value in seen.attributes if name in ("src", "href", "xlink:href", "action")
    ]
    assert {value[:22] for tag, _, value in addresses if tag == "img"} == {"data:image/png;base64,"}
    outside = [value for tag, _, value in addresses if not value.startswith(("#", "data:image/png;base64,"))]
    assert outside and all(value.startswith("https://arxiv.org/abs/") for value in outside)
    assert not re.search(r"url\(|@import|<link|<iframe|<object", written.html)
    policy = next(
        value for tag, name, value in seen.attributes if tag == "meta" and name == "content" and "default-src" in value
    )
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "script-src 'unsafe" not in policy


def test_markdown_shows_hostile_text_as_text(written):
    # html on: a renderer that lets raw HTML through must still meet none but the anchors that the report itself writes
    text = re.sub(r'<a id="[a-z]+"></a>', "", written.md)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(text)
    seen = Tags(rendered)
    assert not {"script", "svg", "img", "iframe"} & set(seen.tags)
    links = {value for tag, name, value in seen.attributes if name == "href"}
    assert all(value.startswith(("#", "https://arxiv.org/abs/")) for value in links)
    assert "&lt;script&gt;document.title=" in rendered
    assert "http://evil" not in text  # an address that a reader would make a link of by itself
    cells = [
        line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|") and "pipe" in line
    ]
    assert cells and set(cells) == {5}  # the four columns of a case: no pipe of the text opened a fifth


def test_every_section_is_in_both_files_and_two_runs_give_the_same_bytes(written, tmp_path):
    assert written.html.count("<section id=") == SECTIONS == len(re.findall(r"^## \d+\. ", written.md, re.M))
    write_report(written.root, written.params, lineage(), out=tmp_path / "again")
    for name in ("report.html", "report.md", "cards/sft.md"):
        assert (tmp_path / "again" / name).read_bytes() == (written.root / "reports" / name).read_bytes()


def test_headline_is_honest_either_way(written):
    run = collect(written.root, written.params)
    text = " ".join(each.text for each in summary.section(run).blocks if each.kind == "text")
    assert "No, it is worse." in text  # rarl: -14 points, the interval below zero
    assert "Not shown either way." in text  # the policy: +2 points, the interval holds zero
    run.metrics["judge"]["mmedexpert_policy"]["test"]["delta_sft"] = {"difference": 0.02, "low": 0.004, "high": 0.04}
    text = " ".join(each.text for each in summary.section(run).blocks if each.kind == "text")
    assert "Yes. MMedExpert policy" in text and "+2.0 [+0.4, +4.0] points" in text


def test_the_best_arm_is_chosen_on_val_alone(written):
    run = collect(written.root, written.params)
    for arm in run.arms:
        run.metrics["judge"][arm]["val"]["accuracy"] = 0.9 if arm == "rarl" else 0.1
    assert run.best() == "rarl"
    assert "RARL" in summary.section(run).blocks[0].keys[0].label


def test_an_empty_project_says_so_and_prints_no_figure(empty):
    said = re.findall(r"not in this run", empty.html)
    assert len(said) >= 14 and empty.html.count("<section id=") == SECTIONS
    own = re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>|<svg.*?</svg>", "", empty.html)
    own = re.sub(r'(?s)<section id="(published|glossary|pipeline)".*?</section>', "", own)
    assert not re.findall(r"\d+\.\d %|\[[+−]?\d", own)
    assert "never for clinical use" in empty.html and "slabs are not patients" in empty.md


def test_a_damaged_file_is_named(written, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/verdicts.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(UserError, match=r"verdicts\.parquet: not a whole parquet file"):
        write_report(tmp_path, written.params, None)


def test_missing_and_broken_numbers_are_dashes_not_zeros(written):
    run = collect(written.root, written.params)
    run.metrics["judge"]["sft"]["test"]["accuracy"] = float("nan")
    run.metrics["judge"]["experts"]["test"]["low"] = None
    table = next(b for b in arms.section(run).blocks if b.kind == "table")
    cells = {row.cells[0]: row.cells[2] for row in table.rows}
    assert cells["SFT (generalist)"] == "–"
    assert "[" not in cells["Experts (merged specialists)"]
    build(run)  # every section bears it


def test_any_null_in_the_metrics_leaves_a_report(written):
    """Random parts of metrics.json are dropped or null, as an older or half-finished run would leave them."""
    run = collect(written.root, written.params)
    draw = random.Random(3)
    for _ in range(12):
        metrics = {key: known_parts(_holed(value, draw)) for key, value in run.metrics.items() if draw.random() > 0.1}
        sections = build(dataclasses.replace(run, metrics=metrics))
        assert len(sections) == SECTIONS


def _holed(value: dict, draw: random.Random) -> dict:
    kept = {key: each for key, each in value.items() if draw.random() > 0.03}
    return {
        key: None if draw.random() < 0.03 else _holed(each, draw) if isinstance(each, dict) else each
        for key, each in kept.items()
    }


def test_scores_that_do_not_follow_from_the_predictions_are_flagged(written):
    run = collect(written.root, written.params)
    assert "all 33 accuracies agree" in arms._agreement(run).text
    run.metrics["judge"]["rarl"]["test"]["accuracy"] += 0.01
    told = arms._agreement(run)
    assert told.tone == "warning" and "RARL (four rewards, diverse prompts) on test" in told.text


def test_parts_that_one_arm_lacks_are_named(written):
    assert "Loss of brain &amp; senses: not in this run." in written.html  # an adapter without curves
    row = next(line for line in written.md.splitlines() if line.startswith("| RARL") and line.count("|") == 6)
    assert row.split("|")[3].strip() == "–"  # not asked without reasoning


def test_cases_cover_right_and_wrong_text_and_image(written):
    run = collect(written.root, written.params)
    found = [block for block in cases.section(run).blocks if block.kind == "case"]
    assert len(found) == 12
    best = run.title(run.best())
    verdicts = [next(reply.verdict for reply in case.replies if reply.arm == best) for case in found]
    assert verdicts.count("right") == 6
    assert sum(case.image.startswith("data:image/png") for case in found) == 6


@pytest.mark.parametrize("name", ["../../../secret.png", "/etc/passwd", "note.txt", "gone.png"])
def test_an_image_name_cannot_leave_its_folder(tmp_path: Path, name):
    folder = tmp_path / "data/curated/images"
    folder.mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    (folder / "note.txt").write_text("no image")
    assert browser.thumbnail(tmp_path, [name]) == ""


def test_thinking_is_split_off_for_display_only_when_it_is_one_block():
    assert browser.thinking("<think> a </think><answer>b</answer>") == "a"
    for odd in ("no block", "<think>a</think><think>b</think>", f"x{HOSTILE}<think>a</think>", "<think>open"):
        assert browser.thinking(odd) == odd.strip()


def test_lineage_opens_each_step_once_and_survives_a_loop(written):
    run = collect(written.root, written.params, lineage())
    assert written.html.count("models/base · base (as above)") == 2
    assert "d" * 32 in written.html and "lora.r=8" in written.html
    loop: dict = {"name": "a", "stage": "merge", "md5": "1", "inputs": []}
    loop["inputs"].append(loop)
    tree = lineage_section.section(dataclasses.replace(run, lineage=loop)).blocks[2]
    assert tree.root.children[0].title == "a · merge (as above)"


def test_the_lineage_is_drawn_from_the_sources_to_the_champion(written):
    source = {"name": "data/sources", "md5": "e" * 32, "note": "a source"}
    curate = {"name": "data/curated/train.parquet", "stage": "curate", "md5": "a" * 32, "run": "r1", "commit": "c" * 40}
    again = {"name": "data/curated/val.parquet", "stage": "curate", "md5": "f" * 32, "run": "r1", "note": "above"}
    base = {
        "name": "models/base",
        "stage": "base",
        "md5": "b" * 32,
        "run": "r2",
        "inputs": [curate | {"inputs": [source]}],
    }
    tree = {"model": "grandrounds", "alias": "champion", "arm": "sft", "name": "models/adapters/x", "stage": "adapt@x"}
    run = collect(written.root, written.params, tree | {"md5": "d" * 32, "run": "r3", "inputs": [base, again]})
    figure = lineage_section.section(run).blocks[0]
    assert figure.drawings[0].count("<rect") == 5 and figure.drawings[0].count('class="edge"') == 4  # curate once
    assert figure.mermaid.count("-->") == 4 and '"champion (grandrounds · sft)"' in figure.mermaid
    assert [row.cells[1:3] for row in figure.table.rows] == [
        ["models/adapters/x", "d" * 32], ["models/base", "b" * 32], ["data/curated/train.parquet", "a" * 32],
        ["data/sources", "e" * 32], ["data/curated/val.parquet", "f" * 32],
    ]  # fmt: skip


def test_published_figures_are_marked_and_whole(written):
    assert written.html.count("published, other data and models: not comparable</span>") == 4
    for figure in ("63.12", "83.03", "70.94", "59.57"):
        assert f">{figure}<" in written.html
    assert written.html.count('class="published"') >= 4


def test_a_further_benchmark_is_a_further_split(written):
    run = collect(written.root, written.params)
    run.metrics["judge"]["sft"]["vqa_rad"] = {"n": 272, "accuracy": 0.5, "low": 0.4, "high": 0.6}
    assert run.splits == ["val", "test", "unseen", "vqa_rad"]
    assert any(b.kind == "table" and b.title == "All figures on vqa_rad" for b in arms.section(run).blocks)


def test_a_printed_figure_is_beside_ours_only_where_its_set_was_scored(written):
    run = collect(written.root, written.params)
    assert papers.blocks(run)[0].tone == "missing"
    scores = {"n": 272, "accuracy": 0.6, "low": 0.55, "high": 0.65, "judges": {"mini": {"prediction": 0.7}}}
    for name in ("medvlthinker_vqa_rad", "slake", "vqa_rad"):
        run.metrics["judge"]["sft"][name] = scores
    [table] = papers.blocks(run)
    rows = {(row.cells[0], row.cells[1], row.cells[2]): row for row in table.rows}
    same = rows["MedVLThinker", "3B sft text", "medvlthinker_vqa_rad"]
    assert same.mark == "" and same.cells[3:7] == ["33.09", "SFT (generalist)", "60.0 [55.0, 65.0]", "+26.9"]
    other = rows["MedVLThinker", "3B sft text", "slake"]  # the set of that name, but not the paper's questions
    assert other.mark == "grey" and other.cells[7] == "no: slake"
    rarl = rows["RARL", "2B sft", "vqa_rad"]
    assert rarl.mark == "grey" and rarl.cells[8] == "no: not stated" and rarl.cells[9].startswith("no: g")
    judged = run.params.judge.model_copy(update={"judges": {"mini": OpenAIEngine(type="openai")}})
    run = dataclasses.replace(run, params=run.params.model_copy(update={"judge": judged}))
    [row] = [row for row in papers.blocks(run)[0].rows if row.cells[2] == "vqa_rad" and row.cells[9] == "gpt-4o-mini"]
    assert row.cells[5] == "70.0"  # that judge's score, not the verifier's
    assert papers.scored(run)["slake"] == "slake"


def test_leaks_stand_beside_what_they_repeat(written):
    run = collect(written.root, written.params)
    told, *pairs = corpus.leaks(run)
    assert "21 training questions were removed" in told.text and "by image 1, by question 20" in told.text
    assert [pair.title for pair in pairs] == ["The same question (similarity 0.98)"] * 3 + [
        "The same image (similarity 0.98)"
    ]
    assert pairs[0].left.title == "removed: train-0" and pairs[0].right.title == "kept in test: test-0"
    assert pairs[-1].left.image == pairs[-1].right.image != ""
    run.metrics["curate"]["sources"] = {"embedded": {"redistribute": False}}
    assert len(corpus.leaks(run)) == 1  # counted, and not shown where a licence forbids it


def test_an_arm_without_predictions_leaves_the_rest(written, tmp_path):
    rows = files.read(written.root / "data/predictions/base.parquet", Prediction)
    assert rows
    run = collect(written.root, written.params)
    run.predictions.pop("base")
    found = [block for block in cases.section(run).blocks if block.kind == "case"]
    assert found and all(reply.arm != "Base" for case in found for reply in case.replies)

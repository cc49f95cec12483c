"""A page of 50,000 predictions stays light, and says what it leaves out."""

import base64
import dataclasses
import io
import json
import re
import time
from pathlib import Path

import chromium
from conftest import REPOSITORY
from fixture import build

from grandrounds import files
from grandrounds.params import Params
from grandrounds.records import Prediction
from grandrounds.reporting import browser
from grandrounds.reporting.report import write_report

LIMIT = 10_000_000  # bytes of report.html, whatever was predicted


def lengthened(path: Path) -> int:
    """Every thinking of its own, 1,500 letters long, as models of a real size write; the number of rows."""
    rows = [
        dataclasses.replace(row, completion=f"<think>{row.arm} {row.question_id} {'reads < 60 & so on. ' * 75}</think>")
        for row in files.read(path, Prediction)
    ]
    files.write(path, rows, Prediction)
    return len(rows)


def test_fifty_thousand_predictions(tmp_path):
    params = build(tmp_path, REPOSITORY, questions=800)
    assert sum(lengthened(path) for path in (tmp_path / "data/predictions").iterdir()) == 50_400
    most = params.publish.model_copy(update={"case_megabytes": 8.0})
    write_report(tmp_path, Params.model_copy(params, update={"publish": most}), None)
    text = (tmp_path / "reports/report.html").read_text("utf-8")
    assert len(text.encode()) < LIMIT
    told = re.search(r"([\d,]+) of 2,400 questions, ([\d,]+) of 26,400 answers", text)
    shown = [int(number.replace(",", "")) for number in told.groups()]
    assert 300 < shown[0] < 2_400 and shown[1] == 11 * shown[0]  # what there is room for, whole questions only
    if chromium.CHROMIUM:
        with chromium.page(tmp_path / "profile") as page:
            start = time.monotonic()
            page.open(tmp_path / "reports/report.html", width=390)
            assert page.run("document.querySelectorAll('#browser article').length") == 10  # one page of them, not all
            assert time.monotonic() - start < 10 and page.errors == []


def test_room_is_shared_out_over_sets_specialties_and_outcomes(written):
    from grandrounds.reporting.collect import collect

    run = collect(written.root, written.params)
    questions = [question for split in run.questions.values() for question in split.values()]
    answers = {"base": {row.question_id: row for row in run.predictions["base"] if row.prompt == "reasoning"}}
    text, cases, shown = browser.payload(questions, answers, {}, {"base": "Base"}, run.root, room=30_000)
    assert cases == shown == len(json.loads(text)["cases"]) < len(questions)
    assert 20_000 < len(text) <= 31_000
    first = browser.in_turn(questions, answers)[:24]
    strata = {(each.split, each.specialty, answers["base"][each.id].correct) for each in first}
    assert len(strata) == 24  # 3 sets x 4 specialties x right or wrong: every stratum before any comes again


def test_json_in_a_script_element_cannot_leave_it():
    hostile = "</script><!--<script>\u2028]]> & \ud800"
    text = browser.inert({hostile: hostile})
    assert not set("<>&") & set(text) and text.isascii()
    assert json.loads(text) == {hostile: hostile}


def test_an_image_is_a_thumbnail_and_broken_ones_are_none(tmp_path):
    import numpy as np
    from PIL import Image

    folder = tmp_path / "data/curated/images"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "large.png")
    (folder / "cut.png").write_bytes((folder / "large.png").read_bytes()[:60_000])
    assert browser.thumbnail(tmp_path, ["large.png"]).startswith("data:image/jpeg;base64,")
    assert len(browser.thumbnail(tmp_path, ["large.png"])) < 200_000
    assert browser.thumbnail(tmp_path, ["cut.png"]) == ""
    Image.fromarray(noise[:60, :40]).save(folder / "small.png")
    both = base64.b64decode(browser.thumbnail(tmp_path, ["small.png", "small.png"], 50).partition("base64,")[2])
    with Image.open(io.BytesIO(both)) as strip:
        assert strip.size == (66, 50)  # side by side, each at most 50 pixels high
    assert browser.thumbnail(tmp_path, ["small.png", "cut.png"]) == "" == browser.thumbnail(tmp_path, [])


def test_a_long_completion_is_cut_with_its_length_said():
    row = Prediction("a", "q", "test", "reasoning", "x" * 9000, 1, True, True, True, "", True, True)
    assert browser.cut(browser.thinking(row.completion)).endswith("… (5,000 letters more)")

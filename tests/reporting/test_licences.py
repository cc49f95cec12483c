"""What a licence forbids to hand on stays out of what is handed on."""

from dataclasses import replace

from grandrounds.reporting.blocks import Case, Text
from grandrounds.reporting.cards import card
from grandrounds.reporting.collect import Run, collect
from grandrounds.reporting.datacard import data_card
from grandrounds.reporting.sections import cases

KNOWN = {"name": "Closed set", "place": "a | b <script>", "role": "train", "licence": "NC", "citation": "", "note": ""}
COUNTS = {"rows": 9, "left_out": 1, "why_left_out": {"is not in English": 1}, "read": 8, "kept": 5, "duplicate": 1}
CLOSED = {**KNOWN, **COUNTS, "quarantined": 1, "leaked": 1, "redistribute": False, "derivatives": False}


def told(run: Run, **sources: dict) -> Run:
    return replace(run, metrics={**run.metrics, "curate": {**run.metrics["curate"], "sources": sources}})


def test_no_case_of_a_closed_source_is_shown(written) -> None:
    run = collect(written.root, written.params)
    assert any(isinstance(block, Case) for block in cases.section(told(run, other=CLOSED)).blocks)
    kept_back = cases.section(told(run, embedded=CLOSED)).blocks  # the fixture's questions are of this source
    assert [type(block) for block in kept_back] == [Text] and "forbids handing them on" in kept_back[0].text


def test_a_model_card_names_a_closed_source_and_only_that(written) -> None:
    run = collect(written.root, written.params)
    free = {**CLOSED, "redistribute": True, "derivatives": True}
    assert "may not be handed on" not in card(told(run, embedded=free), "base")
    found = card(told(run, embedded=free, closed=CLOSED), "base")
    assert "- closed (Closed set), licence: NC. May be handed on: NO, nor what is derived from it." in found
    assert "- embedded" not in found.partition("may not be handed on")[2]


def test_a_data_card_reconciles_and_holds_no_markup_of_its_sources(written) -> None:
    run = collect(written.root, written.params)
    metrics = {**told(run, embedded=CLOSED).metrics["curate"], "quarantine": {"answer: empty": 1}}
    made = data_card(metrics, "remove")
    assert "| embedded | 9 | 1 | 8 | 5 | 1 | 1 | 1 |" in made and "1 left out: is not in English" in made
    assert "answer: empty" in made and "<script>" not in made and "1 training questions were removed" in made

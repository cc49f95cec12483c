"""The page as a browser reads it: nothing runs, nothing is fetched, nothing is too wide, and cases are found."""

from pathlib import Path

import chromium
import pytest

pytestmark = pytest.mark.skipif(chromium.CHROMIUM is None, reason="chromium is not installed")
TITLE = "Medical vision-language models: trained, merged, reinforced, judged"
TOLD = "document.querySelector('#browser .told').textContent"
CHOOSE = """((label, value) => {
  const found = [...document.querySelectorAll('#browser label')].find((each) => each.textContent.startsWith(label));
  const control = found.querySelector('select, input');
  control.value = value;
  control.dispatchEvent(new Event(control.tagName === 'SELECT' ? 'change' : 'input'));
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with chromium.page(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def report(page, written) -> chromium.Page:
    page.open(written.root / "reports/report.html")
    return page


def matching(page: chromium.Page) -> int:
    return int(page.run(TOLD).split()[0])


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_is_quiet_asks_for_nothing_and_fits(page, written, width, dark):
    page.open(written.root / "reports/report.html", width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    for number in range(page.run("document.querySelectorAll('#browser details').length")):
        page.run(f"document.querySelectorAll('#browser details')[{number}].open = true")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.errors == [] and page.requests == []


def test_hostile_text_is_shown_as_text(report):
    report.run(f"{CHOOSE}('Search', 'owned')")
    assert matching(report) > 0
    report.run("document.querySelectorAll('#browser details').forEach((each) => (each.open = true))")
    report.run("new Promise((done) => setTimeout(done, 100))")
    shown = report.run("document.querySelector('#browser .cases').innerText")
    assert "<script>document.title='owned'</script>" in shown and "<svg onload=" in shown
    assert "[U+202E]" in shown and "\u202e" not in shown
    assert report.run("document.title") == TITLE
    assert report.run("document.scripts.length") == 2  # the page's own, and the data
    assert report.run("document.querySelectorAll('#browser svg, #browser script, [onload], [onerror]').length") == 0
    assert report.run("[...document.querySelectorAll('.said')].every((each) => each.dir === 'auto')")


def test_filters_search_and_pages(report, written):
    whole = matching(report)
    assert whole == 360  # three sets of 120: there is room for all of them
    counts = {}
    for outcome in ("right", "wrong"):
        report.run(f"{CHOOSE}('Arm', '0'); {CHOOSE}('Outcome', '{outcome}')")
        counts[outcome] = matching(report)
        marks = report.run("[...document.querySelectorAll('#browser .mark')].map((each) => each.textContent).join()")
        assert ("✓" in marks) == (outcome == "right") and marks.count(",") == 9  # one arm of ten cases
    assert sum(counts.values()) == whole and min(counts.values()) > 0
    report.run("document.querySelectorAll('#browser button')[2].click()")
    assert matching(report) == whole
    report.run(f"{CHOOSE}('Specialty', 'pediatrics'); {CHOOSE}('Set', 'unseen'); {CHOOSE}('Disagreement', 'arms')")
    assert 0 < matching(report) <= 30
    report.run(f"{CHOOSE}('Search', 'no such words')")
    assert report.run(TOLD).startswith("No question of 360 matches")


def test_images_are_shown_once_each(report):
    report.run(f"{CHOOSE}('Modality', 'image and text')")
    widths = report.run("[...document.querySelectorAll('#browser img')].map((each) => each.naturalWidth)")
    assert widths and set(widths) == {56}
    text = report.run("document.getElementById('cases-data').textContent")
    assert text.count("data:image/png") == report.run(
        "new Set(JSON.parse(document.getElementById('cases-data').textContent).cases.map((c) => c[10])).size - 1"
    )


def test_the_keyboard_turns_pages_and_opens_answers(report):
    report.run("document.querySelector('#browser summary').focus()")
    report.press("n")
    assert "page 2 of 36" in report.run(TOLD)
    report.run("document.querySelector('#browser summary').focus()")
    report.press("p")
    assert "page 1 of 36" in report.run(TOLD)
    report.run("document.querySelector('#browser summary').focus()")
    report.press("/")
    assert report.run("document.activeElement.type") == "search"
    report.press("n")  # a letter of the search, no turn
    assert "page 1 of" in report.run(TOLD)


def test_print_opens_what_is_folded(report, tmp_path: Path):
    report.run("window.dispatchEvent(new Event('beforeprint'))")
    answers = "document.querySelectorAll('#browser .answer').length"
    assert report.run(answers) == report.run("document.querySelectorAll('#browser details').length") > 0


def test_the_policy_lets_the_pages_own_script_run_and_no_other(page, written, tmp_path):
    path = tmp_path / "page.html"
    more = "<script>document.title='owned'</script><img src='http://127.0.0.1:9/x.png'></body>"
    path.write_text(written.html.replace("</body>", more), encoding="utf-8")
    before = len(page.errors)
    page.open(path)
    assert page.run("document.querySelectorAll('th.sortable').length") > 0  # the page's script ran
    assert page.run("document.title") == TITLE
    assert "Content Security Policy" in " ".join(page.errors[before:])
    del page.errors[before:]

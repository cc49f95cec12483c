"""The page as a browser reads it: nothing runs, nothing is fetched, nothing is wider than a phone."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=3000",
]


def dom(page: Path, profile: Path, width: int = 1280) -> str:
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={profile}",
        f"--window-size={width},900",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_hostile_text_is_inert_and_the_page_is_not_wider_than_a_phone(written, tmp_path):
    # a script of the test's own, allowed by taking the policy out, reports what the browser made of the page
    probe = """<script>window.addEventListener('load', () => {
      const wide = document.documentElement.scrollWidth > innerWidth + 1;
      const fetched = performance.getEntriesByType('resource').filter((each) => !each.name.startsWith('data:')).length;
      const armed = document.querySelectorAll('svg[onload],[onerror]').length;
      document.body.dataset.probe = [document.title, wide, document.scripts.length, fetched, armed].join('~');
    });</script></body>"""
    start, _, rest = written.html.partition('<meta http-equiv="Content-Security-Policy"')
    open_page = tmp_path / "open.html"
    open_page.write_text((start + rest[rest.index(">") + 1 :]).replace("</body>", probe), encoding="utf-8")
    seen = dom(open_page, tmp_path / "profile", width=500)
    title = "Medical vision-language models: trained, merged, reinforced, judged"
    assert f'data-probe="{title}~false~2~0~0"' in seen


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_policy_lets_the_pages_own_script_run_and_no_other(written, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(written.html.replace("</body>", "<script>document.title='owned'</script></body>"), encoding="utf-8")
    seen = dom(page, tmp_path / "profile")
    assert 'class="l sortable"' in seen  # the table script ran: its hash stands in the policy
    assert "<title>owned" not in seen

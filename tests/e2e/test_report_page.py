"""The report as a planner sees it: in a real browser, without a network."""

import shutil
import subprocess

import pytest
from report_content import make_content

from restock.report import write_report

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; 'apt-get install chromium' brings one")
def test_the_report_opens_in_a_browser_and_nothing_in_it_runs(tmp_path):
    page = tmp_path / "report.html"
    write_report(make_content(), page)
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *QUIET,
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    screenshot = tmp_path / "page.png"
    seen = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "Order plan for 2018-01-01" in seen.stdout
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen.stdout
    assert "CONSOLE" not in seen.stderr
    subprocess.run(
        [*command, f"--screenshot={screenshot}", page.as_uri()], check=True, timeout=120, capture_output=True
    )
    assert screenshot.stat().st_size > 20_000, "an empty page is smaller"

"""Opens a page in headless chromium and measures it, for the tests of the report."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PROBE = """<script>
const problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
const complain = console.error;
console.error = (...args) => { problems.push(args.join(" ")); complain(...args); };
addEventListener("load", () => setTimeout(() => {
  // script
  const charts = [...document.querySelectorAll(".chart")].map((chart) => {
    const box = chart.getBoundingClientRect();
    const drawn = [...chart.querySelectorAll(".point, .points path, .hm image, .lines path")];
    const inside = drawn.map((mark) => mark.getBoundingClientRect())
      .filter((r) => r.width + r.height > 0 && r.right > box.left && r.left < box.right);
    const words = [...chart.querySelectorAll("text")].map((word) => word.getBoundingClientRect());
    const rows = [...chart.parentElement.querySelectorAll("tr[data-choice]")];
    const shown = rows.filter((row) => !row.hidden).map((row) => row.dataset.choice);
    return {
      key: chart.id, marks: inside.length, choices: [...new Set(shown)],
      labels: [...chart.querySelectorAll(".ytick text")].map((word) => word.textContent),
      beyond: Math.max(...words.map((word) => word.right - box.right), -1e9),
    };
  });
  parent.postMessage({
    width: innerWidth, scroll: document.documentElement.scrollWidth, charts, problems,
    ink: getComputedStyle(document.body).color,
    paper: getComputedStyle(document.body).backgroundColor,
  }, "*");
}, 500));
</script>"""


def look(page: Path, width: int, dark: bool = False, script: str = "") -> dict[str, Any]:
    """Opens a page in a frame and measures it. Skips the test if chromium is not installed.

    Args:
        page: The HTML file.
        width: Width of the frame in pixels.
        dark: Use the dark color scheme.
        script: JavaScript that runs after the page is drawn and before it is measured.

    Returns:
        `width` and `scroll`, the page's visible and scrollable width in pixels; `charts`, for each
        chart its marks, labels, selected choices and pixels `beyond` its right edge; `problems`,
        the errors in the page; `ink` and `paper`, its colors; `console`, chromium's messages.
    """
    if CHROMIUM is None:
        pytest.skip("no chromium: apt install chromium")
    probed = page.with_suffix(".probed.html")
    probe = PROBE.replace("// script", script)
    probed.write_text(page.read_text().replace("<head>", "<head>" + probe, 1))
    frame = page.with_suffix(".frame.html")
    frame.write_text(
        "<!doctype html><script>addEventListener('message', (event) => {"
        "document.body.dataset.found = JSON.stringify(event.data); });</script><body>"
        f'<iframe src="{probed.as_uri()}" style="border:0;width:{width}px;height:4000px"></iframe>'
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = subprocess.run(
        [CHROMIUM, *options, scheme, f"--window-size={width + 20},4000",
         "--virtual-time-budget=20000", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return {**json.loads(html.unescape(found[1])), "console": console}

"""A headless Chromium, where one is installed: opens a file, measures it, and tells of errors."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--log-level=0",
)
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
MEASURE = """<!DOCTYPE html><body style="margin:0"><iframe id="page"
style="border:0;width:{width}px;height:2000px" srcdoc="{page}"></iframe><script>onload = () => {{
const inside = document.getElementById("page").contentDocument, root = inside.documentElement;
const wide = [...inside.querySelectorAll("body *")].filter(one => !one.closest(".scroll, .hidden")
  && one.getBoundingClientRect().right > {width} + 0.5).map(one => one.tagName);
document.body.textContent = "measured " + root.scrollWidth + " [" + wide + "]"; }}</script>"""

AXE = """<script>{script}</script><script>axe.run().then(found => {{
document.body.textContent = "violations " + JSON.stringify(found.violations.map(one => one.id))
  + " of " + found.passes.length; }})</script></body>"""


def find_axe() -> str | None:
    """Read the script of axe-core that `RHEOSTAT_AXE` names; None where it names none."""
    named = os.environ.get("RHEOSTAT_AXE")
    return None if named is None else Path(named).read_text("utf-8")


def find_browser() -> str | None:
    """Find a Chromium: `RHEOSTAT_CHROMIUM`, or one on the path; None where there is none."""
    named = os.environ.get("RHEOSTAT_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser's program, with a profile of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder

    def run(self, page: Path, *flags: str) -> tuple[str, list[str]]:
        """Open a page; give what the browser printed, and what it said on its console."""
        done = subprocess.run(  # noqa: S603 - a browser, with flags from this file
            [
                self.program,
                *FLAGS,
                f"--user-data-dir={self.folder / 'profile'}",
                *flags,
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    def examine(self, text: str, script: str, *flags: str) -> tuple[list[str], int]:
        """Let axe-core examine a page; give the rules that it breaks, and how many it keeps."""
        path = self.folder / "examined.html"
        safe = script.replace("</script", "<\\/script")
        open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        path.write_text(open_page.replace("</body>", AXE.format(script=safe)), "utf-8")
        printed, _ = self.run(path, "--virtual-time-budget=10000", "--dump-dom", *flags)
        found = re.search(r"violations (\[.*?\]) of (\d+)", html.unescape(printed))
        assert found is not None, printed[-500:]
        return json.loads(found[1]), int(found[2])

    def measure(self, text: str, width: int) -> tuple[int, str]:
        """Lay a page out ``width`` wide; give the width it needs, and what sticks out."""
        frame = self.folder / "frame.html"
        frame.write_text(MEASURE.format(width=width, page=html.escape(text)), "utf-8")
        printed, _ = self.run(frame, "--dump-dom")
        found = re.search(r"measured (\d+) \[([A-Za-z,]*)\]", printed)
        assert found is not None, printed[-500:]
        return int(found[1]), found[2]

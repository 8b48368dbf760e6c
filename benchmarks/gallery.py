"""How large is the page of many photos, what memory does writing it take, and how fast is it in a browser?

python benchmarks/gallery.py PHOTOS --count 10000
"""

import json
import os
import resource
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import click
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from mlzsl.imaging import is_image_name
from mlzsl.runtime.gallery.page import write_gallery

LABELS, TAGS = 400, 5
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,860")
CARDS = "document.querySelectorAll('#grid .card').length"
CLICK = "const t = performance.now(); document.querySelector('#labels button').click(); return performance.now() - t"


@click.command()
@click.argument("photos")
@click.option("--count", default=10_000, help="Photos on the page; those of the folder are repeated.")
@click.option("--threads", type=int)
@click.option("--browser", default="/usr/bin/chromium")
@click.option("--driver", default="/usr/bin/chromedriver")
def main(photos: str, count: int, threads: int | None, browser: str, driver: str) -> None:
    """Write a page of the PHOTOS of a folder and open it."""
    with tempfile.TemporaryDirectory() as folder:
        tags, page = Path(folder, "tags.jsonl"), Path(folder, "gallery.html")
        found = sorted(os.path.abspath(path) for path in Path(photos).iterdir() if is_image_name(path))
        with open(tags, "w") as file:
            for number, path in enumerate(islice(cycle(found), count)):
                named = [
                    {"label": f"label {(number + k) % LABELS}", "score": 0.9 - k / 10, "seen": k > 0}
                    for k in range(TAGS)
                ]
                file.write(json.dumps({"path": path, "tags": named}) + "\n")
        started = time.perf_counter()
        write_gallery(tags, page, threads, quiet=True)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        opened, chosen, heap = _in_a_browser(page, Path(folder), browser, driver)
        print("| photos | page | photos/s | peak memory | opens in | choosing a label | JavaScript heap |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        size = page.stat().st_size / 1e6
        figures = (f"{count:,}", f"{size:.1f} MB", f"{count / seconds:.0f}", f"{memory:.0f} MiB")
        print("|", " | ".join((*figures, f"{opened:.1f} s", f"{chosen:.0f} ms", f"{heap:.0f} MB")), "|")


def _in_a_browser(page: Path, folder: Path, browser: str, driver: str) -> tuple[float, float, float]:
    """Seconds to open, milliseconds to choose a label, MB of heap."""
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        started = time.perf_counter()
        chrome.get(page.as_uri())
        assert chrome.execute_script(f"return {CARDS}") > 0
        opened = time.perf_counter() - started
        chosen = chrome.execute_script(CLICK)
        return opened, chosen, chrome.execute_script("return performance.memory.usedJSHeapSize") / 1e6
    finally:
        chrome.quit()


if __name__ == "__main__":
    main()

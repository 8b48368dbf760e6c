"""The gallery in headless Chromium: filters, marks, hostile names, ten thousand photos.

Without Chromium these tests are skipped; with MLZSL_BROWSER set, as in CI, that is a failure.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from tinymodel import random_images, write_tiny_model

from mlzsl.runtime.gallery.page import write_gallery
from mlzsl.runtime.tagging.cli import main as infer
from mlzsl.runtime.verify.cli import main as verify

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,860"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)
TALLEST_DOM = 1500  # nodes; a card has about twenty, a label four


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("MLZSL_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


class Page:
    """A gallery in a browser."""

    def __init__(self, browser: webdriver.Chrome, path: Path) -> None:
        self.browser = browser
        browser.get_log("browser")
        browser.get(path.as_uri())
        WebDriverWait(browser, 60).until(lambda _: "Loading photos" not in self.status)

    @property
    def status(self) -> str:
        return self.one("#status").text

    @property
    def complaints(self) -> list[str]:
        """Errors of the script, and what the policy refused."""
        return [entry["message"] for entry in self.browser.get_log("browser")]

    @property
    def nodes(self) -> int:
        return self.script("return document.querySelectorAll('*').length")

    def script(self, text: str, *arguments: object):
        return self.browser.execute_script(text, *arguments)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def names(self) -> list[str]:
        """Those of the cards on the page, in their order."""
        return self.script("return Array.from(document.querySelectorAll('#grid .card .name'), (name) => name.title)")

    def choose(self, label: str) -> None:
        (button,) = [found for found in self.all("#labels button") if found.text.split("\n")[0].rstrip(" *") == label]
        button.click()

    def type(self, selector: str, text: str) -> None:
        self.one(selector).send_keys(text)

    def at_least(self, score: float) -> None:
        self.script(
            "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
            self.one("#min-score"),
            score,
        )


def page_of(browser: webdriver.Chrome, folder: Path, photos: list[dict]) -> Page:
    (folder / "tags.jsonl").write_text("".join(json.dumps(photo) + "\n" for photo in photos))
    write_gallery(folder / "tags.jsonl", folder / "gallery.html", quiet=True)
    return Page(browser, folder / "gallery.html")


def tag(label: str, score: float, seen: bool = True) -> dict:
    return {"label": label, "score": score, "seen": seen}


PHOTOS = [
    {"path": "in/dog.jpg", "tags": [tag("dog", 0.9), tag("cat", 0.2)]},
    {"path": "in/cat.jpg", "tags": [tag("cat", 0.8)]},
    {"path": "in/zebra.jpg", "tags": [tag("dog", 0.6), tag("zebra", 0.5, seen=False)]},
    {"path": "in/empty.jpg", "tags": []},
    {"path": "in/broken.jpg", "error": "the file is empty"},
]


@pytest.fixture
def page(browser, tmp_path) -> Page:
    return page_of(browser, tmp_path, PHOTOS)


def test_a_tagged_folder_opens_from_disk_with_its_photos_and_certificate(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "model.onnx")
    (tmp_path / "images").mkdir()
    for index, image in enumerate(random_images(3)):
        Image.fromarray(image).resize((64, 48)).save(tmp_path / f"images/{index}.png")
    command = CliRunner()
    assert command.invoke(infer, ["images", "--report", "without.html"]).exit_code == 0
    assert command.invoke(verify, ["model.onnx", "--certify"]).exit_code == 0
    assert command.invoke(infer, ["images", "--report", "with.html"]).exit_code == 0

    page = Page(browser, tmp_path / "without.html")
    assert page.one("#certificate").text == "This engine has no certificate."
    page = Page(browser, tmp_path / "with.html")
    assert "model.onnx: RGCN-PosVAE on tiny, 6 labels, 2 of them unseen (*); on openvino " in page.one("#engine").text
    assert "fp32" in page.one("#engine").text
    assert page.one("#certificate summary").text.startswith("Certified on 3 images, ")
    page.one("#certificate summary").click()
    assert "golden sample: largest difference" in page.one("#certificate table").text
    images = "Array.from(document.querySelectorAll('#grid img')"
    sizes = f"return {images}, (image) => [image.complete, image.naturalWidth, image.naturalHeight])"
    WebDriverWait(browser, 20).until(lambda _: all(complete for complete, _, _ in page.script(sizes)))
    assert page.script(sizes) == [[True, 176, 132]] * 3
    assert page.complaints == []


def test_everything_is_shown_at_first(page):
    assert page.status == "4 of 4 photos"
    assert page.names() == ["in/dog.jpg", "in/cat.jpg", "in/zebra.jpg", "in/empty.jpg"]
    assert page.one("#counts").text == "4 photos tagged, 1 file unreadable"
    assert page.complaints == []


def test_filters_by_label(page):
    page.choose("dog")
    assert (page.status, page.names()) == ("2 of 4 photos", ["in/dog.jpg", "in/zebra.jpg"])
    page.choose("cat")
    assert page.names() == ["in/dog.jpg"]
    page.choose("dog")
    assert page.names() == ["in/dog.jpg", "in/cat.jpg"]
    assert page.browser.switch_to.active_element.text.split("\n")[0] == "dog"  # the focus stays where it was
    page.one("#clear").click()
    assert page.status == "4 of 4 photos"


def test_filters_by_score_name_and_unseen(page):
    page.at_least(0.55)
    assert page.names() == ["in/dog.jpg", "in/cat.jpg", "in/zebra.jpg"]
    assert "cat" not in page.all("#grid .card")[0].text.split("\n")  # of the dog's, below the score
    page.at_least(0)
    page.type("#name-query", "EMPTY")
    assert page.names() == ["in/empty.jpg"]
    page.one("#clear").click()
    page.one("#unseen-only").click()
    assert page.names() == ["in/zebra.jpg"]


def test_sorts_by_the_score_of_the_selected_label(page):
    page.choose("cat")
    assert page.names() == ["in/dog.jpg", "in/cat.jpg"]
    page.type("#order", "best score first")
    assert page.names() == ["in/cat.jpg", "in/dog.jpg"]


def test_finds_a_label_among_many(page):
    page.type("#label-query", "zeb")
    assert [button.text.split("\n") for button in page.all("#labels button")] == [["zebra *", "1"]]


def test_unseen_labels_are_marked_for_eyes_and_screen_readers(page):
    tags = {line.text.split("\n")[0]: line for line in page.all("#grid .card .tag")}
    assert {"dog", "cat", "zebra *"} == set(tags)
    seen, unseen = (tags[name].find_element(By.CSS_SELECTOR, ".label") for name in ("dog", "zebra *"))
    assert seen.value_of_css_property("color") != unseen.value_of_css_property("color")
    assert unseen.get_attribute("title") == "never seen in training"


def test_unreadable_files_are_listed_with_their_errors(page):
    page.all("#views button")[1].click()
    assert page.status == "1 file could not be read"
    assert page.one("#grid .row").text.split("\n") == ["in/broken.jpg", "the file is empty"]
    page.all("#views button")[0].click()
    assert len(page.names()) == 4


def test_a_photo_opens_with_all_its_tags_and_closes_with_escape(page):
    page.all("#grid .card")[2].click()
    assert page.one("#detail-name").text == "in/zebra.jpg"
    assert [line.text.split("\n") for line in page.all("#detail .tag")] == [["dog", "0.60"], ["zebra *", "0.50"]]
    assert page.one("#detail a").get_attribute("href").endswith("/in/zebra.jpg")
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not page.one("#detail").is_displayed()


def test_a_photo_in_a_shard_has_no_link(browser, tmp_path):
    page = page_of(browser, tmp_path, [{"path": "photos.tar/a.jpg", "tags": [tag("dog", 0.9)]}, PHOTOS[0]])
    for card, is_file in zip(page.all("#grid .card"), (False, True), strict=True):
        card.click()
        assert page.one("#detail a").is_displayed() == is_file
        page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)


def test_the_keyboard_reaches_every_card(browser, tmp_path):
    page = page_of(browser, tmp_path, [{"path": f"{n}.jpg", "tags": []} for n in range(300)])
    focused = "return document.activeElement.querySelector('.name')?.title"
    page.script("document.querySelector('#clear').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.TAB)
    assert page.script(focused) == "0.jpg"
    for key, expected in (
        (Keys.RIGHT, "1.jpg"), (Keys.END, "299.jpg"), (Keys.LEFT, "298.jpg"), (Keys.HOME, "0.jpg"),
    ):  # fmt: skip
        page.browser.switch_to.active_element.send_keys(key)
        assert page.script(focused) == expected
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.one("#detail-name").text == "0.jpg"


HOSTILE = [
    "<script>document.title = 'broken'</script>",
    "</script><script>document.title = 'broken'</script>",
    "<img src=x onerror=\"document.title='broken'\">",
    "\" onmouseover=\"document.title='broken'\" '",
    "javascript:document.title='broken'",
    "&lt;b&gt; &amp; {{script}} {{data}} ${1}",
]
ESCAPED = {"\u2028 \u2029": "\\u2028 \\u2029", "\u202egpj.exe": "\\u202egpj.exe", "\udcff\udc80": "\\udcff\\udc80"}


def test_hostile_names_are_text_and_never_run(browser, tmp_path):
    names = {name: name for name in HOSTILE} | ESCAPED
    photos = [{"path": name, "tags": [tag(name, 0.5)]} for name in names]
    photos += [{"path": name, "error": name} for name in names]
    page = page_of(browser, tmp_path, photos)
    assert page.names() == list(names.values())
    labels = page.script("return Array.from(document.querySelectorAll('#grid .label'), (label) => label.textContent)")
    assert labels == list(names.values())
    for card in page.all("#grid .card")[: len(HOSTILE)]:
        card.click()
        assert page.one("#detail a").get_attribute("href").startswith("file:///")
        page.one("#detail form button").click()
    page.all("#views button")[1].click()
    rows = page.script(
        "return Array.from(document.querySelectorAll('#grid .row'), (row) => row.children[1].textContent)"
    )
    assert rows == list(names.values())
    assert page.browser.title == "Tagged photos"
    assert page.complaints == []


def test_an_injected_script_is_stopped_by_the_policy(page):
    page.script(
        """const script = document.createElement('script'); script.textContent = "document.title = 'broken'";
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img src="http://192.0.2.1/x.png">');"""
    )
    assert page.browser.title == "Tagged photos"
    complaints = " ".join(page.complaints)
    assert "script-src" in complaints
    assert "img-src" in complaints


@pytest.mark.slow
def test_ten_thousand_photos_take_few_nodes(browser, tmp_path):
    Image.radial_gradient("L").save(tmp_path / "photo.jpg")
    labels = [f"label {n}." for n in range(400)]
    photos = [
        {
            "path": str(tmp_path / "photo.jpg"),
            "tags": [tag(labels[(n + k) % len(labels)], 0.9 - k / 10, seen=(n + k) % 5 > 0) for k in range(5)],
        }
        for n in range(10_000)
    ]
    photos += [{"path": f"{n}.jpg", "error": "gone"} for n in range(10_000)]
    page = page_of(browser, tmp_path, photos)
    assert page.status == "10,000 of 10,000 photos"
    assert page.nodes < TALLEST_DOM
    assert len(page.all("#labels button")) == 100
    for top in (0, 200_000, 100_000, 10**7):
        page.script("arguments[0].scrollTop = arguments[1]", page.one("#viewport"), top)
        WebDriverWait(browser, 20).until(lambda _: page.all("#grid .card"))
        assert page.nodes < TALLEST_DOM
    WebDriverWait(browser, 20).until(lambda _: page.all("#grid li[aria-posinset='10000']"))
    page.type("#label-query", "label 77.")
    page.choose("label 77.")
    assert page.status == "125 of 10,000 photos"
    page.at_least(0.85)
    assert page.status == "25 of 10,000 photos"
    assert page.nodes < TALLEST_DOM
    page.all("#views button")[1].click()
    assert page.status == "10,000 files could not be read"
    assert page.nodes < TALLEST_DOM
    assert page.complaints == []

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from potstill.report import write
from potstill.report.tables import DASH

from .folders import Runs, attach, guesses, hinton, predict, predicted
from .test_tuning import trial, tuning

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

if not (CHROMIUM.exists() and DRIVER.exists()):
    pytest.skip("Debian's chromium and chromium-driver are not installed.", allow_module_level=True)

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed.")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=str(DRIVER), log_output=os.devnull)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = Runs(folder / "runs")
    runs.folder.mkdir()
    hinton(runs)
    for temperature in (1, 2, 4):
        for alpha in (0.2, 0.8):
            settings = {"temperature": temperature, "alpha": alpha}
            runs.run(f"T={temperature} a={alpha}", 1, 0.9 + alpha / 100 + temperature / 999, settings=settings)
    runs.sweep("mnist:hinton_grid")
    predicted(runs)
    attach(runs)
    predicted(runs, 400, 40, "mnist:predicted_many")
    tuning(runs.folder / "mnist-hinton.tune.json", trial(0, "finished", 0.94), trial(1, "finished", 0.95))
    return write([runs.folder], folder / "out")


@pytest.fixture
def opened(browser, page: Path):
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())
    return browser


def column(browser, place: int) -> list[str]:
    script = (
        "return [...document.querySelector('table.sortable').tBodies[0].rows].map(r => r.cells[arguments[0]].innerText)"
    )
    return browser.execute_script(script, place)


def click(browser, name: str) -> tuple[int, str]:
    """Press the head of that name with the keyboard; returns its place and the order that it then announces."""
    script = """
        const table = document.querySelector('table.sortable');
        const buttons = [...table.querySelectorAll('thead button')];
        const place = buttons.findIndex(b => b.querySelector('.name').textContent === arguments[0]);
        buttons[place].focus();
        return place;
    """
    place = browser.execute_script(script, name)
    browser.switch_to.active_element.send_keys("\ue007")
    announced = "return [...document.querySelectorAll('th[aria-sort]')].map(th => th.ariaSort + th.innerText.trim())"
    (order,) = browser.execute_script(announced)
    assert name in order
    return place, "descending" if order.startswith("descending") else order.split(name)[0].strip()


def test_no_error_and_no_request(opened, page: Path):
    assert [entry for entry in opened.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert {url for url in sent if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_and_nothing_is_wider_than_the_window(opened, width: int):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert opened.execute_script("return document.querySelectorAll('details.part[open]').length") == 2
    opened.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    sizes = opened.execute_script(
        "return [...document.querySelectorAll('svg')].map(s => [s.getBoundingClientRect().width, s.getBBox().height])"
    )
    assert len(sizes) > 50
    assert all(wide > 150 and high > 50 for wide, high in sizes)
    pictures = opened.execute_script(
        "return [...document.querySelectorAll('img')].map(i => [i.complete, i.naturalWidth, i.alt, i.clientWidth])"
    )
    assert len(pictures) > 20
    assert all(done and drawn == 8 and alt and shown == 56 for done, drawn, alt, shown in pictures)
    masks = opened.execute_script("return document.querySelectorAll('svg mask image').length")
    assert masks > 4  # Forty classes have a pixel per pair.
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_names_of_any_length_leave_a_phone_its_width(browser, tmp_path: Path):
    runs = Runs(tmp_path / "runs")
    runs.folder.mkdir()
    labels = np.arange(300) % 10
    names = ["arm_" + letter * 70 for letter in "abcdefgh"]
    for place, name in enumerate(names):
        for seed in range(3):
            size = 1000 * (place + 1)
            folder = runs.run(name, seed, 0.9 + place / 1000 + seed / 7000, name=f"r{place}", parameters=size)
            predict(folder, guesses(labels, 10 * place + seed, 0.2), labels)
    runs.sweep("a_file_of_ones_own.py:" + "recipe" * 12)
    tuning(runs.folder / "b.tune.json", trial(0, "finished", 0.94), arm="arm_" + "x" * 70)
    browser.get(write([runs.folder], tmp_path / "out").as_uri())
    metrics = {"width": 360, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    spilt = browser.execute_script(
        "return [...document.querySelectorAll('nav a, summary, h2, h3, h4, p, figcaption')].filter(e =>"
        "  e.getBoundingClientRect().right > innerWidth + 1).map(e => e.textContent.slice(0, 60))"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (wide, spilt) == (360, [])


def test_what_is_pressed_is_large_enough_for_a_finger(opened):
    heights = opened.execute_script(
        "return [...document.querySelectorAll('th button, summary, nav a')].filter(e => e.getClientRects().length)"
        "  .map(e => [e.getBoundingClientRect().height, e.textContent.trim().slice(0, 30)])"
    )
    assert len(heights) > 50
    assert [each for each in heights if each[0] < 24] == []


def test_what_columns_mean_can_be_read_without_a_mouse(opened):
    said = opened.execute_script(
        "const list = [...document.querySelectorAll('details')].find(d => d.innerText.startsWith('What the columns'));"
        "list.open = true;"
        "return [...list.querySelectorAll('div')].map(d => d.innerText.replace(/\\s*\\n\\s*/, ': '))"
    )
    heads = column_heads(opened)
    assert [line.partition(":")[0] for line in said] == [head for head in heads if head not in ("arm", "verdict")]
    assert "NLL: Test negative log-likelihood." in said
    assert all(len(line.partition(": ")[2]) > 10 for line in said)


def test_a_figure_has_a_name_and_a_description(opened):
    unlike = opened.execute_script(
        "const text = (e, a) => document.getElementById(e.getAttribute(a)).tagName;"
        "return [...document.querySelectorAll('svg[role=img]')]"
        "  .map(s => text(s, 'aria-labelledby') + ' ' + text(s, 'aria-describedby')).filter(t => t !== 'title desc')"
    )
    assert unlike == []


def column_heads(browser) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('table.sortable')[0].querySelectorAll('thead button .name')]"
        ".map(e => e.textContent)"
    )


def test_a_head_sorts_up_and_down(opened):
    place, order = click(opened, "last epoch")
    values = [float(text.split("±")[0]) for text in column(opened, place)]
    assert (order, values) == ("descending", sorted(values, reverse=True))
    place, order = click(opened, "last epoch")
    values = [float(text.split("±")[0]) for text in column(opened, place)]
    assert (order, values) == ("ascending", sorted(values))


def test_cells_without_a_value_stay_last(opened):
    for expected in ("descending", "ascending"):
        place, order = click(opened, "agreement")
        cells = column(opened, place)
        assert order == expected
        assert [text.strip() for text in cells[-2:]] == [DASH, DASH]
        assert DASH not in "".join(cells[:-2])


def test_every_column_sorts_by_its_values(opened):
    names = opened.execute_script(
        "return [...document.querySelectorAll('table.sortable')[0].querySelectorAll('thead button .name')]"
        ".map(e => e.textContent)"
    )
    assert len(names) > 15
    for name in names[1:]:
        place, order = click(opened, name)
        values = opened.execute_script(
            "return [...document.querySelector('table.sortable').tBodies[0].rows]"
            ".map(r => r.cells[arguments[0]].dataset.value).filter(v => v !== undefined).map(Number)",
            place,
        )
        assert (order, values) == ("descending", sorted(values, reverse=True)), name


def test_landmarks_and_heads_are_named_for_who_cannot_see(opened):
    found = opened.execute_script(
        "return ['header', 'main', 'footer', 'nav[aria-label]'].map(s => document.querySelectorAll(s).length)"
    )
    assert found[:3] == [1, 1, 1]
    assert found[3] >= 1
    unnamed = opened.execute_script(
        "return [...document.querySelectorAll('[role=region], [role=img], nav, section')].filter(e => {"
        "  const ids = (e.getAttribute('aria-labelledby') || '').split(' ').filter(Boolean);"
        "  return !e.getAttribute('aria-label') && !(ids.length && ids.every(id => document.getElementById(id)));"
        "}).map(e => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []
    levels = opened.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    targets = opened.execute_script(
        "return [...document.querySelectorAll('nav a')].map(a => !!document.querySelector(a.getAttribute('href')))"
    )
    assert len(targets) > 10
    assert all(targets)


def test_the_keyboard_reaches_tables_and_parts(opened):
    opened.execute_script("document.querySelector('.skip').focus()")
    opened.switch_to.active_element.send_keys("\ue007")
    assert opened.current_url.endswith("#main")
    script = "const part = document.querySelectorAll('details.part:not([open]) > summary')[0]; part.focus(); return 1"
    opened.execute_script(script)
    opened.switch_to.active_element.send_keys("\ue007")
    assert opened.execute_script("return document.activeElement.parentElement.open") is True


def test_on_paper_every_part_is_open_and_nothing_is_cut(opened):
    closed = "return document.querySelectorAll('details:not([open])').length"
    before = opened.execute_script(closed)
    assert before > 5
    opened.execute_script(
        "addEventListener('beforeprint', () => {"
        "  window.seen = [document.querySelectorAll('details:not([open])').length]; })"
    )
    printed = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert len(printed["data"]) > 100_000
    assert opened.execute_script("return window.seen") == [0]
    assert opened.execute_script(closed) == before
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    # A4 across without its margins, in pixels of 1/96 inch.
    size = {"width": 1017, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 1017
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_no_words_of_a_figure_lie_on_others(opened):
    """Words of the axes and legends; numbers within a figure may meet where the values do."""
    opened.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    overlapping = opened.execute_script("""
        const found = [];
        for (const drawing of document.querySelectorAll('.overview svg')) {
          const boxes = [...drawing.querySelectorAll('text')].map((t) => [t.textContent, t.getBoundingClientRect()]);
          boxes.forEach(([name, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
            const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (wide > 1 && high > 4) found.push([drawing.querySelector('title').textContent, name, other]);
          }));
        }
        return found;
    """)
    assert overlapping == []


def test_arms_sort_by_name(opened):
    place, order = click(opened, "arm")
    names = column(opened, place)
    assert (order, names[0], names[-1]) == ("ascending", "hard", "teacher")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ink_and_paper_differ_in_both_schemes(opened, scheme: str):
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    paper, ink, figure = opened.execute_script(
        "const of = e => getComputedStyle(e); return [of(document.body).backgroundColor, of(document.body).color,"
        "of(document.querySelector('svg text')).fill].map(c => c.match(/\\d+/g).map(Number))"
    )
    assert ink == figure
    assert (sum(paper) > 600) == (scheme == "light")
    assert abs(sum(paper) - sum(ink)) > 450

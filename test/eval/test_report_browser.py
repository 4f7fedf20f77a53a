"""The report in a real browser: it opens without an error, filters, and fits a phone.

Needs Chromium and its driver: `apt-get install chromium chromium-driver`.
"""

import shutil

import pytest
from report_kit import MIX, make_metrics, make_run

from robollm.eval.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is missing"),
]
PHONE = 390
ARGUMENTS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-extensions --force-device-scale-factor=1 --window-size=1280,900"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ARGUMENTS.split():
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("browsed"))
    return write_report(run, make_metrics()).as_uri()


@pytest.fixture
def opened(browser, page):
    """The page, freshly loaded, as wide as a desktop, without a chosen theme."""
    show(browser, page)
    browser.execute_script("localStorage.clear()")
    show(browser, page)
    return browser


def show(browser, page, width=1280, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(page)


def choose(browser, control, value):
    browser.execute_script(
        "const c = document.querySelector(arguments[0]); c.value = arguments[1];"
        "c.dispatchEvent(new Event('change'));", control, value,
    )  # fmt: skip


def count(browser, query):
    """How many elements of a query take up space on the page."""
    return browser.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter((e) => e.getClientRects().length).length", query,
    )  # fmt: skip


def colours(browser):
    return browser.execute_script(
        "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color];"
    )


def test_it_opens_without_a_word_in_the_console(opened):
    assert opened.title == "run · robollm evaluation"
    assert opened.get_log("browser") == []


def test_nothing_is_asked_of_any_network(browser, page):
    browser.get_log("performance")
    show(browser, page)
    asked = [
        row["message"]
        for row in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in row["message"]
    ]
    assert asked
    assert all('"url":"file:' in a or '"url":"data:' in a for a in asked)


def test_every_image_loads(opened):
    widths = opened.execute_script("return [...document.images].map((i) => i.naturalWidth)")
    assert len(widths) == 19
    assert min(widths) > 0


def test_plots_have_a_size_and_their_lines_a_colour(opened):
    assert count(opened, ".plot svg") > 8
    line = opened.execute_script(
        "return getComputedStyle(document.querySelector('.plot svg [style*=\"--line0\"]')).stroke"
    )
    assert line.startswith("rgb(")


def test_the_filters_leave_what_they_say_and_take_it_back(opened):
    whole = count(opened, ".card")
    assert whole == 13
    choose(opened, "#filter-outcome", "missed defect")
    assert count(opened, ".card") == 1
    assert opened.execute_script("return document.querySelector('#shown').value") == (
        "1 of 13 samples"
    )
    choose(opened, "#filter-outcome", "")
    choose(opened, "#filter-section", f"segmentation/{MIX}")
    assert count(opened, ".card") == 4
    assert count(opened, ".part") == 1
    assert count(opened, "#identification") == 0
    choose(opened, "#filter-outcome", "false alarm")
    assert count(opened, ".card") == 0
    assert count(opened, ".none") == 1
    choose(opened, "#filter-section", "")
    choose(opened, "#filter-outcome", "")
    assert count(opened, ".card") == whole
    assert count(opened, ".none") == 0


def test_outlines_can_be_taken_away(opened):
    assert count(opened, ".card path.missed") == 7
    opened.execute_script("document.querySelector('.toggle-truth').click()")
    assert count(opened, ".card path.missed") == 0
    assert count(opened, ".card path.false") == 7
    opened.execute_script("document.querySelector('.toggle-found').click()")
    assert count(opened, ".card path.false") == 0


def test_a_picture_opens_large_with_its_outlines(opened):
    opened.execute_script("document.querySelector('.card .frame').click()")
    assert count(opened, "dialog[open] img") == 1
    assert count(opened, "dialog[open] path.missed") == 1


def test_light_and_dark_follow_the_system_and_the_switch_overrides_it(browser, page, opened):
    light = colours(opened)
    show(browser, page, scheme="dark")
    dark = colours(browser)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    choose(browser, "#theme", "light")
    assert colours(browser) == light
    browser.refresh()
    assert colours(browser) == light  # remembered
    choose(browser, "#theme", "")
    assert colours(browser) == dark


@pytest.mark.parametrize("width", [PHONE, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, page, width):
    show(browser, page, width)
    browser.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    seen = browser.execute_script("return document.documentElement.scrollWidth")
    assert seen <= width


def test_ours_beside_the_best_published_model_is_in_sight_on_a_phone(browser, page):
    show(browser, page, PHONE)
    sides = """return [...document.querySelectorAll(".grid .scroll")].map((frame) => {
        const ours = frame.querySelector("th.ours");
        const places = [frame.querySelector("tbody th.first"), ours.previousElementSibling, ours,
                        frame];
        return places.map((e) => e.getBoundingClientRect()).map((r) => [r.left, r.right]);
    })"""
    for (_, labels), (left, _), (_, ours), (_, frame) in browser.execute_script(sides):
        assert labels <= left + 1
        assert ours <= frame


def test_the_text_of_a_plot_can_be_read_on_a_phone(browser, page):
    show(browser, page, PHONE)
    height = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('.plot svg text')]"
        ".map((t) => t.getBoundingClientRect().height).filter((h) => h > 0))"
    )
    assert height >= 7

"""The page in a browser: it asks for nothing, sorts and filters, fits a phone, goes dark where asked, prints whole.

Chromium is that of the system; where it or playwright is missing these tests are skipped, and fail with
METAREPRO_REQUIRE_BROWSER=1, as CI sets it.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.papers.published_file import load_published
from tests.reference.synthetic_grid import BANDITS, CELLS, KNOWN, bandit_info, grid_records
from tests.reference.synthetic_runs import study_info, synthetic_records
from tests.reference.synthetic_verdicts import AUDITS, CLAIMS, JUDGEMENTS, report

PUBLISHED = load_published(Path(__file__).parent.parent / "suites" / "navigation" / "published.yaml")
REQUIRED = os.environ.get("METAREPRO_REQUIRE_BROWSER") == "1"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
NAMES = ("chromium", "chromium-browser", "google-chrome")


def unavailable(what: str) -> None:
    """Skip, or fail where a browser is required."""
    (pytest.fail if REQUIRED else pytest.skip)(f"{what}; METAREPRO_REQUIRE_BROWSER=1 makes this a failure")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        unavailable("playwright is not installed")
    executable = next((path for path in map(shutil.which, NAMES) if path), None)
    if executable is None:
        unavailable(f"none of {', '.join(NAMES)} is installed")
    with sync_playwright() as driver:
        try:
            launched = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        except Error as error:
            unavailable(f"{executable} does not start ({str(error).splitlines()[0]})")
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def path(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page over two studies, with verdicts and audits."""
    made = synthetic_records(methods=("maml", "fomaml"), seeds=(0, 1, 2), iterations=5)
    studies = (
        (made, study_info(methods=("maml", "fomaml")), PUBLISHED),
        (grid_records(CELLS, KNOWN), bandit_info(), BANDITS),
    )
    return report(tmp_path_factory.mktemp("browser"), *studies, judgements=JUDGEMENTS, audits=AUDITS)


@pytest.fixture
def page(browser: Any, path: Path) -> Iterator[Any]:
    """The open page. Whatever it says on the console or asks for, besides itself, fails the test."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    assert said == []
    assert {url.partition("#")[0] for url in asked} == {path.as_uri()}
    context.close()


def shown(page: Any, section: str = "#claims") -> list[str]:
    """The ids of the judgements that can be seen, in order."""
    found = page.locator(f"{section} tbody[data-outcome]").evaluate_all(
        "all => all.filter(one => !one.hidden).map(one => one.id)"
    )
    return [name.removeprefix("v-") for name in found]


def test_a_click_on_a_head_sorts_and_says_so(page):
    table = page.locator("#claims table.sortable")
    head = table.locator("> thead th", has_text="difference")
    assert head.get_attribute("aria-sort") == "none"
    before = shown(page)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    # −3, 0.1, 0.4, the smaller of 9 and 2, and one without a difference
    rising = ["ulm.order_fails", "ulm.at_reduced_size", "ulm.undecided_one", "ulm.order_holds", "deleu.no_runs"]
    assert shown(page) == rising != before
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert shown(page) == [*rising[-2::-1], "deleu.no_runs"]  # what has no number stays last
    page.locator("#claims thead th", has_text="p; Holm").first.get_by_role("button").press("Enter")
    assert shown(page)[0] == "ulm.order_holds"  # 1.2·10⁻⁵
    assert head.get_attribute("aria-sort") == "none"
    heads = table.locator("> thead th")
    assert heads.count() == heads.get_by_role("button").count()


def test_filters_by_outcome_paper_and_text(page):
    form = page.locator("#claims form.filters")
    form.get_by_label("outcome").select_option("does not replicate")
    assert shown(page) == ["ulm.order_fails"]
    assert form.locator("output").inner_text() == f"1 of {len(CLAIMS)} shown"
    form.get_by_role("button", name="Show all").click()
    page.wait_for_function(
        f"document.querySelectorAll('#claims tbody[data-outcome]:not([hidden])').length == {len(CLAIMS)}"
    )
    form.get_by_label("text").fill("ORDER note")
    assert shown(page) == ["ulm.order_holds"]
    form.get_by_label("text").fill("")
    form.get_by_label("paper").select_option("Deleu et al. (2018)")
    assert shown(page) == ["deleu.no_runs"]


def test_a_count_leads_to_its_list(page):
    page.locator("#summary td.count a[href='#claims']").first.click()
    assert page.url.endswith("#claims")
    assert shown(page) == ["ulm.order_holds"]  # of the Ulm report, at the published size, that replicate
    page.locator("#summary .tiles a[href='#numbers']", has_text="does not replicate").click()
    assert shown(page, "#numbers") == ["table_3_3.maml.1", "table_3_3.fomaml.0"]
    assert page.locator("#numbers details").first.get_attribute("open") is not None


def test_a_link_to_what_is_folded_or_filtered_away_shows_it(page):
    page.locator("#claims form.filters").get_by_label("outcome").select_option("replicates")
    assert not page.locator("[id='v-ulm.order_fails']").is_visible()
    page.locator("#navigation .digest a[href='#v-ulm.order_fails']").click()
    page.locator("[id='v-ulm.order_fails']").wait_for(state="visible")
    page.goto(f"{page.url.partition('#')[0]}#v-table_3_3.maml.1")
    page.locator("[id='v-table_3_3.maml.1']").wait_for(state="visible")


def test_the_files_inside_the_page_can_be_saved(page, path):
    for name in ("verdicts.csv", "verdicts.tex", "papers.bib"):
        with page.expect_download() as saving:
            page.locator(f"a[download='{name}']").click()
        assert saving.value.suggested_filename == name
        assert Path(saving.value.path()).read_bytes() == (path.with_suffix("") / name).read_bytes()


@pytest.mark.parametrize("unfolded", [False, True])
def test_a_phone_does_not_scroll_sideways(page, unfolded):
    page.set_viewport_size(PHONE)
    if unfolded:
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = page.locator("#claims .scroll").first
    assert wide.evaluate("one => one.scrollWidth > one.clientWidth")  # the table scrolls in its own frame


def colours(page: Any, selector: str) -> list[tuple[str, str]]:
    """Text and background colour of all such elements; a transparent background is that of what lies behind."""
    script = """all => all.map(one => {
        let behind = one;
        while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor];
    })"""
    return [tuple(pair) for pair in page.locator(selector).evaluate_all(script)]


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_what_is_behind_it(page, scheme):
    page.emulate_media(color_scheme=scheme)
    pairs = set(
        colours(page, "p, a, caption, .soft, .badge, .seeds span, .count, .tiles a, th, td, summary, button, output")
    )
    assert len(pairs) > 10
    for text, behind in pairs:
        low, high = sorted((luminance(text), luminance(behind)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, behind)


def test_the_dark_scheme_is_dark(page):
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert luminance(light) > 0.9
    assert luminance(dark) < 0.05


def test_print_is_whole_and_unfolded(page, path):
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#claims details:not([open]), #numbers details:not([open])").count() == 0
    assert page.locator("details.raw[open]").count() == 0  # long lists of runs stay in their files
    clipped = page.locator(".scroll").evaluate_all(
        "all => all.filter(one => getComputedStyle(one).overflow !== 'visible').length"
    )
    assert clipped == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#numbers details[open]").count() == 0
    printed = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) > 1
    assert len(printed) > 50_000


def test_the_page_can_be_read_without_its_script(browser, path):
    context = browser.new_context(viewport=DESKTOP, java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("form.filters, thead button").count() == 0
    assert page.locator("[id='v-ulm.order_fails']").is_visible()
    assert page.locator("#claims").get_by_text("Because of ulm.order_fails.").is_visible()
    context.close()


def test_the_keyboard_reaches_the_results_first(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")

"""The page in a real browser: it draws, it can be read and zoomed by hand and by keyboard, and asks for nothing."""

from __future__ import annotations

import pytest
import pytest_asyncio

from chaos.reports.html.page import make_page, read_runs, write_page
from tests.chromium import chromium_page, find_chromium
from tests.unit.reports.html import journals

pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install one, or name it in CHAOS_CHROMIUM"),
    pytest.mark.asyncio(loop_scope="module"),
]

PLOT = "document.querySelectorAll('.plot')[0]"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory):
    async with chromium_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    attack = "</script><script>document.title = 'hacked'</script>"
    journal = journals.pair(folder / "one.jsonl")
    other = journals.write(folder / "two.jsonl", journals.run(title=attack))
    write_page(folder / "report.html", make_page(read_runs([journal, other])))
    return folder / "report.html"


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser, file):
    browser.errors.clear()
    browser.requests.clear()
    await browser.call("Emulation.setEmulatedMedia", features=[])
    await browser.open(file)
    yield browser
    assert browser.errors == []
    assert browser.requests == [file.resolve().as_uri()]


async def centre(page, selector: str) -> tuple[float, float]:
    """Bring an element into sight and return its middle."""
    box = await page.evaluate(
        f"(() => {{ const one = {selector}; one.scrollIntoView({{block: 'center', behavior: 'instant'}});"
        " const box = one.getBoundingClientRect(); return [box.left, box.top, box.width, box.height]; })()"
    )
    left, top, width, height = box
    return left + width / 2, top + height / 2


async def seconds_shown(page) -> list[str]:
    return await page.evaluate(f"[...{PLOT}.querySelectorAll('.tick.across')].map((one) => one.textContent)")


async def test_it_loads_without_errors_or_requests_and_every_plot_shows_data(page):
    assert await page.evaluate("document.title") == "2 experiments"
    drawn = await page.evaluate(
        "[...document.querySelectorAll('.plot')].map((plot) =>"
        " [...plot.querySelectorAll('svg.drawing path.line')].map((path) => path.getTotalLength()))"
    )
    assert len(drawn) >= 9
    assert all(lengths and all(length > 100 for length in lengths) for lengths in drawn)
    assert await page.evaluate("document.querySelectorAll('.timeline rect.fault').length") > 8
    assert await page.evaluate("document.querySelectorAll('.timeline rect.breaker.open').length") == 3


async def test_pointing_at_a_plot_reads_every_plot_at_that_second(page):
    x, y = await centre(page, f"{PLOT}.querySelector('.drawing')")
    await page.mouse("mouseMoved", x, y)
    await page.settle()
    values = await page.evaluate(
        "[...document.querySelector('.group').querySelectorAll('.plot')].map((plot) =>"
        " [...plot.querySelectorAll('.key b')].map((one) => one.textContent))"
    )
    assert values[0] == ["100 %", "100 %"]
    assert values[1] == ["1.2 s", "1.2 s"]
    assert all(text for plot in values for text in plot)
    moment = await page.evaluate(f"{PLOT}.querySelector('.moment').textContent")
    assert "s · fault" in moment
    assert await page.evaluate("document.querySelectorAll('#run-2 .key b')[0].textContent") == ""
    await page.mouse("mouseMoved", 2, 2)
    await page.settle()
    assert await page.evaluate(f"{PLOT}.querySelector('.key b').textContent") == ""


async def test_dragging_zooms_all_plots_of_an_experiment_and_a_double_click_shows_all_again(page):
    x, y = await centre(page, f"{PLOT}.querySelector('.drawing')")
    before = await seconds_shown(page)
    await page.mouse("mousePressed", x - 60, y, button="left", clickCount=1)
    await page.mouse("mouseMoved", x + 40, y, button="left")
    await page.mouse("mouseReleased", x + 40, y, button="left", clickCount=1)
    await page.settle()
    zoomed = await seconds_shown(page)
    assert zoomed != before
    assert len({float(one.removesuffix(" s")) for one in zoomed}) == len(zoomed)
    ticks = await page.evaluate(
        "[...document.querySelectorAll('#run-1 .plot .drawing')]"
        ".map((one) => one.querySelector('.tick.across').textContent)"
    )
    assert len(set(ticks)) == 1
    assert await page.evaluate("document.querySelector('#run-1 .reset').hidden") is False
    assert await page.evaluate("document.querySelector('#run-2 .reset').hidden") is True
    for count in (1, 2):
        await page.mouse("mousePressed", x, y, button="left", clickCount=count)
        await page.mouse("mouseReleased", x, y, button="left", clickCount=count)
    await page.settle()
    assert await seconds_shown(page) == before


async def test_a_plot_is_read_and_zoomed_by_keyboard_and_speaks(page):
    await page.evaluate(f"{PLOT}.querySelector('.drawing').focus()")
    await page.press("ArrowRight")
    for _ in range(14):
        await page.press("ArrowRight")
    spoken = await page.evaluate("document.querySelector('#run-1 [aria-live].unseen').textContent")
    assert spoken == "second 14, fault: experiment 80 %, control 80 %"
    await page.press("ArrowLeft")
    assert "second 13" in await page.evaluate("document.querySelector('#run-1 [aria-live].unseen').textContent")
    before = await seconds_shown(page)
    await page.press("+")
    await page.settle()
    assert await seconds_shown(page) != before
    await page.press("Escape")
    await page.settle()
    assert await seconds_shown(page) == before


async def test_every_control_can_be_reached_with_tab_and_its_focus_is_seen(page):
    seen = []
    for _ in range(60):
        await page.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        await page.call("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        seen.append(
            await page.evaluate(
                "(() => { const one = document.activeElement;"
                " return (one.id || one.getAttribute('class') || one.tagName)"
                " + (one.matches(':focus-visible') ? '' : ' unseen'); })()"
            )
        )
        if "copy" in seen:
            break
    assert {"skip", "theme", "A", "scroll", "drawing", "SUMMARY", "copy"} <= set(seen)
    assert any(one.startswith("pair") for one in seen)
    assert not [one for one in seen if one.endswith(" unseen")]


async def test_the_call_graph_tells_of_a_pair_of_services(page):
    pair = "document.querySelector('#run-1 .pair[aria-label^=\"playback_apps to store\"]')"
    await page.evaluate(f"{pair}.focus()")
    said = await page.evaluate("document.querySelector('#run-1 .graph-detail').textContent")
    assert said.startswith("playback_apps → store4 edges, none with a fault.")
    assert "experiment 860 calls, 0 failed; control 860 calls, 6 failed" in said
    assert "playback_apps-1 → store-1" + "0 / 430" + "6 / 430" in said
    await page.press("ArrowRight")
    other = await page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert other.startswith("store to store")


async def test_dark_and_light_follow_the_system_and_the_button(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(ground)
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = await page.evaluate(ground)
    assert light != dark
    press = "document.getElementById('theme').click(), document.getElementById('theme').textContent"
    assert await page.evaluate(press) == "Theme: light"
    assert await page.evaluate(ground) == light
    assert await page.evaluate(press) == "Theme: dark"
    assert await page.evaluate(ground) == dark
    assert await page.evaluate(press) == "Theme: as the system"


async def test_the_data_behind_a_plot_is_a_table(page):
    rows = await page.evaluate(
        f"(() => {{ const box = {PLOT}.querySelector('details.data'); box.open = true;"
        " return new Promise((done) => box.addEventListener('toggle', () => setTimeout(() =>"
        " done([...box.querySelectorAll('tr')].map((row) => [...row.children].map((one) => one.textContent)))))); })()"
    )
    assert rows[0] == ["from second", "experiment", "control"]
    assert rows[14] == ["13 s", "80 %", "80 %"]
    assert len(rows) == 45


async def test_a_table_of_too_many_seconds_has_their_means_and_says_so(page):
    said, rows = await page.evaluate(
        "(() => { const box = dataTable({title: 'x', unit: '', lines: ["
        " {title: 'short', width: 1, mean: [...Array(600).keys()].map((at) => at % 2 ? null : at)},"
        " {title: 'long', width: 4, mean: [...Array(1000).keys()]}]}); document.body.append(box); box.open = true;"
        " return new Promise((done) => box.addEventListener('toggle', () => setTimeout(() => done(["
        " box.querySelector('p').textContent,"
        " [...box.querySelectorAll('tr')].map((row) => [...row.children].map((one) => one.textContent))])))); })()"
    )
    assert said == "Each row is the mean of 4 s."
    assert rows[:3] == [["from second", "short", "long"], ["0 s", "1", "0"], ["4 s", "5", "1"]]
    assert rows[150:152] == [["596 s", "597", "149"], ["600 s", "\N{EN DASH}", "150"]]
    assert rows[-1] == ["3996 s", "\N{EN DASH}", "999"]


async def test_other_figures_are_drawn_when_they_are_opened(page):
    shown = await page.evaluate(
        "(() => { const box = document.querySelector('#run-1 details.more'); box.open = true;"
        " return new Promise((done) => box.addEventListener('toggle', () => setTimeout(() =>"
        " done([...box.querySelectorAll('h4')].map((one) => one.textContent))))); })()"
    )
    assert shown[:3] == [
        "Answered by a fallback",
        "What became of each session, by the second it ended in",
        "Calls between services",
    ]


@pytest.mark.parametrize("width", [390, 820, 1600])
async def test_the_page_never_scrolls_sideways(page, file, width):
    await page.resize(width, 900)
    await page.settle()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    plots = await page.evaluate("Math.max(...[...document.querySelectorAll('.drawing')].map((one) => one.clientWidth))")
    assert 300 < plots <= width


async def test_it_prints_on_paper_with_its_plots(page):
    printed = await page.call("Page.printToPDF", printBackground=True)
    assert len(printed["data"]) > 50_000

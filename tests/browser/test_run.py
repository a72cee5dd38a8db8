"""A run of the sample, followed and controlled by a person in a browser."""

import csv
import io
import re

import pytest
from playwright.sync_api import Page, expect

from eo_tasks.grid import GridYear
from tests.archive import image_path
from tests.browser.conftest import SOON_MS, confirm, go, link, log_in, shoot
from tests.dashboard import Dashboard
from tests.system import System

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

CELLS = "463 464 465"
MORE_CELLS = "463 464 465 466 467 468"


def start(page: Page, years: str, cells: str = CELLS) -> None:
    """Ask for years and cells in the panel Control."""
    go(page, "Control")
    page.get_by_label("Years").fill(years)
    page.get_by_label("Cells").fill(cells)
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    expect(page.get_by_role("status").filter(has_text="units planned")).to_be_visible(timeout=SOON_MS)
    page.get_by_role("button", name="Dismiss").first.click()


def progress(page: Page, stage: str) -> object:
    return page.locator(f'[data-stage="{stage}"] h3')


def test_a_run_is_followed_paused_resumed_mended_and_reported(
    open_page, workers: System, board: Dashboard, country: dict[str, str], tmp_path
) -> None:
    page = open_page()
    log_in(page)
    go(page, "Control")
    page.get_by_label("Years").fill("2021-2022")
    page.get_by_label("Cells").fill(CELLS)
    page.get_by_role("button", name="Plan").click()
    expect(page.get_by_role("table", name="Plan")).to_contain_text("download")
    shoot(page, "control")
    start(page, "2021-2022")

    go(page, "Overview")
    page.evaluate("window.neverReloaded = true")
    expect(progress(page, "btc")).to_contain_text("3 of 3", timeout=2 * SOON_MS)
    shoot(page, "overview-first")

    # A composite is damaged behind the system's back, and the years after it are asked for.
    broken = image_path(tmp_path / "data", GridYear(464, 2022))
    whole = broken.read_bytes()
    broken.write_bytes(bytes(64) + whole[64:])
    start(page, "2021-2023", MORE_CELLS)
    go(page, "Overview")
    run = page.get_by_role("row").filter(has_text="2021–2023")
    run.get_by_role("button", name="Pause").click()
    confirm(page, "Pause")
    expect(run).to_contain_text("paused", timeout=SOON_MS)
    shoot(page, "paused")
    run.get_by_role("button", name="Resume").click()
    confirm(page, "Resume")
    expect(run).to_contain_text(re.compile("active|incomplete"), timeout=SOON_MS)

    errors = link(page, "Errors")
    expect(errors).to_contain_text("1", timeout=2 * SOON_MS)
    expect(progress(page, "btc")).to_contain_text("11 of 12", timeout=2 * SOON_MS)
    errors.click()
    group = page.locator(".group")
    expect(group).to_contain_text("StorageError")
    expect(group).to_contain_text("broken")
    shoot(page, "errors")
    group.get_by_role("link", name="Show on the map").click()
    expect(page.locator(".map")).to_have_attribute("data-drawn", re.compile("^btc"))

    broken.write_bytes(whole)
    errors.click()
    group.get_by_role("button", name="Retry").click()
    confirm(page, "Retry")
    expect(page.get_by_text("No unit waits for you.")).to_be_visible(timeout=SOON_MS)
    go(page, "Overview")
    expect(progress(page, "btc")).to_contain_text("12 of 12", timeout=2 * SOON_MS)
    expect(run).to_contain_text("complete", timeout=SOON_MS)
    assert page.evaluate("window.neverReloaded") is True
    shoot(page, "overview")

    with page.expect_download() as download:
        page.get_by_role("link", name="As CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert len(rows) == 18
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="As a page with pictures").click()
    report = opened.value
    expect(report.get_by_role("heading", level=1)).to_be_visible()
    assert report.locator("img").count() > 0
    shoot(report, "report")

    go(page, "Control")
    deeds = page.get_by_role("table", name="Deeds")
    for action in ("start", "pause", "resume", "retry"):
        expect(deeds).to_contain_text(action)


def test_every_panel_shows_the_run(open_page, workers: System, board: Dashboard) -> None:
    page = open_page()
    log_in(page)
    start(page, "2021-2023")
    go(page, "Overview")
    expect(progress(page, "btc")).to_contain_text("6 of 6", timeout=2 * SOON_MS)

    go(page, "Matrix")
    matrix = page.get_by_role("application", name=re.compile("^Matrix"))
    expect(matrix).to_have_attribute("data-cells", "3")
    matrix.focus()
    reading = page.locator(".reading")
    page.keyboard.press("ArrowDown")
    expect(reading).to_have_text(re.compile(r"^Cell 464.*, download 2021: (completed|skipped)$"))
    page.keyboard.press("ArrowRight")
    expect(reading).to_contain_text("download 2022")
    shoot(page, "matrix")
    matrix.click(position={"x": 130, "y": 48})
    expect(page.get_by_role("heading", level=1)).to_contain_text("463")

    go(page, "Matrix")
    expect(matrix).to_have_attribute("data-cells", "3")
    matrix.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("464")
    pictures = page.locator(".pictures img")
    expect(pictures).to_have_count(4)
    for image in pictures.all()[:3]:
        expect(image).to_have_js_property("naturalWidth", 250)
    over = page.locator(".pictures .over")
    before = over.evaluate("(image) => image.style.clipPath")
    swipe = page.get_by_label("Swipe between the years")
    swipe.focus()
    page.keyboard.press("ArrowRight")
    moved = over.evaluate("(image) => image.style.clipPath")
    assert moved != before
    box = page.locator(".pictures").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60, steps=5)
    page.mouse.up()
    assert over.evaluate("(image) => parseFloat(image.style.clipPath.split(' ').at(-1))") == pytest.approx(25, abs=3)
    page.get_by_label("probability").check()
    expect(page.locator(".pictures .overlay").nth(1)).to_have_js_property("naturalWidth", 250)
    expect(page.locator(".reading")).to_contain_text("ha changed")
    expect(page.get_by_role("table", name="Units of this cell")).to_contain_text("btc_464_2022_2023")
    expect(page.get_by_role("table", name="Composites")).to_contain_text("scenes")
    shoot(page, "cell")

    go(page, "Map")
    ground = page.locator(".map")
    expect(ground).to_have_attribute("data-drawn", re.compile("^btc 2022_2023"))
    page.get_by_label("Colour by").select_option("changed")
    expect(page.get_by_role("list", name="Changed hectares")).to_be_visible()
    shoot(page, "map-changed")
    page.get_by_label("Colour by").select_option("state")
    page.get_by_label("Stage").select_option("download")
    expect(ground).to_have_attribute("data-drawn", re.compile("^download 2023"))
    page.get_by_label("Year").focus()
    page.keyboard.press("ArrowLeft")
    expect(ground).to_have_attribute("data-drawn", re.compile("^download 2022"))
    shoot(page, "map")
    box = ground.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^Cell \S+$"))
    go(page, "Map")
    page.get_by_label("Cell", exact=True).fill("465")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("465")

    go(page, "Machines")
    machines = page.get_by_role("table", name="Workers")
    for worker in ("control@", "cpu@", "gpu@"):
        expect(machines).to_contain_text(worker, timeout=SOON_MS)
    expect(page.locator(".host meter").first).to_be_visible()
    shoot(page, "machines")
    workers.kill("gpu")
    expect(machines).to_contain_text("silent", timeout=SOON_MS)

    go(page, "Logs")
    lines = page.locator(".log li")
    expect(lines.first).to_be_visible()
    page.get_by_role("form", name="Filter").get_by_label("Stage").select_option("btc")
    page.get_by_label("Cell").fill("464")
    page.get_by_role("button", name="Apply").click()
    expect(lines.first).to_contain_text("btc_464_")
    assert set(lines.locator("a").all_text_contents()) == {"btc_464_2021_2022", "btc_464_2022_2023"}
    shoot(page, "logs")

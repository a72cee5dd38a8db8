"""The pages by themselves: many cells, phones, light and dark, logins, connections that are lost."""

import re
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.runs import Run, Runs, RunState
from tests.browser.busy import MARKUP, fill, write_grid
from tests.browser.conftest import SOON_MS, confirm, go, log_in, shoot
from tests.dashboard import PASSWORD, Dashboard, dashboard

pytestmark = [pytest.mark.integration, pytest.mark.timeout(280)]

JSON = "application/json"
PANELS = ["", "matrix", "map", "errors", "control", "resources", "logs", "cell/17"]
OpenPage = Callable[..., Page]


@pytest.fixture
def country(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a dashboard whose grid a test writes."""
    return environment | {
        "GRID_FILE": str(tmp_path / "grid.gpkg"),
        "IMAGERY_SOURCE": "stac",
        "STAC_URL": "nowhere.json",
    }


@pytest.fixture
def busy(redis: Redis, country: dict[str, str]) -> Run:
    """A run of a hundred cells, half way."""
    write_grid(Path(country["GRID_FILE"]), 100)
    return fill(redis, 100, range(2020, 2023))


def test_what_needs_a_person_comes_first_and_is_shown_as_text(busy: Run, open_page: OpenPage) -> None:
    page = open_page()
    needs = page.locator("section").filter(has=page.get_by_role("heading", name="What needs you"))
    expect(needs).to_contain_text("40 units failed", timeout=SOON_MS)
    expect(needs).to_contain_text("3 GB are free: make room")
    needs.get_by_role("link", name="40 units failed").click()
    expect(page.locator(".group")).to_contain_text(MARKUP)
    go(page, "Control")
    expect(page.get_by_role("table", name="Deeds")).to_contain_text(MARKUP)
    assert page.locator("main img").count() == 0


def test_cells_of_an_error_are_marked_on_the_map(busy: Run, open_page: OpenPage) -> None:
    page = open_page()
    go(page, "Errors")
    page.get_by_role("link", name="Show on the map").click()
    expect(page.locator(".map")).to_have_attribute("data-drawn", re.compile(r"^\w+ 20\d\d"))
    expect(page.locator(".map")).to_have_attribute("data-marked", "5")


def test_a_question_that_is_not_answered_with_yes_changes_nothing(busy: Run, redis: Redis, open_page: OpenPage) -> None:
    page = open_page()
    log_in(page)
    run = page.get_by_role("row").filter(has_text=busy.id)
    run.get_by_role("button", name="Cancel run").click()
    dialog = page.get_by_role("dialog", name=f"Cancel run: run {busy.id}")
    expect(dialog.get_by_role("button", name="Not now")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    run.get_by_role("button", name="Pause").click()
    confirm(page, "Not now")
    assert [kept.state for kept in Runs(redis).all()] == ["active"]


def test_of_thirty_thousand_squares_only_those_in_view_are_drawn(
    redis: Redis, country: dict[str, str], board: Dashboard, open_page: OpenPage
) -> None:
    write_grid(Path(country["GRID_FILE"]), 1000)
    fill(redis, 1000, range(2015, 2025))
    page = open_page()
    go(page, "Matrix")
    matrix = page.get_by_role("application", name=re.compile("^Matrix"))
    expect(matrix).to_have_attribute("data-cells", "1000")
    height = page.evaluate(
        """async () => {
          const scroller = document.querySelector(".matrix");
          scroller.scrollTop = scroller.scrollHeight / 2;
          await new Promise(requestAnimationFrame);
          return [scroller.scrollHeight, document.querySelector(".matrix canvas").height / devicePixelRatio];
        }"""
    )
    assert height[0] > 8000 > 1000 > height[1]  # of the whole, and of what is drawn
    shoot(page, "matrix-1000")
    matrix.focus()
    page.keyboard.press("End")
    expect(page.locator(".reading")).to_have_text(re.compile("^Cell 999, download 2015"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("999")


def test_many_cells_are_shown_in_groups_and_blocks_that_open(
    redis: Redis, country: dict[str, str], board: Dashboard, open_page: OpenPage
) -> None:
    write_grid(Path(country["GRID_FILE"]), 6400)
    Runs(redis).add(Run(Wanted(Ranges.of(range(6400)), (2021, 2022)), time(), since=time()))
    page = open_page()
    go(page, "Matrix")
    matrix = page.get_by_role("application", name=re.compile("^Matrix"))
    expect(matrix).to_have_attribute("data-cells", "6400")
    matrix.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".reading")).to_have_text("Cells 7 to 13, download 2021: waiting, 0 % done")
    page.keyboard.press("Enter")
    expect(matrix).to_have_attribute("data-cells", "7")
    page.get_by_role("link", name="All cells").click()
    expect(matrix).to_have_attribute("data-cells", "6400")

    go(page, "Map")
    ground = page.locator(".map")
    expect(ground).to_have_attribute("data-level", re.compile("[1-9]"))
    box = ground.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2 - 30, box["y"] + box["height"] / 2 - 30)
    expect(ground).to_have_attribute("data-level", "0")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^Cell \d+$"))


def test_an_answer_that_is_cut_off_spoils_nothing_that_is_shown(busy: Run, redis: Redis, open_page: OpenPage) -> None:
    page = open_page()
    page.route("**/api/v1/alerts", lambda route: route.fulfill(status=200, body='{"active": [', content_type=JSON))
    with page.expect_response("**/api/v1/alerts"):
        page.reload()
    expect(page.get_by_role("table", name="Runs")).to_contain_text("active")
    Runs(redis).change(busy, RunState.PAUSED)
    expect(page.get_by_role("table", name="Runs")).to_contain_text("paused")


def test_it_comes_back_when_the_dashboard_does(
    redis: Redis, country: dict[str, str], open_page: OpenPage, board: Dashboard
) -> None:
    write_grid(Path(country["GRID_FILE"]), 100)
    page = open_page(expecting=("net::ERR",))  # of the dashboard that is away
    page.evaluate("window.neverReloaded = true")
    expect(page.locator("#headline")).to_have_text("No run yet", timeout=SOON_MS)
    lost = page.get_by_text("connection lost")
    expect(lost).to_be_hidden()
    board.kill()
    expect(lost).to_be_visible(timeout=SOON_MS)
    run = fill(redis, 100, range(2020, 2023))
    board.start()
    expect(lost).to_be_hidden(timeout=SOON_MS)
    expect(page.locator("#headline")).to_contain_text("of 800 units", timeout=SOON_MS)
    expect(page.get_by_role("table", name="Runs")).to_contain_text(run.id)
    assert page.evaluate("window.neverReloaded") is True


def test_who_only_looks_is_asked_to_log_in_and_may_decline(open_page: OpenPage, busy: Run) -> None:
    page = open_page(expecting=("401",))
    go(page, "Control")
    expect(page.get_by_text("You only look")).to_be_visible()
    page.get_by_role("button", name="Retry all that failed").click()
    confirm(page, "Retry all")
    dialog = page.get_by_role("dialog", name="Log in")
    dialog.get_by_label("Password").fill("wrong")
    dialog.get_by_role("button", name="Log in").click()
    expect(dialog.get_by_role("alert")).to_have_text("User or password is wrong.")
    dialog.get_by_role("button", name="Only look").click()
    expect(dialog).to_be_hidden()


def test_nothing_is_shown_before_a_login_where_others_can_reach_it(
    browser: Any, country: dict[str, str], busy: Run, tmp_path: Path
) -> None:
    with dashboard(country, tmp_path / "dashboard", MONITORING_HOST="0.0.0.0") as board:  # noqa: S104
        page = browser.new_page(base_url=board.url)
        page.goto("/")
        dialog = page.get_by_role("dialog", name="Log in")
        expect(dialog).to_be_visible(timeout=SOON_MS)
        page.keyboard.press("Escape")
        expect(dialog).to_be_visible()
        assert not page.locator("#headline").inner_text()
        dialog.get_by_label("Password").fill(PASSWORD)
        dialog.get_by_role("button", name="Log in").click()
        expect(page.locator("#headline")).to_contain_text("of 800 units", timeout=SOON_MS)
        page.get_by_role("button", name="Log out operator").click()
        expect(dialog).to_be_visible(timeout=SOON_MS)
        page.close()


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_shows_every_panel_without_scrolling_sideways(open_page: OpenPage, busy: Run, width: int) -> None:
    page = open_page(width, 844)
    expect(page.get_by_role("table", name="Runs")).to_be_visible()
    for panel in PANELS:
        page.goto(f"/#/{panel}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, panel
        shoot(page, f"phone-{panel.split('/')[0] or 'overview'}")
    last = page.get_by_role("navigation").get_by_role("link").last.bounding_box()
    assert last["x"] + last["width"] <= width


def test_light_and_dark_follow_the_system_until_one_is_chosen(open_page: OpenPage, busy: Run) -> None:
    page = open_page(color_scheme="dark")

    def is_dark() -> bool:
        return bool(page.evaluate("getComputedStyle(document.body).color.match(/\\d+/g)[0] > 128"))

    expect(page.get_by_role("table", name="Runs")).to_be_visible()
    assert is_dark()
    shoot(page, "dark")
    page.get_by_role("button", name="Theme: system").click()
    assert not is_dark()
    page.reload()
    expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
    assert not is_dark()
    page.get_by_role("button", name="Theme: light").click()
    page.emulate_media(color_scheme="light")
    assert is_dark()
    page.get_by_role("button", name="Theme: dark").click()
    assert not is_dark()

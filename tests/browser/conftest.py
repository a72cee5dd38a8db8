"""A real run in progress, a real dashboard, and a real browser that looks at it."""

import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from eo_tasks.sample import Sample, write_sample
from tests.dashboard import PASSWORD, Dashboard, dashboard
from tests.system import BEAT, CONTROL, CPU, GPU, System, system

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright (pip install playwright)")

CHECKPOINT = Path(__file__).parents[2] / "eo_tasks" / "sample" / "checkpoint"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SOON_MS = 60_000


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The sample area's scenes, grid and truth."""
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=list(QUIET))
        yield opened
        opened.close()


@pytest.fixture
def country(environment: dict[str, str], redis: Redis, sample: Sample, tmp_path: Path) -> dict[str, str]:
    """The environment of workers that map the sample area, from scenes of their own that may be damaged."""
    scenes = tmp_path / "scenes"
    shutil.copytree(sample.catalog.parent, scenes)
    return environment | {
        "GRID_FILE": str(sample.grid_file),
        "IMAGERY_SOURCE": "stac",
        "STAC_URL": str(scenes / sample.catalog.name),
        "BTC_MODEL_CHECKPOINT": str(CHECKPOINT),
        "LEASE_S": "3",
        "SWEEP_S": "2",
        "MAX_WORKERS": "1",
    }


@pytest.fixture
def workers(country: dict[str, str], tmp_path: Path) -> Iterator[System]:
    """A control worker, a CPU worker, a GPU-queue worker and a clock."""
    with system(country, tmp_path / "system") as running:
        for name, arguments in (("control", CONTROL), ("cpu", CPU), ("gpu", GPU), ("beat", BEAT)):
            running.start(name, arguments)
        yield running


@pytest.fixture
def board(country: dict[str, str], tmp_path: Path) -> Iterator[Dashboard]:
    """The dashboard."""
    with dashboard(country, tmp_path / "dashboard") as running:
        yield running


@pytest.fixture
def open_page(browser, board: Dashboard) -> Iterator[Callable[..., Any]]:
    """Open pages. Nothing may go wrong in them; of the network's answers, only what a test expects."""
    said: list[str] = []
    contexts, expected = [], set[str]()

    def open_one(width: int = 1440, height: int = 900, expecting: Collection[str] = (), **options):
        expected.update(expecting)
        context = browser.new_context(viewport={"width": width, "height": height}, base_url=board.url, **options)
        context.set_default_timeout(SOON_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto("/")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert [line for line in said if not any(part in line for part in expected)] == []


def link(page, panel: str):
    """The link to a panel."""
    return page.get_by_role("navigation").get_by_role("link", name=panel)


def go(page, panel: str) -> None:
    """Go to a panel."""
    link(page, panel).click()


def confirm(page, action: str) -> None:
    """Say yes to what is asked."""
    page.get_by_role("dialog").get_by_role("button", name=action).click()


def log_in(page) -> None:
    """Log in by the button at the top."""
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("dialog").get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out operator").wait_for()


def shoot(page, name: str) -> None:
    """Keep a picture of the page for people."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")

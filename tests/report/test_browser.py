"""The page of a run in a real browser: no error, nothing cut at the width of a phone, contrast, keyboard, and fast.

It needs Chromium; playwright drives it, and axe-core, which axe-playwright-python brings, checks contrast and names.
"""

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from r1exp.report.watch import HOST, Watch, handler_of
from r1exp.report.write import target_of, write_pages

pytestmark = pytest.mark.integration
playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def opened(browser: Any, address: str, **options: Any) -> tuple[Any, list[str]]:
    page = browser.new_context(bypass_csp=True, **options).new_page()
    errors: list[str] = []
    page.on(
        "console",
        lambda message: errors.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("html[data-complete]", state="attached")
    return page, errors


@pytest.fixture
def pages(tmp_path: Path, make_run: Any) -> dict[str, str]:
    """Return the addresses of the pages of a run, and of a sweep with long names and texts that look like markup."""
    nasty = "</script><img src=x onerror=document.title='broken'>"
    run = make_run(tmp_path / "run", text=nasty)
    for number in range(9):
        long = f"rewards.a_reward_with_a_long_name_{'and_more_' * 6}.weight={number // 2}"
        make_run(tmp_path / "sweep" / str(number), overrides=(long, f"seed={number % 2}"), won=5 + number)
    folders = {"run": run, "sweep": tmp_path / "sweep"}
    return {name: write_pages(target_of([folder]), draws=False).as_uri() for name, folder in folders.items()}


@pytest.mark.parametrize("name", ["run", "sweep"])
@pytest.mark.parametrize(
    ("width", "scheme"),
    [pytest.param(1280, "light"), pytest.param(1280, "dark"), pytest.param(400, "light", id="phone")],
)
def test_a_page_has_no_error_no_cut_text_and_enough_contrast(
    name: str, width: int, scheme: str, browser: Any, pages: dict[str, str]
) -> None:
    page, errors = opened(browser, pages[name], viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert errors == []
    assert "report" in page.title()  # no text of a model was run
    assert page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") < 1000  # ms
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    cut = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(each => !each.closest('.plot, .drawn, svg') && each.clientWidth"
        " && each.scrollWidth > each.clientWidth + 1).map(each => each.outerHTML.slice(0, 99))"
    )
    assert cut == []
    page.locator("#panels").scroll_into_view_if_needed()  # curves are drawn when they come into view
    page.wait_for_selector("#panels canvas")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa"]}).response
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


def test_completions_are_found_with_the_keyboard_alone(browser: Any, pages: dict[str, str]) -> None:
    page, _ = opened(browser, pages["run"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "texts-words":
            break
    page.keyboard.type("onerror=document.title='broken'> 3")
    assert page.inner_text("#texts-count") == "1 completions; 1 are shown."
    assert "</script><img src=x" in page.inner_text("#texts-list")


def test_a_watched_page_follows_its_run(tmp_path: Path, browser: Any, make_run: Any) -> None:
    run = make_run(tmp_path / "run", num_steps=2)
    server = ThreadingHTTPServer((HOST, 0), handler_of(Watch(run, lambda folder: {})))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://{HOST}:{server.server_address[1]}/"
    page, errors = opened(browser, address)
    label = page.get_attribute("#panels .plot >> nth=0", "aria-label")
    with (run / "steps/02-rl/metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "reward": 9.0, "eval/arithmetic/greedy/accuracy": 0.75}) + "\n")
    page.wait_for_function("old => document.querySelector('#panels .plot')?.ariaLabel !== old", arg=label)
    assert "0.75 at step 7" in page.get_attribute("#panels .plot >> nth=0", "aria-label")
    assert errors == []
    with urllib.request.urlopen(address + "signature") as answer:
        assert answer.status == 200
    server.shutdown()
    server.server_close()

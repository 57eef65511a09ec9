"""The pages of the API's documentation in a real browser, on a machine without a network.

Chromium resolves every name but the server's to nothing, and its log of the network is read: a page
that asks anybody else, or logs an error, or breaks its own policy, fails.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.servers import Server, running_server

CONFIG = "[store]\nreserve_bytes = 0\nreserve_share = 0.0\n"
PATIENCE_SECONDS = 60

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(
        (BROWSER is None or DRIVER is None) and os.environ.get("DIGESTRY_TESTS_COMPLETE") != "1",
        reason="chromium or chromedriver is not installed (Debian: chromium, chromium-driver)",
    ),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("browser") / "data", config=CONFIG) as server:
        yield server


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with running_browser(tmp_path, "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as driver:
        yield driver


@contextmanager
def running_browser(tmp_path: Path, rules: str) -> Iterator[webdriver.Chrome]:
    """Chromium, for which names lead where the rules say."""
    assert BROWSER is not None, "install chromium"
    assert DRIVER is not None, "install chromium-driver"
    options = Options()
    options.binary_location = BROWSER
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests run as root in containers
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--host-resolver-rules={rules}",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1400,1000",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.get("about:blank")
        requested(driver)  # what the browser's own first page asked for
        yield driver
    finally:
        driver.quit()


def log_of(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """What was logged since the last time."""
    found: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]  # theirs
    return found


def requested(browser: webdriver.Chrome) -> list[str]:
    """Every address that the page asked for, answered or not."""
    found = []
    for entry in log_of(browser, "performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return found


def complaints(browser: webdriver.Chrome) -> list[str]:
    """Errors and warnings of the console, broken policies among them."""
    return [
        entry["message"]
        for entry in log_of(browser, "browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]


def wait_for(browser: webdriver.Chrome, script: str) -> Any:
    """Wait until a script returns something that is true."""
    return WebDriverWait(browser, PATIENCE_SECONDS).until(
        lambda driver: driver.execute_script(f"return {script}")
    )


def listen_for_violations(browser: webdriver.Chrome) -> None:
    browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {
            "source": "window.violations = [];"
            "document.addEventListener('securitypolicyviolation', (event) => "
            "window.violations.push(event.violatedDirective + ' ' + event.blockedURI));"
        },
    )


def operations(server: Server) -> list[tuple[str, str]]:
    status, body = server.get("/openapi.json")
    assert status == 200
    return [
        (method.upper(), operation["summary"])
        for methods in json.loads(body)["paths"].values()
        for method, operation in methods.items()
    ]


def assert_stayed_at_home(browser: webdriver.Chrome, server: Server) -> None:
    addresses = requested(browser)
    strangers = [
        address
        for address in addresses
        if not address.startswith((f"{server.url}/", "data:", "blob:"))
    ]

    assert any(address == f"{server.url}/openapi.json" for address in addresses)
    assert strangers == []
    assert browser.execute_script("return window.violations") == []
    assert complaints(browser) == []


def test_swagger_ui_shows_every_operation(browser: webdriver.Chrome, server: Server) -> None:
    expected = operations(server)
    listen_for_violations(browser)

    browser.get(f"{server.url}/docs")
    wait_for(browser, "document.querySelector('.opblock')")

    assert sorted(scrolled_past(browser)) == sorted(expected)
    assert_stayed_at_home(browser, server)


def scrolled_past(browser: webdriver.Chrome) -> list[tuple[str, str]]:
    """Method and summary of every block: of many, Swagger UI keeps those in sight alone."""
    seen: dict[tuple[str, str], str] = {}
    is_over = False
    while not is_over:
        is_over, blocks = browser.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "const over = scrollY + innerHeight >= document.body.scrollHeight - 1;"
            "const told = [...document.querySelectorAll('.opblock')].map((block) => ["
            "block.querySelector('.opblock-summary-method').textContent,"
            "block.querySelector('[data-path]').dataset.path,"
            "block.querySelector('.opblock-summary-description').textContent]);"
            "scrollBy(0, innerHeight / 2);"
            "requestAnimationFrame(() => setTimeout(() => done([over, told]), 50));"
        )
        seen.update({(method, path): summary for method, path, summary in blocks})
    return [(method, summary) for (method, _), summary in seen.items()]


def test_swagger_ui_sends_a_request(browser: webdriver.Chrome, server: Server) -> None:
    listen_for_violations(browser)
    browser.get(f"{server.url}/docs#/server/server.get-healthz.get")
    wait_for(browser, "document.querySelector('.opblock.is-open .try-out__btn')")
    browser.find_element(By.CSS_SELECTOR, ".opblock.is-open .try-out__btn").click()
    wait_for(browser, "document.querySelector('.opblock.is-open .execute')")
    browser.find_element(By.CSS_SELECTOR, ".opblock.is-open .execute").click()
    wait_for(browser, "document.querySelector('.opblock.is-open .live-responses-table')")

    shown = browser.find_element(By.CSS_SELECTOR, ".opblock.is-open .live-responses-table").text

    assert '"status": "ok"' in shown
    assert_stayed_at_home(browser, server)


def test_redoc_shows_every_operation(browser: webdriver.Chrome, server: Server) -> None:
    expected = operations(server)
    listen_for_violations(browser)

    browser.get(f"{server.url}/redoc")
    wait_for(browser, "document.querySelector('.menu-item-type-group')")
    browser.execute_script(
        "document.querySelectorAll('.menu-item-type-group [data-testid=menu-item-label]')"
        ".forEach((group) => group.click())"
    )
    items = "document.querySelectorAll('.menu-item-type-operation')"
    wait_for(browser, f"{items}.length >= {len(expected)}")
    shown = browser.execute_script(f"return [...{items}].map((item) => item.textContent)")

    assert sorted(shown) == sorted(summary + method.lower() for method, summary in expected)
    assert_stayed_at_home(browser, server)


def test_the_policy_is_what_keeps_pages_at_home(browser: webdriver.Chrome, server: Server) -> None:
    """The test above would see a violation: one is made on purpose."""
    listen_for_violations(browser)
    browser.get(f"{server.url}/docs")
    wait_for(browser, "document.querySelector('.opblock')")

    browser.execute_script(
        "const image = new Image(); image.src = 'https://cdn.example.org/logo.svg';"
        "document.body.append(image);"
        "const style = document.createElement('style'); style.textContent = 'p { color: red }';"
        "document.head.append(style);"
    )
    found = wait_for(browser, "window.violations.length >= 2 && window.violations")

    assert sorted(found) == [
        "img-src https://cdn.example.org/logo.svg",
        "style-src-elem inline",
    ]

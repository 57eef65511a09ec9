"""Signing in through a real provider of identities with a real browser, to where that began."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from selenium.webdriver.common.by import By

from registry.config import Config, OidcConfig, OutboundConfig, ServerConfig
from tests.compat.test_browser import pytestmark as needs_a_browser
from tests.compat.test_browser import running_browser, wait_for
from tests.registry.accounts.conftest import CHEAP
from tests.support.identity_provider import HOST, IdentityProvider, running_provider
from tests.support.serving import opened, serving

pytestmark = [*needs_a_browser, pytest.mark.filterwarnings("ignore:get_jwt_config")]


async def test_a_browser_signs_in_and_is_where_it_began(tmp_path: Path) -> None:
    """Its pages may then ask with the cookies, which only the server reads, and the CSRF word."""
    with running_provider() as provider:
        provider.has("4711", preferred_username="ada")
        async with (
            opened(None) as store,
            serving(store, config_for(provider, tmp_path)) as site,
        ):
            port = site.url.rpartition(":")[2]
            seen = await asyncio.to_thread(sign_in, tmp_path, port)

    assert seen["url"] == f"http://{HOST}/api/v1/me?"
    me = msgspec.json.decode(seen["text"])
    assert (me["username"], me["came_by"]) == ("ada", "session")
    assert seen["cookies"] == "digestry_csrf digestry_session"
    assert seen["readable"] == "digestry_csrf"
    assert seen["made"] == "403 201"


def config_for(provider: IdentityProvider, tmp_path: Path) -> Config:
    secret = tmp_path / "secret"
    secret.write_text(f"{provider.client_secret}\n")
    oidc = OidcConfig(
        issuer=provider.issuer, client_id=provider.client_id, client_secret_file=str(secret)
    )
    return Config(
        auth=CHEAP,
        oidc=oidc,
        outbound=OutboundConfig(allow_private=("127.0.0.0/8", "::1/128")),
        server=ServerConfig(allowed_hosts=(HOST,)),
    )


def sign_in(tmp_path: Path, port: str) -> dict[str, str]:
    """Go there, say who one is, come back; what the browser then shows, keeps and may do."""
    rules = f"MAP {HOST} 127.0.0.1:{port}, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
    with running_browser(tmp_path, rules) as browser:
        browser.get(f"http://{HOST}/api/v1/login/oidc?to=/api/v1/me?")
        browser.find_element(By.NAME, "sub").send_keys("4711")
        browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        there = f"location.host === '{HOST}' && document.readyState === 'complete'"
        wait_for(browser, there)  # a click may return before the browser has left
        readable = browser.execute_script("return document.cookie")
        return {
            "url": browser.current_url,
            "text": browser.find_element(By.TAG_NAME, "body").text,
            "cookies": " ".join(sorted(one["name"] for one in browser.get_cookies())),
            "readable": str(readable).partition("=")[0],
            "made": str(browser.execute_async_script(MAKE)),
        }


MAKE = """
const done = arguments[arguments.length - 1];
const word = document.cookie.split("=")[1];
const make = async (headers) => (await fetch("/api/v1/models", {
  method: "POST",
  headers: {"Content-Type": "application/json", ...headers},
  body: JSON.stringify({name: "ada/one"}),
})).status;
make({}).then(async (first) => done(`${first} ${await make({"X-CSRF-Token": word})}`));
"""

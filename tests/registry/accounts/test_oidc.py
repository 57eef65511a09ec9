"""Signing in through a real provider of identities, and all that must not let anybody in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from registry.auth.id_tokens import IdTokenRefused, KeyUnknown, verify
from registry.config import Config, ConfigError, OidcConfig, OutboundConfig, ServerConfig, load
from registry.domain.calls import Call, Reply
from registry.errors import Unauthenticated
from registry.services.oidc import username_of
from registry.services.provider import Provider, ProviderSettings
from store.clock import SECOND, system_clock
from store.errors import Unavailable
from tests.registry.accounts.conftest import CHEAP, People
from tests.support.builders import Answer
from tests.support.clock import ManualClock
from tests.support.identity_provider import (
    HOST,
    WAY_BACK,
    Browser,
    IdentityProvider,
    query_of,
    running_provider,
)
from tests.support.people import make_person
from tests.support.serving import opened, serving

pytestmark = pytest.mark.filterwarnings("ignore:get_jwt_config")  # Authlib's, in the provider


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as running:
        running.has("4711", preferred_username="ada")
        yield running


@pytest.fixture
def chosen() -> dict[str, Any]:
    """Settings of one test."""
    return {}


@pytest.fixture
async def people(
    provider: IdentityProvider, chosen: dict[str, Any], tmp_path: Path
) -> AsyncIterator[People]:
    """A registry that sends people to the provider; the two agree about the time."""
    secret = tmp_path / "secret"
    secret.write_text(f"{provider.client_secret}\n")
    oidc = {
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_secret_file": str(secret),
        **chosen,
    }
    config = Config(
        auth=CHEAP,
        oidc=OidcConfig(**oidc),
        outbound=OutboundConfig(allow_private=("127.0.0.0/8", "::1/128")),
        server=ServerConfig(allowed_hosts=(HOST,)),
    )
    clock = ManualClock(system_clock())
    async with opened(None, clock=clock) as store, serving(store, config) as site:
        running = People(site)
        running.clock = clock
        yield running


@pytest.fixture
async def browser(people: People) -> AsyncIterator[Browser]:
    async with Browser(people.url) as browser:
        yield browser


def refused(answer: Answer) -> str:
    assert (answer.status, answer.code) == (401, "oidc_refused"), answer.body
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer"), "or the browser would ask for a password"
    return str(answer.json["detail"])


async def users(people: People) -> list[Any]:
    return await people.rows(
        "SELECT username, email, subject, is_admin, created_by FROM users ORDER BY username"
    )


async def test_somebody_is_sent_there_and_let_in(
    people: People, browser: Browser, provider: IdentityProvider
) -> None:
    provider.has("4711", preferred_username="Ada", email="ada@example.org", email_verified=True)

    answer = await browser.sign_in("4711")

    assert answer.status == 200, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.json["username"], answer.json["session"]["method"]) == ("Ada", "oidc")
    me = (await people.ask(answer.json["access_token"], "GET", "me")).json
    assert (me["username"], me["came_by"], me["is_admin"]) == ("Ada", "session", False)
    assert await users(people) == [("Ada", "ada@example.org", "4711", 0, "usr_oidc")]
    provider.has("4711", preferred_username="renamed", email="other@example.org")
    again = await browser.sign_in("4711")
    assert again.json["username"] == "Ada", "who they are is issuer and subject"
    assert await people.count("users") == 1
    kinds = [entry for entry in await people.entries() if entry[0] in ("user", "session")]
    assert kinds == [("user", "create"), ("session", "create"), ("session", "create")]


PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""What a browser accepts that goes to an address."""


async def test_a_browser_keeps_the_login_and_is_sent_to_where_it_began(
    people: People, browser: Browser, provider: IdentityProvider
) -> None:
    provider.has("4715", preferred_username="eve")
    begun = "/api/v1/models?text=a%2Fb&after=c#d"
    back = await browser.be("4715", await browser.leave(f"?to={quote(begun, safe='')}"))

    answer = await browser.get(back, Accept=PAGE)

    assert (answer.status, answer.headers["Location"]) == (303, begun)
    assert answer.headers["Cache-Control"] == "no-store"
    assert not answer.body
    headers: Any = answer.headers
    cookies: Any = SimpleCookie("; ".join(headers.getall("Set-Cookie")))
    assert cookies["digestry_session"]["httponly"]
    assert not cookies["digestry_csrf"]["httponly"]
    assert cookies["digestry_oidc"].value == "", "what it was sent with is gone"
    me = await browser.get("/api/v1/me")
    assert (me.json["username"], me.json["came_by"]) == ("eve", "session")
    word = cookies["digestry_csrf"].value
    wish = {"name": "eve/one"}
    for headers, status in (({}, 403), ({"X-CSRF-Token": word}, 201)):
        async with browser.session.post(
            f"{people.url}/api/v1/models", json=wish, headers={"Host": HOST, **headers}
        ) as made:
            assert made.status == status


async def test_without_a_word_about_it_a_browser_is_sent_to_the_beginning(
    browser: Browser,
) -> None:
    back = await browser.be("4711", await browser.leave())
    assert (await browser.get(back, Accept=PAGE)).headers["Location"] == "/"


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/html;q=0.5"])
async def test_who_asks_for_json_gets_it_and_no_cookie(browser: Browser, accept: str) -> None:
    answer = await browser.get(await browser.be("4711", await browser.leave()), Accept=accept)

    assert (answer.status, answer.json["session"]["method"]) == (200, "oidc")
    assert "digestry_session" not in str(answer.headers)


ELSEWHERE = (
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example/",
    "/\t/evil.example",
    "\t//evil.example",
    "/models\r\nLocation: //evil.example",
    "javascript:alert(1)",
    "evil.example",
    "",
    "/ /evil.example",
    "/models/ä",
    "/a\\b",
    "/a\n",
    "/" + 1024 * "a",
)


async def test_nobody_is_led_to_somewhere_else(browser: Browser) -> None:
    for number, to in enumerate(ELSEWHERE):
        answer = await browser.get(f"/api/v1/login/oidc?to={quote(to, safe='')}")
        assert (answer.status, answer.code) == (400, "invalid"), number
        assert "Location" not in answer.headers
    for to in ("/", "/models//x", "/@x", "/?next=https://x.example/", "/a#b"):
        answer = await browser.get(f"/api/v1/login/oidc?to={quote(to, safe='')}")
        assert answer.status == 303, to


async def test_what_is_sent_along(browser: Browser, provider: IdentityProvider) -> None:
    answer = await browser.get("/api/v1/login/oidc")
    query = query_of(answer.headers["Location"])

    assert answer.headers["Location"].startswith(f"{provider.issuer}/oauth2/authorize?")
    assert answer.headers["Cache-Control"] == "no-store"
    assert (query["redirect_uri"], query["response_type"]) == (WAY_BACK, "code")
    assert (query["scope"], query["code_challenge_method"]) == ("openid profile email", "S256")
    secrets = {query["state"], query["nonce"], query["code_challenge"]}
    assert len(secrets) == 3
    assert all(len(one) == 43 for one in secrets)
    assert query_of(await browser.leave())["state"] not in secrets
    cookie: Any = SimpleCookie(answer.headers["Set-Cookie"])["digestry_oidc"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["max-age"]) == (
        True,
        "Lax",
        "/api/v1/login/oidc",
        "600",
    )
    assert not cookie["secure"], "there is no TLS"
    for one in secrets:
        assert one not in cookie.value


async def test_nobody_comes_back_from_another_journey(
    people: People, browser: Browser, provider: IdentityProvider
) -> None:
    """Or somebody could be lured into the account of whoever lures them."""
    back = await browser.be("4711", await browser.leave())

    async with Browser(people.url) as other:
        assert "never sent" in refused(await other.get(back))
        await other.leave()
        assert "another journey" in refused(await other.get(back))
    for change in (("state=", "state=x"), ("state=", "other=")):
        assert "another journey" in refused(await browser.get(back.replace(*change)))
    assert "another provider" in refused(await browser.get(f"{back}&iss=https://evil.example"))
    assert (await browser.get(f"{back}&iss={provider.issuer}&session_state=x")).status == 200
    refused(await browser.get(back))
    assert await people.count("sessions") == 1


async def test_a_ticket_of_another_kind_is_no_cookie(people: People, browser: Browser) -> None:
    back = await browser.be("4711", await browser.leave())
    found = (await browser.get(back)).json
    for ticket in (found["access_token"], found["refresh_token"], "a.b.c", ""):
        browser.session.cookie_jar.clear()
        browser.session.cookie_jar.update_cookies({"digestry_oidc": ticket})
        assert "never sent" in refused(await browser.get(back))


async def test_a_journey_takes_ten_minutes_at_most(people: People, browser: Browser) -> None:
    back = await browser.be("4711", await browser.leave())
    people.clock.advance(600)
    assert "too long" in refused(await browser.get(back))


async def test_a_code_of_somebody_else_lets_nobody_in(people: People, browser: Browser) -> None:
    """PKCE: the provider gives nothing for a code without the verifier of its journey."""
    async with Browser(people.url) as thief:
        stolen = query_of(await browser.be("4711", await browser.leave()))["code"]
        own = await thief.be("666", await thief.leave())
        forged = own.replace(query_of(own)["code"], stolen)
        assert "does not know that code" in refused(await thief.get(forged))
    assert await people.count("sessions") == 0


async def test_who_says_no_is_not_let_in(browser: Browser) -> None:
    back = await browser.be("4711", await browser.leave(), action="deny")
    state = query_of(await browser.leave())["state"]
    assert "another journey" in refused(await browser.get(back))
    answer = await browser.get(f"{WAY_BACK}?error=access_denied&state={state}")
    assert "it said access_denied" in refused(answer)
    answer = await browser.get(f"{WAY_BACK}?error=%3Cb%3E&state={state}")
    assert "it said no" in refused(answer)


async def test_a_wrong_client_secret_lets_nobody_in(
    browser: Browser, tmp_path: Path, people: People
) -> None:
    (tmp_path / "secret").write_text("wrong")
    assert "does not know that code, or us" in refused(await browser.sign_in("4711"))
    (tmp_path / "secret").unlink()
    assert (await browser.sign_in("4711")).status == 503


async def test_a_name_that_is_taken_is_not_given_away(
    people: People, browser: Browser, provider: IdentityProvider
) -> None:
    """Whoever is called so at the provider need not be who is called so here."""
    ada = await people.make("ada")
    provider.has("4712", preferred_username="ADA", email="ada@example.org")
    assert "somebody else's" in refused(await browser.sign_in("4712"))

    root = await people.make("root", is_admin=True)
    link = {"issuer": provider.issuer, "subject": "4712"}
    assert (await people.ask(root, "PATCH", "users/ada", link)).status == 200

    answer = await browser.sign_in("4712")
    assert answer.json["session"]["user"] == ada.id


@pytest.mark.parametrize("spoil", [{"active": False}, None])
async def test_who_may_not_act_is_not_let_in(
    people: People, browser: Browser, provider: IdentityProvider, spoil: Any
) -> None:
    """A deleted user does not come back as a new one."""
    provider.has("4713", preferred_username="eve")
    await browser.sign_in("4713")
    root = await people.make("root", is_admin=True)
    method = "DELETE" if spoil is None else "PATCH"
    await people.ask(root, method, "users/eve", spoil)

    assert "no access" in refused(await browser.sign_in("4713"))
    assert await people.count("users") == 2


@pytest.mark.parametrize("chosen", [{"create_users": False}])
async def test_nobody_is_made_a_user_where_that_is_not_wanted(
    people: People, browser: Browser
) -> None:
    assert "nobody made you a user" in refused(await browser.sign_in("4711"))
    assert await people.count("users") == 0


@pytest.mark.parametrize("chosen", [{"admin_claim": "groups", "admin_value": "it"}])
async def test_a_claim_decides_who_administers(
    people: People, browser: Browser, provider: IdentityProvider
) -> None:
    provider.has("1", preferred_username="one", groups=["it", "hr"])
    provider.has("2", preferred_username="two", groups="hr it")
    provider.has("3", preferred_username="three", groups=["item"])
    for subject in "123":
        assert (await browser.sign_in(subject)).status == 200
    assert {row[0]: row[3] for row in await users(people)} == {"one": 1, "two": 1, "three": 0}

    provider.has("1", preferred_username="one", groups=["hr"])
    provider.has("2", preferred_username="two")
    for subject in "12":
        assert (await browser.sign_in(subject)).status == 200

    assert {row[0]: row[3] for row in await users(people)} == {"one": 0, "two": 1, "three": 0}


@pytest.mark.parametrize("chosen", [{"team_claim": "groups", "team_role": "reader"}])
async def test_a_claim_decides_about_teams_and_leaves_what_people_decided(
    people: People, browser: Browser, provider: IdentityProvider
) -> None:
    root = await make_person(people.store, "root", is_admin=True)
    for team in ("vision", "speech", "nlp", "by-hand"):
        await people.ask(root, "POST", "teams", {"name": team})
    provider.has("4714", preferred_username="zoe", groups=["Vision", "nlp", "unknown"])
    await browser.sign_in("4714")
    for team in ("speech", "by-hand"):
        await people.ask(root, "PUT", f"teams/{team}/members/zoe", {"role": "admin"})

    provider.has("4714", preferred_username="zoe", groups=["nlp", "speech"])
    ticket = (await browser.sign_in("4714")).json["access_token"]

    teams = (await people.ask(ticket, "GET", "me")).json["teams"]
    assert {team["name"]: team["role"] for team in teams} == {
        "nlp": "reader",
        "speech": "admin",
        "by-hand": "admin",
    }


async def test_the_way_is_closed_where_no_provider_is_configured() -> None:
    async with opened(None) as store, serving(store, Config(auth=CHEAP)) as site:
        running = People(site)
        for path in ("login/oidc", "login/oidc/callback?code=x"):
            assert (await running.ask(None, "GET", path)).code == "route_not_found"


@pytest.mark.parametrize("chosen", [{"issuer": "http://localhost:9"}])
async def test_a_provider_that_is_not_there_is_503(browser: Browser) -> None:
    answer = await browser.get("/api/v1/login/oidc")
    assert (answer.status, answer.code) == (503, "unavailable")
    assert "Retry-After" in answer.headers


async def test_secrets_of_a_journey_are_in_no_log(
    people: People,
    browser: Browser,
    provider: IdentityProvider,
    capfd: pytest.CaptureFixture[str],
) -> None:
    away = await browser.leave()
    back = await browser.be("4711", away)
    capfd.readouterr()  # the provider is in this process and logs what it likes
    found = await browser.get(back)
    assert found.status == 200
    refused(await browser.get(back))

    out, err = capfd.readouterr()
    lines = [line for line in (out + err).splitlines() if '"GET /' not in line]
    told = "\n".join(line for line in lines if '"POST /' not in line)
    for secret in (
        provider.client_secret,
        query_of(back)["code"],
        query_of(away)["state"],
        query_of(away)["nonce"],
        found.json["access_token"],
    ):
        assert secret not in told
        for table in ("users", "sessions", "audit", "tokens"):
            assert secret not in repr(await people.rows(f"SELECT * FROM {table}"))


def test_names_from_the_provider_become_names_here() -> None:
    for claim, name in (
        ("ada", "ada"),
        ("ada@example.org", "ada"),
        ("Ada Lovelace", "Ada-Lovelace"),
        ("a/b:c#d", "a-b-c-d"),
        ("zo\u00eb", "zo\u00eb"),
    ):
        assert username_of(claim) == name
    for bad in (None, "", 7, "@example.org", "models", "usr_x", "local"):
        with pytest.raises(Unauthenticated):
            username_of(bad)


# ID tokens

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
NOW = 1_800_000_000
CLAIMS = {
    "iss": "https://id.example.org",
    "aud": "digestry",
    "sub": "4711",
    "exp": NOW + 300,
    "iat": NOW,
    "nonce": "once",
}


def jwk_of(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind: Any = jwt.algorithms.RSAAlgorithm if key is RSA else jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, **more}


KEYS = [jwk_of(RSA, "rsa"), jwk_of(EC, "ec"), jwk_of(RSA, "enc", use="enc")]


def signed(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    said = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    headers = None if kid is None else {"kid": kid}
    return jwt.encode(said, key, algorithm=algorithm, headers=headers)


def verified(token: str, keys: list[dict[str, Any]] = KEYS) -> Any:
    return verify(
        token,
        keys,
        issuer="https://id.example.org",
        client_id="digestry",
        nonce="once",
        now_seconds=NOW,
    )


def test_an_id_token_is_believed() -> None:
    assert verified(signed())["sub"] == "4711"
    assert verified(signed(EC, "ES256", "ec"))["sub"] == "4711"
    assert verified(signed(kid=None), [jwk_of(RSA, "only")])["sub"] == "4711"
    assert verified(signed(algorithm="PS256"))["sub"] == "4711"
    assert verified(signed(aud=["digestry", "other"], azp="digestry"))["sub"] == "4711"
    assert verified(signed(exp=NOW - 59, iat=NOW + 59))["sub"] == "4711"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"aud": ["digestry", "other"]},
        {"azp": "other"},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"exp": NOW - 60},
        {"exp": None},
        {"iat": NOW + 61},
        {"iat": None},
        {"nbf": NOW + 61},
        {"nonce": "twice"},
        {"nonce": None},
    ],
)
def test_an_id_token_that_says_something_else_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(IdTokenRefused):
        verified(signed(**claims))


def test_an_id_token_is_verified_by_a_public_key_alone() -> None:
    """Not by one that everybody has, taken for a secret, and not by none."""
    unsigned = jwt.encode(CLAIMS, "", algorithm="none", headers={"kid": "rsa"})
    shared = jwt.encode(CLAIMS, KEYS[0]["n"], algorithm="HS256", headers={"kid": "rsa"})
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    octets = {"kty": "oct", "kid": "rsa", "k": "c2VjcmV0"}
    for token, keys in (
        (unsigned, KEYS),
        (shared, KEYS),
        (shared, [octets]),
        (signed(other), KEYS),
        (signed()[:-4] + "AAAA", KEYS),
        ("a.b.c", KEYS),
        ("", KEYS),
        ("x" * 70_000, KEYS),
    ):
        with pytest.raises(IdTokenRefused):
            verified(token, keys)


def test_the_key_is_the_one_that_is_named() -> None:
    for token, keys in (
        (signed(kid="new"), KEYS),
        (signed(kid="ec"), KEYS),
        (signed(kid="enc"), KEYS),
        (signed(kid=None), [jwk_of(RSA, "a"), jwk_of(RSA, "b")]),
        (signed(), [jwk_of(RSA, "rsa", alg="RS512")]),
        (signed(), []),
    ):
        with pytest.raises(KeyUnknown):
            verified(token, keys)


# What the provider says of itself


class Answers:
    """A provider that answers as a test wants, and what it was asked."""

    def __init__(self, **documents: Any) -> None:
        self.documents = documents
        self.asked: list[str] = []

    async def send(self, call: Call) -> Reply:
        name = call.target.path.rpartition("/")[2].replace("-", "_")
        self.asked.append(name)
        body = msgspec.json.encode(self.documents.get(name, {}))
        return Reply(status=200, headers={}, body=body, is_truncated=False)


ISSUER = "https://id.example.org"
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}


def provider_of(answers: Answers, clock: ManualClock) -> Provider:
    settings = ProviderSettings(
        issuer=ISSUER, client_id="digestry", client_secret_file="", scopes=("openid",)
    )
    return Provider(settings, answers.send, clock)


def way(provider: Provider) -> Any:
    return provider.address(redirect_uri="x", state="x", nonce="x", challenge="x")


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://id.example.org/token"},
        {"jwks_uri": "http://id.example.org/jwks"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"token_endpoint": None},
    ],
)
async def test_a_provider_must_be_who_was_asked_and_as_safe(change: dict[str, Any]) -> None:
    answers = Answers(openid_configuration={**METADATA, **change})

    with pytest.raises(Unavailable):
        await way(provider_of(answers, ManualClock()))


async def test_what_a_provider_says_is_kept_for_an_hour_and_keys_are_asked_for_again() -> None:
    clock = ManualClock(NOW * SECOND)
    answers = Answers(
        openid_configuration=METADATA,
        jwks={"keys": []},
        token={"id_token": signed(nonce="once")},
    )
    provider = provider_of(answers, clock)

    async def claims() -> Any:
        return await provider.claims("code", redirect_uri="x", verifier="x", nonce="once")

    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await claims()
    clock.advance(30)
    with pytest.raises(Unauthenticated):
        await claims()
    assert answers.asked == ["openid_configuration", "token", "jwks", "token", "token"]
    answers.documents["jwks"] = {"keys": KEYS}
    clock.advance(31)
    answers.asked.clear()
    assert (await claims())["sub"] == "4711"
    assert answers.asked == ["token", "jwks"]
    clock.advance(3601)
    answers.asked.clear()
    answers.documents["token"] = {"id_token": signed(exp=NOW + 9999)}
    assert (await claims())["sub"] == "4711"
    assert answers.asked == ["openid_configuration", "token", "jwks"]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ('issuer = "http://id.example.org"\nclient_id = "x"', "https://"),
        ('issuer = "id.example.org"\nclient_id = "x"', "https://"),
        ('issuer = "https://id.example.org"', "oidc.client_id"),
        ('issuer = "https://x"\nclient_id = "x"\nscopes = ["email"]', "openid"),
        ('issuer = "https://x"\nclient_id = "x"\nadmin_claim = "groups"', "admin_value"),
    ],
)
def test_settings_that_cannot_work_are_refused(section: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[oidc]\n{section}\n")

    with pytest.raises(ConfigError, match=sentence):
        load(file, {})


def test_a_provider_on_this_machine_may_do_without_tls(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[oidc]\nissuer = "http://localhost:8081"\nclient_id = "x"\n')
    assert load(file, {}).oidc.issuer == "http://localhost:8081"

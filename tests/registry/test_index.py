"""The pages at ``/``: what they list, where they lead, and what hostile names cannot do to them."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from registry.api.index import POLICY
from tests.support.builders import Registry
from tests.support.people import AUTHENTICATED, make_person
from tests.support.serving import opened, serving

HOSTILE = "<script>alert('x')</script>&amp;\"'`$(touch owned);|"
"""Every character that a name may have and that HTML or a shell would take for something else."""


class Page(HTMLParser):
    """Text, links, elements and lines to copy of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.links: dict[str, str] = {}
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.copied: list[str] = []
        self._link: str | None = None
        self._is_copied = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "a":
            self._link = dict(attrs)["href"]
        if tag == "pre":
            self._is_copied = True
            self.copied.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._link = None
        if tag == "pre":
            self._is_copied = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._link is not None:
            self.links[data] = self._link
        if self._is_copied:
            self.copied[-1] += data


async def page_at(registry: Registry, path: str) -> Page:
    answer = await registry.get(path)

    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == POLICY
    return Page(answer.body.decode())


async def test_an_empty_registry_says_how_to_begin(registry: Registry) -> None:
    page = await page_at(registry, "/")

    assert "There are no models yet." in page.text
    assert f"digestry push --server {registry.url} my-model:1.0.0 directory/" in page.copied


async def test_where_somebody_asks_who_you_are_the_page_says_how_to_say_it() -> None:
    async with opened(None) as store, serving(store, AUTHENTICATED) as site:
        anna = await make_person(store, "anna")
        answers = [await site.ask("GET", "/", headers=one) for one in ({}, anna.headers)]
    async with opened(None) as store, serving(store) as site:
        unasked = Page((await site.ask("GET", "/")).body.decode())

    for answer in answers:
        lines = Page(answer.body.decode()).copied
        assert any(line.startswith("digestry login http://127.0.0.1:") for line in lines)
        assert answer.headers["Vary"] == "Host, Authorization, Cookie"
        assert answer.headers["Cache-Control"] == "private, no-cache"
    assert not any("login" in line for line in unasked.copied)


async def test_models_lead_to_versions_and_versions_to_files(registry: Registry) -> None:
    await registry.publish("nlp~bert", "1.0.0", {"config.json": b"{}", "sub/model": b"x" * 5000})
    await registry.publish("nlp~bert", "1.1.0", {"config.json": b"[]"})

    home = await page_at(registry, "/")
    model = await page_at(registry, home.links["nlp/bert"])
    assert list(model.links) == ["Digestry", "1.1.0", "1.0.0"]
    version = await page_at(registry, model.links["1.0.0"])
    assert {"config.json", "sub/model"} <= set(version.links)
    assert "4.9 KiB" in version.text
    assert (await registry.get(version.links["sub/model"])).body == b"x" * 5000
    assert version.links["nlp/bert"] == home.links["nlp/bert"]


async def test_lines_to_copy_do_what_they_say(registry: Registry, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    files = {"config.json": b"{}", "sub/a%20b": b"x" * 5000}
    await registry.publish("bert", "1.0.0", files)
    lines = (await page_at(registry, "/?model=bert&version=1.0.0")).copied

    assert lines[0] == f"digestry pull --server {registry.url} bert:1.0.0"
    for line in lines[1:]:
        done = await asyncio.to_thread(
            subprocess.run, line, shell=True, cwd=tmp_path, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done
    assert (tmp_path / "sub" / "a b").read_bytes() == b"x" * 5000


async def test_hostile_names_are_text(registry: Registry) -> None:
    name, path = quote(HOSTILE.replace("/", "")), quote(HOSTILE)
    await registry.publish(name, "1.0.0", {path: b"x"})
    home = await page_at(registry, "/")
    shown = HOSTILE.replace("/", "")
    model = await page_at(registry, home.links[shown])
    version = await page_at(registry, model.links["1.0.0"])

    for page in (home, model, version):
        assert shown in page.text
        assert "script" not in page.elements
        assert not {each for each in page.attributes if each.startswith("on")}
    assert (await registry.get(version.links[HOSTILE])).body == b"x"
    for line in (*model.copied, *version.copied):
        words = shlex.split(line)
        assert "touch" not in words
        assert not any("$(" in word and shlex.quote(word) not in line for word in words[:4])
    assert shlex.split(version.copied[0])[-1] == f"{shown}:1.0.0"


async def test_a_name_that_looks_like_a_flag_is_none(registry: Registry) -> None:
    await registry.publish("--to", "1.0.0", {"f": b"x"})

    page = await page_at(registry, "/?model=--to")
    assert page.copied[0].endswith(" -- --to:1.0.0")


async def test_long_lists_are_turned_page_by_page(registry: Registry) -> None:
    for number in range(7):
        await registry.publish("many", f"1.{number}.0", {"f": b"%d" % number})
        await registry.publish(f"model-{number}", "1.0", {f"{n}": b"x" for n in range(5)})

    assert await all_links(registry, "/?limit=3&order=name", "model-") == [
        f"model-{number}" for number in range(7)
    ]
    assert await all_links(registry, "/?limit=3", "model-") == [
        f"model-{number}" for number in reversed(range(7))
    ]
    assert await all_links(registry, "/?limit=3&model=MANY", "1.") == [
        f"1.{number}.0" for number in reversed(range(7))
    ]
    assert await all_links(registry, "/?limit=2&model=model-0&version=latest", "") == [
        f"{number}" for number in range(5)
    ]


async def all_links(registry: Registry, path: str, prefix: str) -> list[str]:
    """The names that a list links to, over all its pages; and that there is a way back."""
    found: list[str] = []
    first = path
    while True:
        page = await page_at(registry, path)
        ours = ("Digestry", "by name", "newest first", "first page", "next page", "model-0")
        found += [
            name
            for name, target in page.links.items()
            if name.startswith(prefix)
            and (name not in ours or prefix == "model-")
            and ("model=" in target or target.startswith("/models/"))
        ]
        assert ("first page" in page.links) == (path != first)
        if "next page" not in page.links:
            return found
        path = page.links["next page"]


async def test_a_line_to_copy_is_for_the_newest_version_only(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"x"})
    await registry.publish("bert", "1.1.0", {"f": b"y"})
    first = await page_at(registry, "/?model=bert&limit=1")
    second = await page_at(registry, first.links["next page"])

    assert "bert:1.1.0" in first.copied[0]
    assert second.copied == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?model=nobody", 404),
        ("/?model=bert&version=9.9.9", 404),
        ("/?model=bert&version=draft", 404),
        ("/?version=1", 400),
        ("/?model=", 400),
        ("/?after=nonsense", 400),
        ("/?order=size", 400),
        ("/?limit=0", 400),
        ("/?model=bert&version=a%20b", 400),
    ],
)
async def test_what_is_not_there_is_a_problem(registry: Registry, path: str, status: int) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"x"})
    await registry.put("/models/bert/draft/f", b"x")

    assert (await registry.get(path)).status == status


async def test_deleted_models_and_versions_are_not_listed(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"x"})
    await registry.publish("bert", "1.1.0", {"f": b"y"})
    await registry.send("DELETE", "/models/bert/1.1.0")

    assert "1.1.0" not in (await page_at(registry, "/?model=bert")).links


async def test_every_link_is_below_this_server(registry: Registry) -> None:
    await registry.publish("bert", "1.0.0", {"f": b"x"})
    for path in ("/", "/?model=bert", "/?model=bert&version=1"):
        for target in (await page_at(registry, path)).links.values():
            assert urlsplit(target)[:2] == ("", ""), target
            assert target.startswith("/")
            assert (await registry.get(target)).status == 200, target

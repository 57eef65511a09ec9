"""The HTML of the index: a page of models, of a model's versions, of a version's files.

Written to be read in a text browser too: headings, tables and links, in the order of their use.
Everything that somebody chose (names, labels, paths, descriptions) goes through `_said`, which
escapes it and keeps its direction to itself; what is to be copied into a shell is quoted for it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final
from urllib.parse import urlencode

import msgspec

from registry import __version__
from registry.domain.models import Model, Version
from registry.domain.sizes import size
from registry.domain.trees import TreeFile
from registry.http.targets import encoded
from registry.http.times import rfc3339

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.8rem;overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;overflow-wrap:anywhere}"
    "td.n{text-align:right;white-space:nowrap}"
)

_FRAME: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
{body}
</html>
"""

_SHOWN: Final = 160


class Links(msgspec.Struct, frozen=True):
    """Where the links of a list lead: the page that follows, and the first one, if there is any."""

    following: str | None = None
    first: str | None = None


def address(**asked: str | None) -> str:
    """A page of the index: ``/?model=…``."""
    given = {name: value for name, value in asked.items() if value is not None}
    return f"/?{urlencode(given)}" if given else "/"


def home_page(
    url: str, models: Sequence[Model] | None, order: str, links: Links, *, is_open: bool
) -> str:
    """What runs here, the models in it unless they are None, and how to put one in."""
    parts = [
        f"<h1>Digestry {escape(__version__)}</h1>",
        "<p>This server stores files under their SHA-256 digest and publishes them as versions of "
        "models.</p>",
    ]
    if models is not None:
        parts += ["<h2>Models</h2>", _models(models, order, links)]
    if not is_open:
        parts += [
            "<h2>Say who you are</h2>",
            _copy(f"digestry login {url}"),
            _copy(f'curl -H "Authorization: Bearer $DIGESTRY_TOKEN" {url}/api/v1/me'),
            "<p>Lines with <code>curl</code> need that header too, or "
            "<code>-u :$DIGESTRY_TOKEN</code>, but for fetching what is public.</p>",
        ]
    parts += [
        "<h2>Publish a model</h2>",
        _copy(f"digestry push --server {url} my-model:1.0.0 directory/"),
        _copy(
            "curl -T model.safetensors "
            f"'{url}/models/my-model/1.0.0/model.safetensors?publish=true'"
        ),
        "<h2>Fetch it</h2>",
        _copy(f"digestry pull --server {url} my-model"),
        _copy(f"curl -LO {url}/models/my-model/latest/model.safetensors"),
        "<h2>Store a file without a name</h2>",
        _copy(f"curl -T model.safetensors {url}/blobs/"),
        f"<p>The answer names the digest; <code>{escape(url)}/blobs/sha256:&hellip;</code> gives "
        "the file back. Large files over shaky links: resumable uploads (tus 1.0) at "
        f"<code>{escape(url)}/uploads</code>.</p>",
        "<h2>More</h2>",
        "<ul>"
        '<li><a href="/docs">the API</a>, <a href="/redoc">the same as one page</a>'
        '<li><a href="/api/v1/stats">what is stored</a>'
        '<li><a href="/readyz">is it ready</a>'
        '<li><a href="/metrics">metrics</a></ul>',
    ]
    return _page("Digestry", parts)


def _models(models: Sequence[Model], order: str, links: Links) -> str:
    if not models:
        return "<p>There are no models yet.</p>"
    other = (
        f'<a href="{address()}">newest first</a>'
        if order == "name"
        else f'<a href="{address(order="name")}">by name</a>'
    )
    rows = (
        (
            _link(address(model=model.name), model.name),
            escape(model.kind),
            str(model.version_count),
            _day(model.created_at),
            _said(_shortened(model.description)),
        )
        for model in models
    )
    table = _table(("Model", "Kind", "Versions", "Made", "Description"), rows, numbers={2})
    now = "By name" if order == "name" else "Newest first"
    return f"<p>{now}; {other}.</p>{table}{_more(links)}"


def model_page(url: str, model: Model, versions: Sequence[Version], links: Links) -> str:
    """A model and its versions, the newest first."""
    parts = [
        _way(model, None),
        f"<h1>{_said(model.name)}</h1>",
        f"<p>{escape(model.kind.capitalize())}, {model.version_count} "
        f"version{'' if model.version_count == 1 else 's'}, made {_day(model.created_at)}.</p>",
    ]
    if model.description:
        parts.append(f"<p>{_said(model.description)}</p>")
    if versions and links.first is None:
        parts += ["<h2>Fetch the newest</h2>", *_commands(url, model, versions[0])]
    parts.append("<h2>Versions</h2>")
    rows = (
        (
            str(version.number),
            _link(address(model=model.name, version=version.name), version.label or "without"),
            escape(version.status),
            str(version.files),
            size(version.size_bytes),
            _day(version.created_at),
        )
        for version in versions
    )
    heads = ("Number", "Label", "Status", "Files", "Size", "Published")
    parts.append(_table(heads, rows, numbers={0, 3, 4}) if versions else "<p>None.</p>")
    parts.append(_more(links))
    return _page(f"{model.name} - Digestry", parts)


def version_page(
    url: str, model: Model, version: Version, files: Sequence[TreeFile], links: Links
) -> str:
    """A version, its files, and the lines that fetch it."""
    base = _url(model, version)
    parts = [
        _way(model, version),
        f"<h1>{_said(model.name)} {_said(version.name)}</h1>",
        f"<p>Version {version.number}, {escape(version.status)}, {version.files} "
        f"file{'' if version.files == 1 else 's'}, {size(version.size_bytes)}, published "
        f"{_day(version.created_at)}; its tree is <code>{version.tree}</code>.</p>",
    ]
    if links.first is None:
        parts += ["<h2>Fetch it</h2>", *_commands(url, model, version)]
    parts.append("<h2>Files</h2>")
    rows = (
        (
            _link(f"{base}/{encoded(file.path, keep='/')}", file.path),
            size(file.size_bytes),
            f"<code>{file.digest}</code>",
        )
        for file in files
    )
    parts.append(_table(("File", "Size", "Digest"), rows, numbers={1}) if files else "<p>None.</p>")
    parts.append(_more(links))
    return _page(f"{model.name} {version.name} - Digestry", parts)


def _commands(url: str, model: Model, version: Version) -> list[str]:
    """What to copy; the first needs digestry, the others only curl, tar and sha256sum."""
    base = url + _url(model, version)
    wanted = shlex.quote(f"{model.name}:{version.name}")
    dashes = "-- " if wanted.startswith(("-", "'-")) else ""
    return [
        _copy(f"digestry pull --server {url} {dashes}{wanted}"),
        _copy(f"curl -sS --fail {shlex.quote(base + '.tar')} | tar -xf -"),
        _copy(f"curl -sS --fail {shlex.quote(base + '/SHA256SUMS')} | sha256sum -c"),
    ]


def _url(model: Model, version: Version) -> str:
    return f"/models/{encoded(model.name.replace('/', '~'))}/{encoded(version.name)}"


def _way(model: Model, version: Version | None) -> str:
    """Where this page lies, with links upwards."""
    above = '<a href="/">Digestry</a>'
    if version is None:
        return f"<p>{above}</p>"
    return f"<p>{above} / {_link(address(model=model.name), model.name)}</p>"


def _page(title: str, parts: Iterable[str]) -> str:
    return _FRAME.format(title=escape(title), style=STYLE, body="\n".join(parts))


def _table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()
) -> str:
    """Cells are HTML already."""
    right = set(numbers)
    head = "".join(f"<th>{name}" for name in heads)
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="n">{cell}' if column in right else f"<td>{cell}"
            for column, cell in enumerate(row)
        )
        for row in rows
    )
    return f"<table>\n<tr>{head}\n{body}\n</table>"


def _more(links: Links) -> str:
    ways = [
        f'<a href="{escape(target)}">{text}</a>'
        for target, text in ((links.first, "first page"), (links.following, "next page"))
        if target is not None
    ]
    return f"<p>{' | '.join(ways)}</p>" if ways else ""


def _link(target: str, text: str) -> str:
    return f'<a href="{escape(target)}">{_said(text)}</a>'


def _said(text: str) -> str:
    """Something that somebody chose, as text that cannot become anything else."""
    return f"<bdi>{escape(text)}</bdi>" if text else ""


def _copy(line: str) -> str:
    return f"<pre>{escape(line)}</pre>"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "\u2026"


def _day(microseconds: int) -> str:
    moment = rfc3339(microseconds)
    return f'<time datetime="{moment}">{moment[:10]}</time>'

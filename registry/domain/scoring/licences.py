"""Which licence something is under, and how freely it lets a model be used.

Names are SPDX identifiers (https://spdx.org/licenses/), in any case, and the identifiers that the
Hugging Face Hub has besides (https://huggingface.co/docs/hub/repositories-licenses). They may stand
in SPDX expressions: of ``OR`` the freer side counts, of ``AND`` the stricter. A text is recognised
by words at its beginning that no other licence begins with. What a licence permits, as a number, is
our own ordering and no legal advice; it is one table, `FREEDOM`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

FREEDOM: Final[Mapping[str, float]] = {
    "permissive": 1.0,
    "weak copyleft": 0.8,
    "copyleft": 0.6,
    "network copyleft": 0.5,
    "use restricted": 0.4,
    "non-commercial": 0.2,
    "not recognised": 0.1,
}
"""How freely a model may be used, by the kind of its licence."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "permissive": (
        *("0bsd", "afl-3.0", "apache-2.0", "artistic-2.0", "blueoak-1.0.0", "bsd", "bsl-1.0"),
        *("bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "cc0-1.0", "cc-by-2.0"),
        *("cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0"),
        *("ecl-2.0", "isc", "mit", "mit-0", "ms-pl", "ncsa", "odc-by", "odc-by-1.0", "ofl-1.1"),
        *("pddl", "pddl-1.0", "postgresql", "psf-2.0", "python-2.0", "unlicense", "upl-1.0"),
        *("wtfpl", "zlib"),
    ),
    "weak copyleft": (
        *("cdla-sharing-1.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "lgpl", "lgpl-2.0"),
        *("lgpl-2.1", "lgpl-3.0", "lgpl-lr", "mpl-1.1", "mpl-2.0"),
    ),
    "copyleft": (
        *("cc-by-sa-3.0", "cc-by-sa-4.0", "gfdl", "gfdl-1.3", "gpl", "gpl-2.0", "gpl-3.0"),
        *("odbl", "odbl-1.0", "osl-3.0"),
    ),
    "network copyleft": ("agpl-3.0", "sspl-1.0"),
    "use restricted": (
        *("bigcode-openrail-m", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "c-uda"),
        *("cc-by-nd-4.0", "creativeml-openrail-m", "deepfloyd-if-license", "gemma", "llama2"),
        *("llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "openrail", "openrail++"),
    ),
    "non-commercial": (
        *("apple-amlr", "apple-ascl", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
        *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0"),
        *("cc-by-nc-sa-4.0", "fair-noncommercial-research-license"),
    ),
}
_KIND_OF: Final = {name: kind for kind, names in KINDS.items() for name in names}
_UNKNOWN: Final = "not recognised"

EXPRESSION_CHARACTERS: Final = 200
BEGINNING_CHARACTERS: Final = 4_000
"""How much of a text is looked at: titles stand at its beginning, other licences' names later."""

_SPELLINGS: Final[Mapping[str, str]] = {
    "apache 2.0": "apache-2.0",
    "apache license 2.0": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "apache2": "apache-2.0",
    "bsd 2-clause": "bsd-2-clause",
    "bsd 3-clause": "bsd-3-clause",
    "cc0": "cc0-1.0",
    "gplv2": "gpl-2.0",
    "gplv3": "gpl-3.0",
    "agplv3": "agpl-3.0",
    "lgplv2.1": "lgpl-2.1",
    "lgplv3": "lgpl-3.0",
    "mit license": "mit",
    "the mit license": "mit",
    "mpl 2.0": "mpl-2.0",
}
_BEGINNINGS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("agpl-3.0", ("gnu affero general public license", "version 3")),
    ("lgpl-3.0", ("gnu lesser general public license", "version 3")),
    ("lgpl-2.1", ("gnu lesser general public license", "version 2.1")),
    ("gpl-3.0", ("gnu general public license", "version 3")),
    ("gpl-2.0", ("gnu general public license", "version 2")),
    ("mpl-2.0", ("mozilla public license version 2.0",)),
    ("mpl-2.0", ("mozilla public license, version 2.0",)),
    ("epl-2.0", ("eclipse public license - v 2.0",)),
    ("apache-2.0", ("apache license", "version 2.0")),
    ("cc-by-nc-nd-4.0", ("attribution-noncommercial-noderivatives 4.0",)),
    ("cc-by-nc-sa-4.0", ("attribution-noncommercial-sharealike 4.0",)),
    ("cc-by-nc-4.0", ("attribution-noncommercial 4.0",)),
    ("cc-by-nd-4.0", ("attribution-noderivatives 4.0",)),
    ("cc-by-sa-4.0", ("attribution-sharealike 4.0",)),
    ("cc-by-4.0", ("attribution 4.0 international",)),
    ("cc0-1.0", ("cc0 1.0 universal",)),
    ("cdla-permissive-2.0", ("community data license agreement - permissive - version 2.0",)),
    ("odbl-1.0", ("open database license",)),
    ("creativeml-openrail-m", ("creativeml open rail",)),
    ("openrail", ("responsible ai license",)),
    ("llama2", ("llama 2 community license",)),
    ("llama3", ("llama 3 community license",)),
    ("llama3.1", ("llama 3.1 community license",)),
    ("gemma", ("gemma terms of use",)),
    ("unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("isc", ("permission to use, copy, modify, and/or distribute this software for any purpose",)),
    (
        "bsd-3-clause",
        ("redistribution and use in source and binary forms", "neither the name"),
    ),
    ("bsd-2-clause", ("redistribution and use in source and binary forms",)),
    ("bsl-1.0", ("boost software license", "version 1.0")),
    (
        "mit",
        ("permission is hereby granted, free of charge, to any person obtaining a copy",),
    ),
)
_SPDX_LINE: Final = re.compile(r"spdx-license-identifier:[ \t]*([^\r\n]{1,200})", re.IGNORECASE)
_TOKEN: Final = re.compile(r"\(|\)|[A-Za-z0-9.+-]+")
_SUFFIXES: Final = ("-only", "-or-later", "+")


def kind_of(name: str) -> str:
    """What kind of licence a name or an SPDX expression stands for."""
    whole = name.strip().lower()[:EXPRESSION_CHARACTERS]
    found = _of_name(whole)
    if found != _UNKNOWN:
        return found
    return _of_expression(_TOKEN.findall(whole))


def strictest(names: Iterable[str]) -> tuple[str, str]:
    """Of several licences that all hold, the one that permits least, and its kind."""
    kinds = [(name, kind_of(name)) for name in names]
    return min(kinds, key=lambda one: FREEDOM[one[1]])


def is_known(name: str) -> bool:
    """Whether a name or an expression is of licences that are known here."""
    return kind_of(name) != _UNKNOWN


def recognise(text: str) -> str | None:
    """The licence whose text begins like this, or that an SPDX line names; None for no known one.

    What an SPDX line names may be an expression.
    """
    beginning = text[:BEGINNING_CHARACTERS]
    said = _SPDX_LINE.search(beginning)
    if said is not None and is_known(said[1]):
        return said[1].strip(" \t*/#->").lower()
    plain = " ".join(beginning.lower().split())
    for name, phrases in _BEGINNINGS:
        if _in_order(plain, phrases):
            return name
    short = plain.strip(" .")
    return short if len(short) <= EXPRESSION_CHARACTERS and is_known(short) else None


def _in_order(text: str, phrases: Iterable[str]) -> bool:
    place = 0
    for phrase in phrases:
        found = text.find(phrase, place)
        if found < 0:
            return False
        place = found + len(phrase)
    return True


def _of_name(name: str) -> str:
    name = _SPELLINGS.get(name, name)
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name not in _KIND_OF:
            name = name.removesuffix(suffix)
    return _KIND_OF.get(name, _UNKNOWN)


def _of_expression(tokens: list[str]) -> str:
    """The kind of an SPDX expression; one that is not well formed is not recognised.

    ``AND`` binds tighter than ``OR``, and an exception after ``WITH`` only ever permits more.
    """
    stack: list[list[list[str]]] = [[[]]]
    """Of each parenthesis that is open: sides of ``OR``, each the kinds that ``AND`` joins."""
    expects_name = True
    after_with = False
    for word in tokens:
        if after_with:
            after_with = False
        elif word == "(" and expects_name:
            stack.append([[]])
        elif word == ")" and not expects_name and len(stack) > 1:
            inner = _freest(stack.pop())
            stack[-1][-1].append(inner)
        elif word in ("and", "or", "with") and not expects_name:
            if word == "or":
                stack[-1].append([])
            after_with = word == "with"
            expects_name = word != "with"
        elif word not in ("(", ")", "and", "or", "with") and expects_name:
            stack[-1][-1].append(_of_name(word))
            expects_name = False
        else:
            return _UNKNOWN
    if expects_name or after_with or len(stack) > 1:
        return _UNKNOWN
    return _freest(stack[0])


def _freest(sides: list[list[str]]) -> str:
    kinds = [min(side, key=FREEDOM.__getitem__) for side in sides]
    return max(kinds, key=FREEDOM.__getitem__)

"""Passwords and tokens, asked for at the terminal or read from the input; never arguments.

What stands on a command line is seen by every process of the machine and kept in histories, so no
command takes a secret there. At a terminal it is asked for without being shown; otherwise it is the
next line of the input.
"""

from __future__ import annotations

import getpass
import sys

from registry.cli.exits import CommandError


def ask_secret(prompt: str) -> str:
    """A secret from the terminal or the input, without the end of its line."""
    if sys.stdin.isatty():
        found = getpass.getpass(f"{prompt}: ")
    else:
        line = sys.stdin.readline()
        if not line:
            raise CommandError(f"the input ended where the {prompt.lower()} was expected")
        found = line.rstrip("\r\n")
    if not found:
        raise CommandError(f"the {prompt.lower()} is empty")
    return found


def ask_new_password() -> str:
    """A password that shall be; asked for twice where nobody can see what they type."""
    password = ask_secret("New password")
    if sys.stdin.isatty() and getpass.getpass("Once more: ") != password:
        raise CommandError("the two are not the same")
    return password


def ask_plain(prompt: str) -> str:
    """Something that is no secret, from the terminal or the input."""
    if sys.stdin.isatty():
        return input(f"{prompt}: ").strip()
    return sys.stdin.readline().strip()

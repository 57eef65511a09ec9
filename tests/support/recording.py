"""Records what a store asks of disk and index, and computes what a crash may leave of it.

`Recording` is a `Disk` that writes down every operation, and an observer that keeps a copy of the
index at every commit. `crash_states` then walks the log and gives, for each position, directories
that a machine may find after losing power there. The rules are stricter than any file system's:

- The **content** of a file is what its last sync saw. Anything after that may be there, be missing,
  be there as a prefix, or have its length and zeros instead of its bytes.
  A sync that failed makes sure of nothing, and neither does a later one, until the file was cut
  back to what was durable.
- Each **name** is what it was at the last sync of its directory, or anything it has been since,
  independently of every other name. So a rename across directories may leave both names or none.
  Within one directory, too, only the replaced name is atomic: it is the old file or the new one.
- A directory whose own name was lost takes everything below it along.
- The **index** is its last commit, since every commit is synchronous.

A process that is merely killed loses nothing of this: `Model.now` is what it leaves.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pysqlite3.dbapi2 as sqlite

from store.durable import Disk

Value: TypeAlias = int | None
"""What a name stands for: the number of a file, `DIRECTORY`, or nothing."""

DIRECTORY = -1
ALL_UP_TO = 24
"""Up to so many combinations of what is pending are all tried; above, a seeded sample."""


class Event(msgspec.Struct, frozen=True):
    """One operation, with paths relative to the data directory."""

    kind: str
    path: str = ""
    target: str = ""
    file: int = 0
    offset: int = 0
    content: bytes = b""
    note: Any = None


class Recording(Disk):
    """A disk that does what it is asked and writes it down, in one order for all threads."""

    def __init__(self, root: Path, copies: Path, log: Sequence[Event] = ()) -> None:
        super().__init__()
        self.events = list(log)
        self._root = str(root)
        self._copies = copies
        self._lock = threading.RLock()
        model = Model(self.events)
        self._files = {path: file for path, file in model.names().items() if file != DIRECTORY}
        self._last = max((event.file for event in self.events), default=0)
        self._open: dict[int, int] = {}

    def note(self, note: Any) -> None:
        """Write down something that is no operation: an acknowledgement, say."""
        with self._lock:
            self.events.append(Event("note", note=note))

    def observe(self, kind: str, connection: sqlite.Connection) -> None:
        """Keep a copy of the index as it is at a commit."""
        with self._lock:
            copy = self._copies / f"{len(self.events)}-{os.urandom(4).hex()}.sqlite3"
            target = sqlite.connect(str(copy), isolation_level=None)
            try:
                target.execute("PRAGMA synchronous=OFF").fetchall()
                connection.backup(target)
            finally:
                target.close()
            self.events.append(Event(kind, target=str(copy)))

    def create(self, path: str) -> int:
        with self._lock:
            descriptor = super().create(path)
            self._last += 1
            self._files[self._relative(path)] = self._last
            self._open[descriptor] = self._last
            self._add("create", path, file=self._last)
            return descriptor

    def open(self, path: str) -> int:
        with self._lock:
            descriptor = super().open(path)
            self._open[descriptor] = self._files[self._relative(path)]
            return descriptor

    def write(
        self, descriptor: int, path: str, pieces: Sequence[bytes | memoryview], at: int
    ) -> int:
        with self._lock:
            done = super().write(descriptor, path, pieces, at)
            if done:
                content = b"".join(pieces)
                file = self._open[descriptor]
                self._add("write", path, file=file, offset=at, content=content)
            return done

    def truncate(self, descriptor: int, path: str, size_bytes: int) -> None:
        with self._lock:
            super().truncate(descriptor, path, size_bytes)
            self._add("truncate", path, file=self._open[descriptor], offset=size_bytes)

    def sync_data(self, descriptor: int, path: str) -> None:
        with self._lock:
            self._add("sync_data", path, file=self._open[descriptor])

    def lose(self, descriptor: int, path: str) -> None:
        """What a sync that fails leaves: nothing unsynced will ever be on the disk."""
        with self._lock:
            self._add("lose", path, file=self._open[descriptor])

    def sync_directory(self, path: str) -> None:
        with self._lock:
            self._add("sync_directory", path)

    def sync_everything(self, watch: int) -> None:
        with self._lock:
            for name, file in self._files.items():
                self._add("sync_data", f"{self._root}/{name}", file=file)
            for folder, _, _ in os.walk(self._root):
                self._add("sync_directory", folder)

    def link(self, source: str, target: str) -> None:
        with self._lock:
            super().link(source, target)
            file = self._files[self._relative(source)]
            self._files[self._relative(target)] = file
            self._add("link", target, file=file)

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            super().rename(source, target)
            file = self._files[self._relative(source)]
            if os.path.lexists(source):  # both were names of one file: nothing happened
                return
            del self._files[self._relative(source)]
            self._files[self._relative(target)] = file
            self._add("rename", source, target=self._relative(target), file=file)

    def unlink(self, path: str) -> None:
        with self._lock:
            super().unlink(path)
            self._files.pop(self._relative(path), None)
            self._add("unlink", path)

    def mkdir(self, path: str) -> bool:
        with self._lock:
            made = super().mkdir(path)
            if made:
                self._add("mkdir", path)
            return made

    def rot(self, path: str | Path, content: bytes) -> None:
        """Change bytes behind everybody's back, durably, as a bad disk does."""
        with self._lock:
            mode = os.stat(path).st_mode
            os.chmod(path, 0o644)
            Path(path).write_bytes(content)
            os.chmod(path, mode)
            file = self._files[self._relative(str(path))]
            self._add("found", str(path), file=file, content=content)

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self._root)

    def _add(self, kind: str, path: str, **more: Any) -> None:
        self.events.append(Event(kind, path=self._relative(path), **more))


class _File(msgspec.Struct):
    """What a file holds, what of it is durable, and what it held in between."""

    now: bytes = b""
    durable: bytes = b""
    pending: bool = False
    lost: bool = False
    """A sync has failed since: what the kernel shows beyond `durable` is not what it will write."""
    found: list[bytes] | None = None
    """What is possible, once somebody has asked; until something changes."""

    def change(self, now: bytes) -> None:
        self.now, self.pending, self.found = now, True, None
        if now == self.durable[: len(now)]:
            self.lost = False  # cut back; what is written from here on is written

    def sync(self) -> None:
        if not self.lost:
            self.durable, self.pending, self.found = self.now, False, None

    def possible(self) -> list[bytes]:
        """What a crash may leave of the content, the least and the most first.

        Equal contents are one object for as long as nothing changes, so that they are hashed once.
        """
        if self.found is None:
            self.found = self._possible()
        return self.found

    def _possible(self) -> list[bytes]:
        if not self.pending or self.now == self.durable:
            return [self.now]
        found = [self.durable]
        before = len(self.durable)
        if len(self.now) > before:
            found.append(self.now[: (before + len(self.now) + 1) // 2])
            found.append(self.now[:before].ljust(len(self.now), b"\0"))
        return list(dict.fromkeys([*found, self.now]))


class Model:
    """A directory as the kernel shows it, and what of it has reached the disk."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self._names: dict[str, Value] = {}
        self._values: dict[str, list[Value]] = {}
        self._files: dict[int, _File] = {}
        self.index = ""
        self.notes: list[Any] = []
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        getattr(self, f"_{event.kind}")(event)

    def names(self) -> dict[str, int]:
        """Every name there is, with what it stands for."""
        return {path: value for path, value in self._names.items() if value is not None}

    def now(self) -> State:
        """What a killed process leaves: everything it did."""
        return self._state(dict(self._names), {n: file.now for n, file in self._files.items()})

    def after_power_cut(self, chance: random.Random) -> Iterator[State]:
        """Every directory that losing power now may leave, or a sample where there are many."""
        names = self._possible_names()
        reachable = {value for values in names.values() for value in values}
        contents = {
            number: file.possible() for number, file in self._files.items() if number in reachable
        }
        open_names = [path for path, values in names.items() if len(values) > 1]
        open_files = [number for number, found in contents.items() if len(found) > 1]
        spans = [len(names[p]) for p in open_names] + [len(contents[n]) for n in open_files]
        for choice in _choices(spans, chance):
            picked = dict(zip([*open_names, *open_files], choice, strict=True))
            yield self._state(
                {path: values[picked.get(path, 0)] for path, values in names.items()},
                {number: found[picked.get(number, 0)] for number, found in contents.items()},
            )

    def _state(self, names: dict[str, Value], contents: dict[int, bytes]) -> State:
        folders = {""} | {path for path, value in names.items() if value == DIRECTORY}
        kept = {p for p in names if all(parent in folders for parent in _parents(p))}
        return State(
            folders=tuple(sorted(p for p in kept if names[p] == DIRECTORY)),
            files=tuple(
                (p, contents[value])
                for p, value in sorted(names.items())
                if p in kept and value is not None and value != DIRECTORY
            ),
            index=self.index,
            notes=tuple(self.notes),
        )

    def _possible_names(self) -> dict[str, list[Value]]:
        return {path: self._values.get(path, [value]) for path, value in self._names.items()}

    def _set(self, path: str, value: Value) -> None:
        values = self._values.setdefault(path, [self._names.get(path)])
        if value in values:
            values.remove(value)
            values.append(value)
        else:
            values.append(value)
        self._names[path] = value

    # One method for each kind of event.

    def _note(self, event: Event) -> None:
        self.notes.append(event.note)

    def _commit(self, event: Event) -> None:
        self.index = event.target

    def _found(self, event: Event) -> None:
        """Something that was there, durably, before the recording began."""
        self._names[event.path] = event.file
        if event.file != DIRECTORY:
            self._files[event.file] = _File(event.content, event.content)

    def _create(self, event: Event) -> None:
        self._files[event.file] = _File()
        self._set(event.path, event.file)

    def _write(self, event: Event) -> None:
        file = self._files[event.file]
        grown = file.now.ljust(event.offset, b"\0")
        end = event.offset + len(event.content)
        file.change(grown[: event.offset] + event.content + grown[end:])

    def _truncate(self, event: Event) -> None:
        file = self._files[event.file]
        file.change(file.now[: event.offset].ljust(event.offset, b"\0"))

    def _sync_data(self, event: Event) -> None:
        self._files[event.file].sync()

    def _lose(self, event: Event) -> None:
        file = self._files[event.file]
        file.lost = file.now != file.durable

    def _sync_directory(self, event: Event) -> None:
        folder = "" if event.path == "." else event.path
        for path in [path for path in self._values if os.path.dirname(path) == folder]:
            del self._values[path]

    def _link(self, event: Event) -> None:
        self._set(event.path, event.file)

    def _rename(self, event: Event) -> None:
        self._set(event.path, None)
        self._set(event.target, event.file)

    def _unlink(self, event: Event) -> None:
        self._set(event.path, None)

    def _mkdir(self, event: Event) -> None:
        self._set(event.path, DIRECTORY)


class State(msgspec.Struct, frozen=True):
    """A data directory after a crash, and what had been noted before it.

    `index` is the path of a copy that nobody changes.
    """

    folders: tuple[str, ...]
    files: tuple[tuple[str, bytes], ...]
    index: str
    notes: tuple[Any, ...]

    def materialize(self, root: Path) -> None:
        """Make the directory, which must not exist."""
        root.mkdir(parents=True)
        for folder in self.folders:
            (root / folder).mkdir()
        for path, content in self.files:
            (root / path).write_bytes(content)
        shutil.copyfile(self.index, root / "index.sqlite3")


def found_in(root: Path, copies: Path) -> list[Event]:
    """The events that describe a directory before the recording begins."""
    events = []
    for number, path in enumerate(sorted(root.rglob("*")), start=1):
        relative = str(path.relative_to(root))
        if path.is_dir():
            events.append(Event("found", path=relative, file=DIRECTORY))
        elif not path.name.startswith("index.sqlite3"):
            events.append(Event("found", path=relative, file=number, content=path.read_bytes()))
    copy = copies / f"at-start-{os.urandom(4).hex()}.sqlite3"
    shutil.copyfile(root / "index.sqlite3", copy)
    return [*events, Event("commit", target=str(copy))]


def crash_states(
    events: Sequence[Event], *, start: int = 0, seed: int = 0
) -> Iterator[tuple[int, State]]:
    """Every different state with the first position it belongs to, from `start` on."""
    chance = random.Random(seed)
    model = Model(events[:start])
    seen = set()
    for position in range(start, len(events) + 1):
        for state in model.after_power_cut(chance):
            key = hash(state)
            if key not in seen:
                seen.add(key)
                yield position, state
        if position < len(events):
            model.apply(events[position])


def _choices(spans: Sequence[int], chance: random.Random) -> Iterator[tuple[int, ...]]:
    """All combinations of so many possibilities each; extremes and a sample if there are many."""
    total = 1
    for span in spans:
        total *= span
    if total <= ALL_UP_TO:
        yield from itertools.product(*map(range, spans))
        return
    least, most = tuple(0 for _ in spans), tuple(span - 1 for span in spans)
    yield least
    yield most
    for at in range(len(spans)):
        yield (*least[:at], most[at], *least[at + 1 :])
        yield (*most[:at], 0, *most[at + 1 :])
    for _ in range(ALL_UP_TO // 2):
        yield tuple(chance.randrange(span) for span in spans)


def _parents(path: str) -> list[str]:
    parents = []
    while path:
        path = os.path.dirname(path)
        parents.append(path)
    return parents

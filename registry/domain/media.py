"""The media type of a file, derived from its path alone when it is served.

Trees carry no media types, so that equal files are equal trees through every door. The table is our
own: the machine's would answer differently on every machine.
"""

from __future__ import annotations

from typing import Final

DEFAULT: Final = "application/octet-stream"

_TYPES: Final = {
    "avif": "image/avif",
    "bib": "text/plain; charset=utf-8",
    "c": "text/plain; charset=utf-8",
    "cfg": "text/plain; charset=utf-8",
    "cpp": "text/plain; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "flac": "audio/flac",
    "gif": "image/gif",
    "gz": "application/gzip",
    "h": "text/plain; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ini": "text/plain; charset=utf-8",
    "ipynb": "application/x-ipynb+json",
    "jinja": "text/plain; charset=utf-8",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "log": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "png": "image/png",
    "py": "text/x-python; charset=utf-8",
    "rst": "text/plain; charset=utf-8",
    "sh": "text/x-shellscript; charset=utf-8",
    "svg": "image/svg+xml",
    "tar": "application/x-tar",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "wav": "audio/wav",
    "webp": "image/webp",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
    "zst": "application/zstd",
}

_PLAIN_NAMES: Final = frozenset(("license", "notice", "readme", "dockerfile", "makefile"))


def media_type(path: str) -> str:
    """The type to serve a file with; bytes of an unknown kind are just bytes."""
    name = path.rpartition("/")[2].lower()
    if name in _PLAIN_NAMES or name in (".gitattributes", ".gitignore"):
        return "text/plain; charset=utf-8"
    stem, dot, suffix = name.rpartition(".")
    return _TYPES.get(suffix, DEFAULT) if dot and stem else DEFAULT

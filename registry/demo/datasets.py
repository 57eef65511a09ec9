"""Data sets: rows that trainings name."""

from __future__ import annotations

from typing import Final

from registry.demo.kinds import Release, Work

DATASETS: Final = (
    Work(
        name="support/tickets",
        kind="dataset",
        family="data",
        about="Support tickets with the queue that solved them.",
        team="support-automation",
        task="text-classification",
        subject="customer support",
        use_case="trains and tests ticket models",
        columns=("id", "day", "language", "queue", "text"),
        tags={"language": "en", "rows": "small", "personal-data": "removed"},
        releases=(
            Release(label="2026.1", change="tickets of the first quarter", status="deprecated"),
            Release(label="2026.2", change="the second quarter added", status="validated"),
            Release(label="2026.3", change="the third quarter added", status="production"),
        ),
    ),
    Work(
        name="vision/shelf-images",
        kind="dataset",
        family="data",
        about="Boxes drawn around what lies on shelves, by image.",
        team="store-vision",
        task="object-detection",
        subject="retail",
        use_case="trains the shelf detectors",
        columns=("image", "store", "label", "left", "top", "width", "height"),
        tags={"modality": "image"},
        releases=(
            Release(label="1.0", change="four stores", status="validated"),
            Release(label="1.1", change="images taken at night added", status="production"),
        ),
    ),
    Work(
        name="forecasting/sales-history",
        kind="dataset",
        family="data",
        about="Units sold by store and day.",
        team="planning",
        task="time-series-forecasting",
        subject="retail",
        use_case="trains the demand forecast",
        columns=("row", "day", "store", "units", "price"),
        tags={"rows": "small"},
        releases=(
            Release(label="2025-12", change="the whole of 2025", status="validated"),
            Release(label="2026-09", change="up to September 2026", status="production"),
        ),
    ),
    Work(
        name="speech/call-snippets",
        kind="dataset",
        family="data",
        about="A list of short recordings with who speaks and how long.",
        team="research",
        task="automatic-speech-recognition",
        subject="customer support",
        use_case="warms the transcriber up",
        columns=("file", "speaker", "language", "milliseconds"),
        risk="high",
        compliance=True,
        tags={"modality": "audio", "personal-data": "removed"},
        releases=(Release(label="1.0", change="consented recordings only", status="validated"),),
    ),
)

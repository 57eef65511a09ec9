"""Models that see."""

from __future__ import annotations

from typing import Final

from registry.demo.kinds import Release, Work

_LINKED: Final = "trained-on"
_TUNED: Final = "fine-tuned"

SEEING: Final = (
    Work(
        name="vision/shelf-detector",
        family="vision",
        about="Finds products, gaps and price tags on pictures of shelves.",
        team="store-vision",
        task="object-detection",
        subject="retail",
        use_case="tells stores what to refill",
        metric="mean average precision",
        data="vision/shelf-images:1.1",
        tags={"modality": "image"},
        champions=(("2.0.0", "first with night images"), ("2.1.0", "price tags")),
        releases=(
            Release(
                label="2.0.0",
                change="night images",
                status="deprecated",
                score=0.68,
                parents=((_LINKED, "vision/shelf-images:1.0"),),
                hours=18,
                gpus=4,
            ),
            Release(
                label="2.1.0",
                change="price tags are found too",
                status="production",
                score=0.74,
                cost_per_1k=0.09,
                slo_met=True,
                parents=(
                    (_TUNED, "vision/shelf-detector:2.0.0"),
                    (_LINKED, "vision/shelf-images:1.1"),
                ),
                hours=20,
                gpus=4,
            ),
        ),
    ),
    Work(
        name="vision/shelf-detector-int8",
        family="vision",
        about="The shelf detector in whole numbers, for cameras.",
        team="store-vision",
        task="object-detection",
        subject="retail",
        use_case="runs in the camera itself",
        metric="mean average precision",
        data="vision/shelf-images:1.1",
        is_int8=True,
        tags={"modality": "image", "edge": ""},
        releases=(
            Release(
                label="2.1.0",
                change="quantised",
                status="production",
                score=0.72,
                cost_per_1k=0.0,
                parents=(("quantised", "vision/shelf-detector:2.1.0"),),
                hours=1,
            ),
        ),
    ),
    Work(
        name="vision/defect-finder",
        family="vision",
        about="Finds scratches and dents on the assembly line.",
        team="store-vision",
        task="image-segmentation",
        subject="manufacturing",
        use_case="stops the line before a bad part goes on",
        metric="intersection over union",
        risk="high",
        tags={"modality": "image", "edge": ""},
        releases=(
            Release(label="0.3.0", change="one camera", score=0.61, hours=9, gpus=2),
            Release(
                label="0.4.0",
                change="three cameras",
                status="validated",
                score=0.69,
                hours=9,
                gpus=2,
            ),
        ),
    ),
)

"""Experiments, and the runs of them that became no version."""

from __future__ import annotations

from typing import Final

from registry.demo.kinds import Experiment, Trial

EXPERIMENTS: Final = (
    Experiment(
        namespace="language",
        name="ticket router: learning rates",
        about="How fast the router may learn before it forgets the encoder.",
        trials=(
            Trial(
                name="rate 1e-4",
                model="language/ticket-router",
                days_ago=33,
                hours=3.2,
                rate=1e-4,
                best=0.9,
            ),
            Trial(
                name="rate 3e-4",
                model="language/ticket-router",
                days_ago=33,
                hours=3.1,
                rate=3e-4,
                best=0.93,
            ),
            Trial(
                name="rate 3e-3",
                model="language/ticket-router",
                days_ago=32,
                hours=1.4,
                rate=3e-3,
                status="failed",
                shape="diverges",
            ),
            Trial(
                name="rate 3e-5",
                model="language/ticket-router",
                days_ago=32,
                hours=0.9,
                rate=3e-5,
                status="cancelled",
                shape="stops",
            ),
        ),
    ),
    Experiment(
        namespace="vision",
        name="shelf detector: augmentation",
        about="Which changes of images help at night.",
        trials=(
            Trial(
                name="none",
                model="vision/shelf-detector",
                days_ago=58,
                hours=15,
                rate=1e-3,
                best=0.66,
                gpus=4,
            ),
            Trial(
                name="dark",
                model="vision/shelf-detector",
                days_ago=57,
                hours=17,
                rate=1e-3,
                best=0.73,
                gpus=4,
            ),
            Trial(
                name="dark and blurred",
                model="vision/shelf-detector",
                days_ago=56,
                hours=24,
                rate=1e-3,
                status="timeout",
                shape="stops",
                gpus=4,
            ),
        ),
    ),
    Experiment(
        namespace="forecasting",
        name="energy: is it worth it",
        about="Whether cold rooms can be forecast at all.",
        trials=(
            Trial(
                name="one week",
                model="forecasting/energy",
                days_ago=150,
                hours=1,
                rate=1e-3,
                best=0.4,
            ),
            Trial(
                name="one year",
                model="forecasting/energy",
                days_ago=141,
                hours=2.5,
                rate=1e-3,
                best=0.55,
            ),
        ),
    ),
    Experiment(
        namespace="language",
        name="reply drafter: next",
        about="A larger base model, still training.",
        trials=(
            Trial(
                name="larger base",
                model="language/reply-drafter",
                days_ago=0.2,
                hours=4,
                rate=2e-4,
                status="running",
                shape="stops",
                gpus=8,
            ),
        ),
    ),
)

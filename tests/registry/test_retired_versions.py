"""Lists of versions tell the retired ones apart where somebody asks."""

from __future__ import annotations

from typing import Any

from registry.catalog.models import find_model_by_id
from registry.catalog.versions import find_version_anywhere
from registry.domain.principals import LOCAL
from registry.services.retirement import bring_back, retire
from store.index.transactions import Tx
from tests.support.builders import Registry

AT = "/api/v1/models/bert/versions"


async def made(registry: Registry, label: str, **said: Any) -> str:
    body = {"label": label, "source": {"uri": f"s3://bert/{label}"}, **said}
    answer = await registry.send("POST", AT, json=body)
    assert answer.status == 201, answer.body
    return str(answer.json["version"]["id"])


async def set_retired(registry: Registry, id: str, *, is_retired: bool) -> None:
    async def unit(tx: Tx) -> None:
        version = await find_version_anywhere(tx, id)
        assert version is not None
        model = await find_model_by_id(tx, version.model_id)
        assert model is not None
        act = retire if is_retired else bring_back
        await act(tx, LOCAL, model, version, reason="for the test")

    await registry.store.index.run(unit)


async def listed(registry: Registry, path: str) -> list[str]:
    answer = await registry.get(path)
    assert answer.status == 200, answer.body
    labels = [item["label"] for item in answer.json["items"]]
    if "total=true" in path:
        assert answer.json["total"] == len(labels)
    return labels


async def test_lists_have_the_retired_the_others_or_both(registry: Registry) -> None:
    ids = [
        await made(registry, f"1.{minor}.0", eval_score=minor / 10, region="eu")
        for minor in range(4)
    ]
    for id in ids[:3]:
        await set_retired(registry, id, is_retired=True)
    await set_retired(registry, ids[2], is_retired=False)

    for path in (AT, "/api/v1/versions"):
        for more in ("", "&total=true", "&region=eu", "&tier=hot", "&min_eval_score=0"):
            assert await listed(registry, f"{path}?{more}") == ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]
            assert await listed(registry, f"{path}?retired=true{more}") == ["1.1.0", "1.0.0"]
            assert await listed(registry, f"{path}?retired=false{more}") == ["1.3.0", "1.2.0"]
    assert await listed(registry, f"{AT}?retired=true&range=%5E1.0&total=true") == [
        "1.1.0",
        "1.0.0",
    ]
    assert await listed(registry, f"{AT}?retired=true&latest_by=created") == ["1.1.0"]
    assert await listed(registry, f"{AT}?retired=true&latest_by=number") == ["1.1.0"]
    assert await listed(registry, f"{AT}?retired=true&latest_by=semver") == ["1.1.0"]
    assert (await registry.get(f"{AT}?retired=maybe")).status == 400

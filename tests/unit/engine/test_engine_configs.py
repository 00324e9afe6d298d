"""/configs of the engine."""

import base64
import json

import pytest

from common import model

DATA = b"key=value\n"
SPEC = {"Name": "app-conf", "Labels": {}, "Data": base64.b64encode(DATA).decode()}


async def create(manager, spec=SPEC, path="/configs/create"):
    status, body = await manager.ask("POST", path, spec)
    assert status == 201, body
    assert list(body) == ["ID"]
    return body["ID"]


async def test_a_config_comes_back_as_it_was_sent(manager):
    key = await create(manager)
    assert manager.manager.configs[key].spec.data == DATA
    for ref in (key, "app-conf", key[:5]):
        status, body = await manager.ask("GET", f"/configs/{ref}")
        assert status == 200
        assert list(body) == ["ID", "Version", "CreatedAt", "UpdatedAt", "Spec"]
        assert (body["ID"], body["Spec"]) == (key, SPEC)
    assert (await manager.ask("GET", "/configs"))[1] == [body]


async def test_filters_are_passed_on(manager):
    await create(manager)
    wanted = {"id": ["a"], "label": ["b"], "name": ["c"], "names": ["d"]}
    await manager.ask("GET", "/configs", params={"filters": json.dumps(wanted)})
    asked = manager.manager.requests[-1]
    assert asked.filters == tuple(model.FilterTerm(key, values[0]) for key, values in wanted.items())
    answer = await manager.ask("GET", "/configs", params={"filters": '{"mode": ["x"]}'})
    assert answer == (400, {"message": "Invalid filter 'mode'"})


async def test_labels_are_updated_with_the_version_that_they_were_read_at(manager):
    key = await create(manager)
    version = (await manager.ask("GET", f"/configs/{key}"))[1]["Version"]["Index"]
    changed = {**SPEC, "Labels": {"tier": "web"}}
    assert (await manager.ask("POST", f"/configs/{key}/update?version={version}", changed))[0] == 200
    assert (await manager.ask("GET", f"/configs/{key}"))[1]["Spec"] == changed
    answer = await manager.ask("POST", f"/configs/{key}/update?version={version}", changed)
    assert answer == (500, {"message": "rpc error: code = Unknown desc = update out of sequence"})
    answer = await manager.ask("POST", f"/configs/{key}/update", changed)
    assert answer == (400, {"message": "invalid config version"})


async def test_removal_answers_with_nothing(manager):
    await create(manager)
    assert (await manager.ask("DELETE", "/configs/app-conf"))[0] == 204
    assert await manager.ask("DELETE", "/configs/app-conf") == (
        404,
        {"message": "config app-conf not found"},
    )


async def test_duplicates_unknown_ones_and_what_is_no_data(manager):
    await create(manager)
    text = "rpc error: code = AlreadyExists desc = config app-conf already exists"
    assert await manager.ask("POST", "/configs/create", SPEC) == (409, {"message": text})
    assert await manager.ask("GET", "/configs/nosuch") == (404, {"message": "config nosuch not found"})
    status, body = await manager.ask("POST", "/configs/create", {**SPEC, "Name": "x", "Data": "?"})
    assert status == 400
    assert body["message"].startswith("illegal base64 data")


@pytest.mark.parametrize(("version", "status"), [("1.36", 400), ("1.37", 201)])
async def test_templating_has_a_first_version(manager, version, status):
    spec = {**SPEC, "Templating": {"Name": "golang"}}
    answer = await manager.ask("POST", f"/v{version}/configs/create", spec)
    assert answer[0] == status
    if status == 400:
        text = "config templating is not supported on the specified API version: 1.36"
        assert answer[1] == {"message": text}
    else:
        assert (await manager.ask("GET", "/configs/app-conf"))[1]["Spec"] == spec

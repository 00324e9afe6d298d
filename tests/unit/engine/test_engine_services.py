"""/services and /tasks of the engine, and what isn't built yet."""

import dataclasses
import json
import re

import pytest

from common import errors, model

SPEC = {
    "Name": "web",
    "Labels": {},
    "TaskTemplate": {
        "ContainerSpec": {"Image": "nginx:latest", "Init": False, "Sysctls": {"a": "b"}, "CapabilityAdd": ["CAP_NET_ADMIN"]},
        "ForceUpdate": 0,
    },
    "Mode": {"Replicated": {"Replicas": 2}},
    "EndpointSpec": {"Mode": "vip", "Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 80, "PublishMode": "ingress"}]},
}  # fmt: skip


async def create(manager, **options):
    status, body = await manager.ask("POST", "/services/create", SPEC, **options)
    assert status == 201, body
    assert list(body) == ["ID"]
    return body["ID"]


async def test_a_service_comes_back_as_it_was_sent(manager):
    key = await create(manager)
    for ref in (key, "web", key[:5]):
        status, body = await manager.ask("GET", f"/services/{ref}?insertDefaults=false")
        assert (status, body["ID"], body["Spec"]) == (200, key, SPEC)
    assert manager.manager.requests[-1] == model.GetRequest(key[:5], False)
    await manager.ask("GET", "/services/web?insertDefaults=true")
    assert manager.manager.requests[-1].insert_defaults


async def test_credentials_go_with_the_service_and_never_come_back(manager):
    await create(manager, headers={"X-Registry-Auth": "c2VjcmV0"})
    assert manager.manager.requests[-1].spec.task.container.pull_auth == "c2VjcmV0"
    assert "c2VjcmV0" not in json.dumps((await manager.ask("GET", "/services/web"))[1])
    await manager.ask("DELETE", "/services/web")
    await create(manager, headers={"X-Registry-Auth": "e30="})
    assert manager.manager.requests[-1].spec.task.container.pull_auth == ""


async def test_a_network_of_this_node_is_none_for_services(manager):
    assert (await manager.ask("POST", "/networks/create", {"Name": "here"}))[0] == 201

    async def unknown(*_, **__):
        raise errors.NotFound("network here not found")

    manager.manager.CreateService = unknown
    for target, status, text in (
        (
            "here",
            403,
            "The network here cannot be used with services. Only networks scoped to the swarm can be used",
        ),
        ("nosuch", 404, "network here not found"),
    ):
        spec = {**SPEC, "TaskTemplate": {**SPEC["TaskTemplate"], "Networks": [{"Target": target}]}}
        got, body = await manager.ask("POST", "/services/create", spec)
        assert (got, body["message"].startswith(text)) == (status, True), body


async def test_what_a_service_cannot_be(manager):
    task = SPEC["TaskTemplate"]
    for change, text in (
        ({"Mode": {"Replicated": {"Replicas": 1}, "Global": {}}}, "must specify only one service mode"),
        ({"TaskTemplate": {**task, "Runtime": "x"}}, "unsupported runtime"),
    ):
        assert await manager.ask("POST", "/services/create", {**SPEC, **change}) == (400, {"message": text})


async def test_words_of_filters(manager):
    wrong = 'invalid value for status: x: strconv.ParseBool: parsing "x": invalid syntax'
    assert await manager.ask("GET", "/services?status=x") == (400, {"message": wrong})
    for path, key, word in (("/nodes", "role", "nosuch"), ("/tasks", "desired-state", "nosuch")):
        query = {"filters": json.dumps({key: [word]})}
        text = f"Invalid {key} filter: 'nosuch'"
        assert await manager.ask("GET", path, params=query) == (400, {"message": text})
    for path, key, word in (("/nodes", "role", "MANAGER"), ("/tasks", "desired-state", "Running")):
        assert (await manager.ask("GET", path, params={"filters": json.dumps({key: [word]})}))[0] == 200
        assert manager.manager.requests[-1].filters[0].value == word.lower()


async def test_older_clients_cannot_mean_newer_fields(manager):
    await manager.ask("POST", "/v1.40/services/create", SPEC)
    container = manager.manager.requests[-1].spec.task.container
    assert (dict(container.sysctls), container.capability_add) == ({"a": "b"}, ())


@pytest.mark.parametrize(
    ("path", "status"),
    [("/services?status=true", True), ("/services", False), ("/v1.40/services?status=true", False)],
)
async def test_list(manager, path, status):
    key = await create(manager)
    manager.manager.run_tasks(manager.manager.services[key])
    code, body = await manager.ask("GET", path)
    assert (code, len(body)) == (200, 1)
    assert body[0].get("ServiceStatus") == (
        {"RunningTasks": 2, "DesiredTasks": 2, "CompletedTasks": 0} if status else None
    )


async def test_duplicates_bad_words_and_unknown_services(manager):
    await create(manager)
    text = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"
    assert await manager.ask("POST", "/services/create", SPEC) == (409, {"message": text})
    restart = {"RestartPolicy": {"Condition": "sometimes"}}
    bad = {**SPEC, "TaskTemplate": {**SPEC["TaskTemplate"], **restart}}
    answer = await manager.ask("POST", "/services/create", bad)
    assert answer == (400, {"message": 'invalid RestartCondition: "sometimes"'})
    bad = {**SPEC, "UpdateConfig": {"Order": "sideways"}}
    answer = await manager.ask("POST", "/services/create", bad)
    assert answer == (400, {"message": "unrecognized update order sideways"})
    bad = {**SPEC, "EndpointSpec": {"Mode": "bogus"}}
    answer = await manager.ask("POST", "/services/create", bad)
    assert answer == (400, {"message": 'invalid resolution mode: "bogus"'})
    answer = await manager.ask("POST", "/services/create", {"Name": "web"})
    assert answer == (400, {"message": "mismatched Runtime and *Spec fields"})
    wrong = 'invalid value for insertDefaults: x: strconv.ParseBool: parsing "x": invalid syntax'
    assert await manager.ask("GET", "/services/web?insertDefaults=x") == (400, {"message": wrong})
    assert await manager.ask("GET", "/services/nosuch") == (404, {"message": "service nosuch not found"})
    assert await manager.ask("DELETE", "/services/nosuch") == (404, {"message": "service nosuch not found"})


async def test_update_and_rollback(manager):
    await create(manager)
    scaled = {**SPEC, "Mode": {"Replicated": {"Replicas": 5}}}
    path = "/services/web/update"
    assert await manager.ask("POST", f"{path}?version=100&registryAuthFrom=spec", scaled) == (
        200,
        {"Warnings": None},
    )
    assert (await manager.ask("GET", "/services/web"))[1]["PreviousSpec"] == SPEC
    text = "rpc error: code = Unknown desc = update out of sequence"
    assert await manager.ask("POST", f"{path}?version=100", scaled) == (500, {"message": text})
    assert await manager.ask("POST", f"{path}?version=101&rollback=previous", scaled) == (
        200,
        {"Warnings": None},
    )
    assert (await manager.ask("GET", "/services/web"))[1]["Spec"] == SPEC
    for query in ("version=", "version=x", "version=1&rollback=other", "version=1&registryAuthFrom=other"):
        assert (await manager.ask("POST", f"{path}?{query}", SPEC))[0] == 400


async def test_tasks(manager):
    key = await create(manager)
    manager.manager.run_tasks(manager.manager.services[key])
    filters = json.dumps({"service": {"web": True}, "_up-to-date": {"true": True}})
    status, body = await manager.ask("GET", "/tasks", params={"filters": filters})
    assert (status, [t["Slot"] for t in body]) == (200, [1, 2])
    assert {t["Status"]["State"] for t in body} == {"running"}
    assert "service_name" not in json.dumps(body)
    assert {(f.key, f.value) for f in manager.manager.requests[-1].filters} == {
        ("service", "web"),
        ("_up-to-date", "true"),
    }
    assert (await manager.ask("GET", f"/tasks/{body[0]['ID']}"))[1] == body[0]
    wrong = json.dumps({"desired-state": ["asleep"]})
    answer = await manager.ask("GET", "/tasks", params={"filters": wrong})
    assert answer == (400, {"message": "Invalid desired-state filter: 'asleep'"})
    assert await manager.ask("GET", "/tasks/nosuch") == (404, {"message": "task nosuch not found"})


async def test_the_runtime_is_said_of_services_only(manager):
    """As in Docker: a service's template names it, its tasks' specs don't."""
    spec = model.TaskSpec(container=model.ContainerSpec(image="nginx"), runtime="container")
    for version in (0, 7):
        manager.manager.add(model.Task(id="t", version=version, spec=spec))
        assert "Runtime" not in (await manager.ask("GET", "/tasks/t"))[1]["Spec"]
    manager.manager.add(model.Service(id="s", version=3, spec=model.ServiceSpec(name="web", task=spec)))
    assert (await manager.ask("GET", "/services/s"))[1]["Spec"]["TaskTemplate"]["Runtime"] == "container"


async def test_a_tasks_networks_are_encoded_anew_when_they_change(manager):
    network = model.Network(id="net", version=5, spec=model.NetworkSpec(name="one"))
    task = model.Task(id="t", version=7, networks=(model.NetworkAttachment(network, ("10.0.0.2/24",)),))
    for version, name in ((5, "one"), (6, "two")):
        network = dataclasses.replace(network, version=version, spec=model.NetworkSpec(name=name))
        manager.manager.add(dataclasses.replace(task, networks=(model.NetworkAttachment(network),)))
        body = (await manager.ask("GET", "/tasks/t"))[1]
        assert body["NetworksAttachments"][0]["Network"]["Spec"]["Name"] == name


async def test_what_is_not_built_says_so(manager):
    for path in ("/secrets", "/plugins"):
        assert await manager.ask("GET", path) == (200, [])
    assert await manager.ask("GET", "/volumes") == (200, {"Volumes": [], "Warnings": None})
    assert await manager.ask("GET", "/volumes/web") == (404, {"message": "get web: no such volume"})
    assert await manager.ask("GET", "/secrets/nosuch") == (404, {"message": "secret nosuch not found"})
    assert (await manager.ask("DELETE", "/volumes/web?force=1"))[0] == 204
    assert await manager.ask("GET", "/volumes", params={"filters": '{"x": ["y"]}'}) == (
        400, {"message": "Invalid filter 'x'"},
    )  # fmt: skip
    for verb, path in (("DELETE", "/plugins/a/b"), ("POST", "/plugins/a/b/enable")):
        assert await manager.ask(verb, path) == (404, {"message": 'plugin "a/b" not found'})
    assert await manager.ask("POST", "/commit") == (400, {"message": 'invalid name or ID supplied: ""'})
    for path in ("/secrets/create", "/build", "/plugins/pull"):
        status, body = await manager.ask("POST", path, {})
        assert (status, "supported yet" in body["message"]) == (501, True)


async def test_a_service_without_a_name_gets_one(manager):
    nameless = {key: value for key, value in SPEC.items() if key != "Name"}
    for _ in range(2):
        status, body = await manager.ask("POST", "/services/create", nameless)
        assert status == 201, body
    names = {service.spec.name for service in manager.manager.services.values()}
    assert len(names) == 2
    assert all(re.fullmatch(r"[a-z]+_[a-z]+[1-9]?", name) for name in names)


async def test_a_name_that_is_taken_is_not_given_again(manager, monkeypatch):
    monkeypatch.setattr("agent.engine.services.secrets.randbelow", lambda _: 0)
    nameless = {key: value for key, value in SPEC.items() if key != "Name"}
    answers = [await manager.ask("POST", "/services/create", nameless) for _ in range(7)]
    assert [status for status, _ in answers] == [201] * 6 + [409]
    assert answers[-1][1]["message"].endswith("give it one with --name")
    names = [service.spec.name for service in manager.manager.services.values()]
    assert names == ["agile_anchovy", *(f"agile_anchovy{n}" for n in range(1, 6))]

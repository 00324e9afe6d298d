"""common/apijson.py: what real clients and a real daemon said to each other survives both ways, word for word."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import apijson, errors, model

DATA = pathlib.Path(__file__).parent / "data"
RECORDED = [
    pytest.param(
        getattr(model, "".join(part.title() for part in path.stem.split("_"))), item, id=f"{path.stem}-{i}"
    )
    for path in sorted(DATA.glob("*.json"))
    for i, item in enumerate(json.loads(path.read_text()))
]


@pytest.mark.parametrize(("cls", "item"), RECORDED)
def test_recorded_objects_come_back_as_they_were(cls, item):
    obj = apijson.decode(cls, item)
    assert apijson.encode(obj) == item
    assert list(apijson.encode(obj)) == list(item), "keys in Docker's order"
    assert cls.from_bytes(obj.to_bytes()) == obj, "and through the wire"


def test_only_api_fields_leave():
    task = model.Task(id="t", name="hidden", service_name="hidden", endpoint_index=7)
    assert "hidden" not in apijson.dumps(task).decode()
    spec = model.ContainerSpec(image="nginx", pull_auth="c2VjcmV0")
    assert apijson.encode(spec) == {"Image": "nginx"}
    cluster = model.Cluster(root_ca=model.RootCA(key=b"secret"))
    assert b"secret" not in apijson.dumps(cluster)
    assert "RootCA" not in apijson.encode(cluster)


def test_what_is_taken_in_but_never_given_out():
    spec = apijson.decode(model.SecretSpec, {"Name": "pw", "Data": "aGVsbG8="})
    assert spec.data == b"hello"
    assert apijson.encode(spec) == {"Name": "pw", "Labels": {}}
    assert apijson.decode(model.CAConfig, {"SigningCAKey": "k"}).signing_ca_key == "k"


def test_fields_without_a_docker_name_are_not_read():
    assert apijson.decode(model.ContainerSpec, {"pullAuth": "x", "pull_auth": "x"}).pull_auth == ""


def test_keys_are_read_case_insensitively_and_unknown_ones_ignored():
    spec = apijson.decode(
        model.ServiceSpec, {"name": "web", "LABELS": {"Aa": "b"}, "Nonsense": 1, "Mode": None}
    )
    assert (spec.name, dict(spec.labels)) == ("web", {"Aa": "b"})


def test_empty_values():
    assert apijson.encode(model.Node())["CreatedAt"] == "0001-01-01T00:00:00Z"
    assert apijson.encode(model.Cluster())["DefaultAddrPool"] is None
    assert apijson.encode(model.JobStatus()) == {"JobIteration": {}}
    assert apijson.encode(model.Task(job_iteration=0))["JobIteration"] == {}
    assert "JobIteration" not in apijson.encode(model.Task())
    assert apijson.encode(model.NodeSpec()) == {"Labels": {}, "Role": "worker", "Availability": "active"}
    assert apijson.encode(model.UpdateConfig(max_failure_ratio=0.25))["MaxFailureRatio"] == 0.25
    assert b'"MaxFailureRatio":0,' in apijson.dumps(model.UpdateConfig())


@pytest.mark.parametrize(
    ("cls", "data", "text"),
    [
        (model.NodeSpec, {"Availability": "sleeping"}, 'invalid Availability: "sleeping"'),
        (model.NodeSpec, {"Role": "boss"}, 'invalid Role: "boss"'),
        (model.RestartPolicy, {"Condition": "sometimes"}, 'invalid RestartCondition: "sometimes"'),
        (model.UpdateConfig, {"FailureAction": "explode"}, "unrecognized update failure action explode"),
        (model.UpdateConfig, {"Order": "sideways"}, "unrecognized update order sideways"),
        (
            model.ServiceSpec,
            {"TaskTemplate": {"ForceUpdate": "1"}},
            "invalid JSON: json: cannot unmarshal string into Go struct field TaskSpec.TaskTemplate.ForceUpdate of type uint64",
        ),
        (
            model.ServiceSpec,
            {"TaskTemplate": {"ForceUpdate": -1}},
            "invalid JSON: json: cannot unmarshal number -1 into Go struct field TaskSpec.TaskTemplate.ForceUpdate of type uint64",
        ),
        (
            model.ServiceSpec,
            {"Name": True},
            "invalid JSON: json: cannot unmarshal bool into Go struct field ServiceSpec.Name of type string",
        ),
        (
            model.ServiceSpec,
            {"TaskTemplate": {"ContainerSpec": {"Args": "x"}}},
            "invalid JSON: json: cannot unmarshal string into Go struct field ContainerSpec.TaskTemplate.ContainerSpec.Args of type []string",
        ),
        (
            model.ContainerSpec,
            {"TTY": 1},
            "invalid JSON: json: cannot unmarshal number into Go struct field ContainerSpec.TTY of type bool",
        ),
        (
            model.ServiceSpec,
            [],
            "invalid JSON: json: cannot unmarshal array into Go value of type ServiceSpec",
        ),
    ],
)
def test_wrong_input_is_refused_with_dockers_text(cls, data, text):
    with pytest.raises(errors.InvalidArgument) as caught:
        apijson.decode(cls, data)
    assert caught.value.message == text


def test_broken_base64_and_times_are_refused():
    with pytest.raises(errors.InvalidArgument, match="illegal base64"):
        apijson.decode(model.ConfigSpec, {"Data": "%%%"})
    with pytest.raises(errors.InvalidArgument, match="parsing time"):
        apijson.decode(model.Node, {"CreatedAt": "yesterday"})


def test_lone_surrogates_become_the_replacement_character():
    spec = apijson.decode(model.ServiceSpec, json.loads('{"Name": "a\\ud800b"}'))
    assert spec.name == "a\ufffdb"
    assert model.ServiceSpec.from_bytes(spec.to_bytes()).name == "a\ufffdb"


def test_older_clients_cannot_mean_newer_fields():
    spec = {
        "TaskTemplate": {"ContainerSpec": {"Image": "x", "Sysctls": {"a": "b"}, "CapabilityAdd": ["ALL"]}}
    }
    assert apijson.without_newer(spec, (1, 50)) == spec
    assert apijson.without_newer(spec, (1, 40))["TaskTemplate"]["ContainerSpec"] == {
        "Image": "x", "Sysctls": {"a": "b"},
    }  # fmt: skip
    assert apijson.without_newer(spec, (1, 39))["TaskTemplate"]["ContainerSpec"] == {"Image": "x"}


def test_words():
    assert apijson.word(model.NodeState.NODE_READY) == "ready"
    assert apijson.parse_word(model.TaskState, "running") is model.TaskState.TASK_RUNNING
    assert apijson.parse_word(model.TaskState, "nonsense") is None


@given(st.integers(min_value=1, max_value=4_000_000_000_000_000_000))
def test_times_come_back(ns):
    assert apijson.parse_time(apijson.format_time(ns)) == ns


def test_time_forms():
    assert apijson.format_time(1795227620_276350298) == "2026-11-21T02:20:20.276350298Z"
    assert apijson.format_time(1795227620_500000000) == "2026-11-21T02:20:20.5Z"
    assert apijson.parse_time("2026-11-21T04:20:20+02:00") == 1795227620_000000000
    assert apijson.parse_time(apijson.ZERO_TIME) == 0

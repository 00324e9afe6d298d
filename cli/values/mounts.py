"""`--mount type=…,source=…,target=…`. Pure."""

from __future__ import annotations

import os
from typing import Any

from cli.flags import Kind
from cli.values.basic import boolean, fields, size

_IMPLIED_TRUE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
_OPTIONS = {
    "bind": "BindOptions",
    "volume": "VolumeOptions",
    "tmpfs": "TmpfsOptions",
    "image": "ImageOptions",
}


def mount(text: str) -> list[dict[str, Any]]:
    """The API's mount of one --mount."""
    found: dict[str, Any] = {
        "Type": "volume",
        "Source": "",
        "Target": "",
        "ReadOnly": False,
        "Consistency": "",
    }
    options: dict[str, dict[str, Any]] = {}
    for key, value, equals in fields(text):
        name = key.lower()
        if not equals:
            if name not in _IMPLIED_TRUE:
                raise ValueError(f"invalid field '{key}' must be a key=value pair")
            value = "true"
        _field(found, options, name, value)
    return [_checked(found, options)]


def _field(found: dict[str, Any], options: dict[str, dict[str, Any]], name: str, value: str) -> None:
    if name == "type":
        found["Type"] = value.lower()
    elif name in ("source", "src"):
        found["Source"] = value
        if value == "." or value.startswith(("./", "../")):
            found["Source"] = os.path.abspath(value)
    elif name in ("target", "dst", "destination"):
        found["Target"] = value
    elif name in ("readonly", "ro"):
        found["ReadOnly"] = _switch(name, value)
    elif name == "consistency":
        found["Consistency"] = value.lower()
    elif name.startswith("bind-"):
        _bind(options.setdefault("bind", {}), name, value)
    elif name.startswith("volume-"):
        _volume(options.setdefault("volume", {}), name, value)
    elif name == "tmpfs-size":
        try:
            options.setdefault("tmpfs", {})["SizeBytes"] = size(value)
        except ValueError:
            raise ValueError(f"invalid value for {name}: {value}") from None
    elif name == "tmpfs-mode":
        options.setdefault("tmpfs", {})["Mode"] = _octal(name, value)
    elif name == "image-subpath":
        options.setdefault("image", {})["Subpath"] = value
    else:
        raise ValueError(f"unexpected key '{name}' in '{name}={value}'")


def _bind(options: dict[str, Any], name: str, value: str) -> None:
    if name == "bind-propagation":
        options["Propagation"] = value.lower()
    elif name == "bind-nonrecursive":
        options["NonRecursive"] = _switch(name, value)
    elif name == "bind-create-src":
        options["CreateMountpoint"] = _switch(name, value)
    elif name == "bind-recursive":
        choices: dict[str, dict[str, Any]] = {
            "enabled": {},
            "disabled": {"NonRecursive": True},
            "writable": {"ReadOnlyNonRecursive": True},
            "readonly": {"ReadOnlyForceRecursive": True},
        }
        if value not in choices:
            raise ValueError(
                f'invalid value for {name}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
            )
        options.update(choices[value])
    else:
        raise ValueError(f"unexpected key '{name}' in '{name}={value}'")


def _volume(options: dict[str, Any], name: str, value: str) -> None:
    if name == "volume-subpath":
        options["Subpath"] = value
    elif name == "volume-nocopy":
        options["NoCopy"] = _switch(name, value)
    elif name == "volume-label":
        key, _, text = value.partition("=")
        options.setdefault("Labels", {})[key] = text
    elif name == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    elif name == "volume-opt":
        key, _, text = value.partition("=")
        options.setdefault("DriverConfig", {}).setdefault("Options", {})[key] = text
    else:
        raise ValueError(f"unexpected key '{name}' in '{name}={value}'")


def _checked(found: dict[str, Any], options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    kind = found["Type"]
    if not kind:
        raise ValueError("type is required")
    if not found["Target"]:
        raise ValueError("target is required")
    for other, settings in options.items():
        if other != kind and settings:
            raise ValueError(f"cannot mix '{other}-*' options with mount type '{kind}'")
    result = {key: value for key, value in found.items() if value}
    if options.get(kind):
        result[_OPTIONS[kind]] = options[kind]
    return result


def _switch(name: str, value: str) -> bool:
    try:
        return boolean(value)
    except ValueError:
        raise ValueError(f"invalid value for {name}: {value}") from None


def _octal(name: str, value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise ValueError(f"invalid value for {name}: {value}") from None


MOUNTS = Kind("mount", mount, repeated=True)

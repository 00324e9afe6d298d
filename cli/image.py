"""`shoal image …`, `pull`, `load` and `images`: the images of this node."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from cli import clock
from cli.client import filters_of
from cli.command import ONE, SOME, Arguments, Command, Entry, Group, Session
from cli.common_flags import FILTERS, INSPECT_FORMAT, LIST_FORMAT
from cli.errors import CliError
from cli.flags import Flag, Values
from cli.output.inspecting import inspect
from cli.output.listing import write_list
from cli.output.progress import Display, Progress
from cli.output.units import SECOND, ago, decimal_size, moment
from cli.values.basic import BOOL, STRING
from cli.values.images import Image, with_default_tag

GROUP = Group(
    "Manage images",
    (
        Entry("inspect", "Display detailed information on one or more images", "cli.image:INSPECT"),
        Entry("load", "Load an image from a tar archive or STDIN", "cli.image:LOAD"),
        Entry("ls", "List images", "cli.image:LS", ("list",)),
        Entry("pull", "Download an image from a registry", "cli.image:PULL"),
        Entry("rm", "Remove one or more images", "cli.image:RM", ("remove",)),
    ),
)
_HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}
_TABLE = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_DIGESTS = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
_NONE = "<none>"


def _ls(session: Session, flags: Values, names: list[str]) -> int:
    filters = filters_of(flags.every("filter"))
    if names:
        filters.setdefault("reference", {})[names[0]] = True
    query = {"all": "1"} if flags.on("all") else {}
    images = session.client.get("/images/json", query, filters)
    now = clock.now()
    rows = [row for image in images for row in _rows(image, flags.on("no-trunc"), flags.on("digests"), now)]
    quiet = "ID" if flags.on("quiet") else ""
    table = _DIGESTS if flags.on("digests") else _TABLE
    write_list(session.out, rows, _HEADERS, table, flags.text("format"), quiet)
    return 0


def _rows(image: dict[str, Any], whole: bool, digests: bool, now: int) -> Iterator[dict[str, str | bool]]:
    ident = image["Id"] if whole else image["Id"].partition(":")[2][:12] or image["Id"][:12]
    created = int(image.get("Created", 0)) * SECOND
    known = {_split(name, "@")[0]: _split(name, "@")[1] for name in image.get("RepoDigests") or []}
    tags = [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
    named = [_split(tag, ":") for tag in tags] or [(name, _NONE) for name in known] or [(_NONE, _NONE)]
    for repository, tag in named:
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": known.get(repository, _NONE),
            "ID": ident,
            "CreatedSince": f"{ago(now - created)} ago" if created else "N/A",
            "CreatedAt": moment(created),
            "Size": decimal_size(image.get("Size", 0)),
        }
        if not tags and not digests:
            return


def _split(text: str, separator: str) -> tuple[str, str]:
    name, _, rest = text.rpartition(separator)
    return name, rest


def _pull(session: Session, flags: Values, names: list[str]) -> int:
    try:
        image = Image(names[0])
    except ValueError as error:
        raise CliError(str(error)) from None
    quiet = flags.on("quiet")
    if flags.on("all-tags") and (image.tag or image.digest):
        raise CliError("tag can't be used with --all-tags/-a")
    if not image.tag and not image.digest and not flags.on("all-tags"):
        if not quiet:
            session.say("Using default tag: latest")
        image.tag = "latest"
    query = {"fromImage": image.name}
    if not flags.on("all-tags"):
        query["tag"] = image.digest or image.tag
    if flags.text("platform"):
        query["platform"] = flags.text("platform")
    from cli.registry_auth import encoded_auth

    auth = encoded_auth(names[0], os.environ)
    messages = session.client.messages("POST", "/images/create", query, headers={"X-Registry-Auth": auth})
    show_progress(session.out, messages, quiet)
    whole = f"{image.domain}/{image.path}"
    session.say(f"{whole}@{image.digest}" if image.digest else f"{whole}:{image.tag}" if image.tag else whole)
    return 0


def show_progress(out: TextIO, messages: Iterator[dict[str, Any]], quiet: bool) -> None:
    """Draw what the daemon says; its error ends the command."""
    display = Display(out, quiet)
    for message in messages:
        if message.get("error") or message.get("errorDetail"):
            raise CliError(str((message.get("errorDetail") or {}).get("message") or message["error"]))
        if "stream" in message:
            if not quiet:
                out.write(message["stream"])
            continue
        detail = message.get("progressDetail") or {}
        if message.get("id"):
            display.show(
                Progress(
                    str(message["id"]),
                    str(message.get("status", "")),
                    int(detail.get("current") or 0),
                    int(detail.get("total") or 0),
                    counts=True,
                )
            )
        elif message.get("status"):
            display.message(str(message["status"]))


def _load(session: Session, flags: Values, _: list[str]) -> int:
    path = flags.text("input")
    if path:
        try:
            file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed below, beside the other source
        except OSError as error:
            raise CliError(f"open {path}: {(error.strerror or 'failed').lower()}") from None
    else:
        if sys.stdin.isatty():
            raise CliError("requested load from stdin, but stdin is empty")
        file = sys.stdin.buffer
    try:
        query = {"quiet": "1"} if flags.on("quiet") else {"quiet": "0"}
        messages = session.client.messages("POST", "/images/load", query, file)
        show_progress(session.out, messages, quiet=False)
    finally:
        if path:
            file.close()
    return 0


def _inspect(session: Session, flags: Values, names: list[str]) -> int:
    def fetch(name: str) -> Any:
        return session.client.get(f"/images/{name}/json")

    return inspect(session, names, fetch, flags.text("format"), escape=False)


def _rm(session: Session, flags: Values, names: list[str]) -> int:
    query = {"force": "1"} if flags.on("force") else {}
    if flags.on("no-prune"):
        query["noprune"] = "1"
    problems: list[str] = []
    for name in names:
        try:
            for step in session.client.delete(f"/images/{with_default_tag(name)}", query) or []:
                for word in ("Deleted", "Untagged"):
                    if step.get(word):
                        session.say(f"{word}: {step[word]}")
        except CliError as error:
            problems.append(error.message)
    if problems:
        raise CliError("\n".join(problems))
    return 0


LS = Command(
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    _ls,
    (
        Flag("all", BOOL, "Show all images (default hides intermediate images)", short="a"),
        Flag("digests", BOOL, "Show digests"),
        FILTERS,
        LIST_FORMAT,
        Flag("no-trunc", BOOL, "Don't truncate output"),
        Flag("quiet", BOOL, "Only show image IDs", short="q"),
    ),
    Arguments(0, 1),
    aliases=("list",),
)
PULL = Command(
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    _pull,
    (
        Flag("all-tags", BOOL, "Download all tagged images in the repository", short="a"),
        Flag("platform", STRING, "Set platform if server is multi-platform capable"),
        Flag("quiet", BOOL, "Suppress verbose output", short="q"),
    ),
    ONE,
)
LOAD = Command(
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    _load,
    (
        Flag("input", STRING, "Read from tar archive file, instead of STDIN", short="i"),
        Flag("quiet", BOOL, "Suppress the load output", short="q"),
    ),
)
INSPECT = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    _inspect,
    (INSPECT_FORMAT,),
    SOME,
)
RM = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    _rm,
    (
        Flag("force", BOOL, "Force removal of the image", short="f"),
        Flag("no-prune", BOOL, "Do not delete untagged parents"),
    ),
    SOME,
    aliases=("remove",),
)

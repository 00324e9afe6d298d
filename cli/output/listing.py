"""Lists as `docker` prints them: a table, chosen fields of one, lines by a template, or JSON. Used by every `ls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TextIO

from cli.errors import CliError
from cli.output import gojson
from cli.output.tables import table
from cli.output.template_parser import TemplateError
from cli.output.templates import Methods, Template

Row = Mapping[str, str | bool]


def write_list(
    out: TextIO,
    rows: Sequence[Row],
    headers: Mapping[str, str],
    default: str,
    form: str = "",
    quiet: str = "",
    labels: Sequence[Mapping[str, str]] | None = None,
) -> None:
    """Print rows. `headers`: the title of each field; `default`: the table's template; `form`: what --format said;
    `quiet`: the field that -q prints, or "" when -q wasn't given; `labels`: those of each row, where {{.Label "x"}} may ask
    for one."""
    if quiet and form.strip() in ("", "table"):
        out.write("".join(f"{row[quiet]}\n" for row in rows))
        return
    chosen = (form or "table").strip()
    if chosen == "json":
        out.write("".join(gojson.encode(dict(row), escape=True, sort=True) + "\n" for row in rows))
        return
    if chosen == "table":
        chosen = "table " + default
    as_table = chosen.startswith("table")
    text = chosen.removeprefix("table").strip() if as_table else chosen
    text = text.replace("\\t", "\t").replace("\\n", "\n")
    methods: list[Methods] = [{"Label": partial(_label, own)} for own in labels or ()]
    if as_table and labels is not None:
        methods.insert(0, {"Label": _label_title})
    rendered = render(text, [headers, *rows] if as_table else rows, methods)
    if as_table:
        out.write(table([line.split("\t") for line in rendered]))
    else:
        out.write("".join(line + "\n" for line in rendered))


def _label(labels: Mapping[str, str], name: str) -> str:
    return labels.get(name, "")


def _label_title(name: str) -> str:
    """What stands above the values of a label: "com.example.my-zone" is "my zone"."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def render(text: str, rows: Sequence[Mapping[str, str | bool]], methods: Sequence[Methods] = ()) -> list[str]:
    """One line for each row; `methods` of each, if they have any."""
    try:
        template = Template(text)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", 64) from None
    known = rows[0] if rows else {}
    for name in template.first_fields:
        if rows and name not in known and not (methods and name in methods[0]):
            raise CliError(f'template: :1:2: executing "" at <.{name}>: can\'t evaluate field {name}')
    lines = []
    for at, row in enumerate(rows):
        try:
            shown = {name: row[name] for name in sorted(row)}  # {{json .}} sorts
            lines.append(template.render(shown, methods[at] if methods else None))
        except TemplateError as error:
            raise CliError(f"template: {error}") from None
    return lines

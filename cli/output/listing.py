"""Lists as `docker` prints them: a table, chosen fields of one, lines by a template, or JSON. Used by every `ls`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from cli.errors import CliError
from cli.output import gojson
from cli.output.tables import table
from cli.output.template_parser import TemplateError
from cli.output.templates import Template

Row = Mapping[str, str | bool]


def write_list(
    out: TextIO,
    rows: Sequence[Row],
    headers: Mapping[str, str],
    default: str,
    form: str = "",
    quiet: str = "",
) -> None:
    """Print rows. `headers`: the title of each field; `default`: the table's template; `form`: what --format said;
    `quiet`: the field that -q prints, or "" when -q wasn't given."""
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
    rendered = render(text, [headers, *rows] if as_table else rows)
    if as_table:
        out.write(table([line.split("\t") for line in rendered]))
    else:
        out.write("".join(line + "\n" for line in rendered))


def render(text: str, rows: Sequence[Mapping[str, str | bool]]) -> list[str]:
    try:
        template = Template(text)
    except TemplateError as error:
        raise CliError(f"template parsing error: {error}", 64) from None
    known = rows[0] if rows else {}
    for name in template.first_fields:
        if rows and name not in known:
            raise CliError(f'template: :1:2: executing "" at <.{name}>: can\'t evaluate field {name}')
    lines = []
    for row in rows:
        try:
            lines.append(template.render({name: row[name] for name in sorted(row)}))  # {{json .}} sorts
        except TemplateError as error:
            raise CliError(f"template: {error}") from None
    return lines

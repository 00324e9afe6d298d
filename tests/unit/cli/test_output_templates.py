"""Go-style templates."""

from __future__ import annotations

import pytest

from cli.output.template_parser import TemplateError
from cli.output.templates import Template

NODE = {
    "ID": "n1",
    "Spec": {"Labels": {"zone": "a", "disk": "ssd"}, "Role": "manager", "Replicas": 3, "Ratio": 0.25},
    "Ports": [{"P": 80}, {"P": 443}],
    "Leader": True,
    "Nothing": None,
    "Empty": [],
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.ID}} is {{.Spec.Role}}", "n1 is manager"),
        ("{{json .Spec.Labels}}", '{"zone":"a","disk":"ssd"}'),
        ("{{.Spec.Labels}}", "map[disk:ssd zone:a]"),
        ("{{.Ports}}", "[map[P:80] map[P:443]]"),
        ("{{range .Ports}}{{.P}};{{end}}", "80;443;"),
        ("{{range $i, $p := .Ports}}{{$i}}={{$p.P}} {{end}}", "0=80 1=443 "),
        ("{{range $k, $v := .Spec.Labels}}{{$k}}:{{$v}},{{end}}", "disk:ssd,zone:a,"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .Leader}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Empty}}a{{else if eq .ID `n1`}}b{{else}}c{{end}}", "b"),
        ("{{with .Spec}}{{.Role}}{{end}}{{$.ID}}", "managern1"),
        ('{{.Spec.Role | upper | printf "%-9s|"}}', "MANAGER  |"),
        ("{{ .ID -}}   x", "n1x"),
        ("x   {{- .ID}}", "xn1"),
        ("{{/* nothing */}}a", "a"),
        ('{{index .Spec.Labels "zone"}}{{(index .Ports 1).P}}', "a443"),
        ("{{len .Ports}} {{not .Leader}} {{and .Leader .ID}} {{or .Empty .ID}}", "2 false n1 n1"),
        ('{{join (split "a,b" ",") "-"}}', "a-b"),
        ("{{.Spec.Replicas}} {{.Spec.Ratio}} {{.Nothing}} {{.Missing}}", "3 0.25 <nil> <no value>"),
        ("{{if gt .Spec.Replicas 2}}many{{end}}", "many"),
        ("{{$x := .ID}}{{$x}}{{println $x}}", "n1n1\n"),
        ('{{title "abc"}}{{pad "x" 1 2}}|{{truncate "abcdef" 3}}', "Abc x  |abc"),
    ],
)
def test_render(text: str, shown: str) -> None:
    assert Template(text).render(NODE) == shown


@pytest.mark.parametrize(
    "text", ["{{.ID", "{{if .ID}}x", "{{end}}", "{{nope .ID}}", "{{.ID | }}", "{{(.ID}}", '{{template "x"}}']
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text)


@pytest.mark.parametrize(
    "text", ["{{.ID.Name}}", "{{.Nothing.X}}", "{{.Missing.X}}", "{{index .Ports 7}}", "{{$y}}"]
)
def test_what_does_not_fit_the_value(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text).render(NODE)


def test_fields_that_json_left_out_have_their_zero_value() -> None:
    template = Template(
        "{{.Hostname}}|{{.Slot}}|{{range .Env}}x{{end}}", {"Hostname": "", "Slot": 0, "Env": []}
    )
    assert template.render({}) == "|0|"

"""The table of a comparison on the screen."""

import re

import pytest

from dropmax.cli.screen import print_table

HEADING = [
    *("head", "seeds", "error %", "minus softmax [95 %]", "wins", "NLL, nats", "ECE %", "Brier")
]
NAME = "dropmax:preset=paper,aux_prior=base_rate"
ROWS = [
    HEADING,
    ["softmax", "10", "24.69 ± 0.36", "", "", "0.234 ± 0.023", "12.89 ± 0.28", "0.077 ± 0.006"],
    [
        *(f"`{NAME}`", "10", "23.13 ± 0.23", "-1.56 [-1.71, -1.41]"),
        *("10 of 10", "0.103 ± 0.007", "10.97 ± 0.16", "0.047 ± 0.003"),
    ],
]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_no_number_is_cut_on_a_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(ROWS)
    printed = ANSI.sub("", capsys.readouterr().out)
    assert all(len(line) <= columns for line in printed.splitlines())
    for cell in ("24.69 ± 0.36", "-1.56", "[-1.71,-1.41]", "0.103 ± 0.007", "10.97 ± 0.16"):
        assert cell in printed
    assert "0.077" not in printed


def test_a_name_and_its_numbers_are_on_one_line_in_a_file(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_table(ROWS)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "base_rate" in line]
    assert NAME in line
    assert "-1.56 [-1.71,-1.41]" in line
    assert "`" not in line


def test_a_name_is_no_markup(capsys):
    print_table([HEADING, ["[bold]a[/bold]", *ROWS[1][1:]]])
    assert "[bold]a[/bold]" in capsys.readouterr().out

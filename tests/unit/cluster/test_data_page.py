"""docs/data.md lists every table and column as the schema has them."""

from pathlib import Path

from cluster.describe import describe_tables

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->"


def test_the_page_lists_the_tables_as_they_are():
    text = PAGE.read_text()
    shown = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert shown.strip() == describe_tables().strip(), "run: restock data tables, and paste it between the marks"

"""The tables section of docs/data.md, made from the schema."""

from cluster.schema import DAY, INSTANT, NUMBER, TABLES

_KIND = {str(DAY): "date", str(INSTANT): "instant", str(NUMBER): "number"}


def describe_tables() -> str:
    """Every table and column as Markdown: what it is called, its kind, its unit, whether it must be there."""
    parts = []
    for table, schema in TABLES.items():
        lines = [f"### {table}", "", "| column | kind | unit | required | meaning |", "|---|---|---|---|---|"]
        for column in schema:
            about = {key.decode(): text.decode() for key, text in column.metadata.items()}
            kind, required = _KIND.get(str(column.type), "text"), "" if column.nullable else "yes"
            lines.append(f"| `{column.name}` | {kind} | {about['unit']} | {required} | {about['description']} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"

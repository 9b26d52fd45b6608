"""Write docs/configuration.md and docs/sheet.md from the schemas: python docs/make_tables.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]

CONFIGURATION = """# Configuration

The keys of `config/config.yaml`, with the shipped values. Made from the schema by `docs/make_tables.py`.

| key | shipped | meaning |
|---|---|---|
"""

SHEET = """# The sheet

Tab-separated text, one row an entry; lines that start with `#` are comments. Only `id` is needed. Relative paths start at the
working directory; `.gz` is allowed everywhere. Files are looked for in the row, then in `maps/`, then among the embedded
entries, then in the archive (EMDB). Made from the schema by `docs/make_tables.py`.

| column | meaning |
|---|---|
"""

DROPPED = """
Beside a dropped `maps/mine.mrc`: `maps/mine.pdb` or `.cif`, `maps/mine_half_map_1.mrc`, `maps/mine_half_map_2.mrc`.
Ids that end in `_emready`, `_evaluation`, `_half_map_1` or `_half_map_2` are refused.
"""


def read(name: str) -> Any:
    """A YAML file below the root of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def leaves(schema: Any, shipped: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Key, shipped value and description of every setting, in the order of the schema."""
    for key, inner in schema["properties"].items():
        if "properties" in inner:
            yield from leaves(inner, shipped[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", shipped[key], inner["description"]


def value(shipped: Any) -> str:
    """A shipped value as one cell."""
    if isinstance(shipped, dict):
        return ", ".join(f"`{key}`" for key in shipped)
    if isinstance(shipped, list):
        return "<br>".join(map(value, shipped))
    text = yaml.safe_dump(shipped, width=float("inf"))
    return f"`{text.removesuffix('...').strip().removesuffix('...').strip()}`"


def tables() -> dict[Path, str]:
    """The text of each page."""
    settings = leaves(read("workflow/schemas/config.schema.yaml"), read("config/config.yaml"))
    columns = read("workflow/schemas/entries.schema.yaml")["properties"].items()
    rows = "".join(f"| `{key}` | {value(shipped)} | {text} |\n" for key, shipped, text in settings)
    cells = "".join(f"| `{name}` | {schema['description']} |\n" for name, schema in columns)
    return {
        ROOT / "docs" / "configuration.md": CONFIGURATION + rows,
        ROOT / "docs" / "sheet.md": SHEET + cells + DROPPED,
    }


if __name__ == "__main__":
    for path, text in tables().items():
        path.write_text(text, encoding="utf-8")

"""The check of the configuration against its schema, with one line for whoever mistyped."""

import difflib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from cryoready.core.errors import CryoreadyError


def typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """``value`` with texts in the places of numbers and booleans read as such, in a fixed order.

    Snakemake's ``--config 'inference={tta: 4}'`` hands over nested values as text. It compares
    settings with the order of their keys, which means nothing: here it is that of the schema.
    """
    if isinstance(value, dict):
        inner = schema.get("properties", {})
        ordered = [
            *(key for key in inner if key in value),
            *(key for key in value if key not in inner),
        ]
        return {key: typed(value[key], inner.get(key, {})) for key in ordered}
    if isinstance(value, list):
        return [typed(item, schema.get("items", {})) for item in value]
    if isinstance(value, str) and schema and "string" not in schema.get("type", ""):
        read = yaml.safe_load(value)
        return value if isinstance(read, dict | list) else read
    return value


def read_config(config: Mapping[str, Any], schema_file: Path) -> dict[str, Any]:
    """``config``, typed and checked against the JSON schema in ``schema_file`` (YAML)."""
    schema = yaml.safe_load(schema_file.read_text(encoding="utf-8"))
    settings = {key: typed(item, schema["properties"].get(key, {})) for key, item in config.items()}
    check_config(settings, schema)
    return settings


def check_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Compare ``config`` with a JSON schema.

    Raises
    ------
    CryoreadyError
        naming the first wrong key or value, and the nearest valid key.
    """
    validator = Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.path)))
    unknown = next((e for e in errors if e.validator == "additionalProperties"), None)
    error = unknown or best_match(errors)
    if error is not None:
        raise CryoreadyError(f"configuration: {_explain(error, list(_keys(schema)))}")
    for place, value in _numbers(config):
        if not math.isfinite(value):
            raise CryoreadyError(f"configuration: {place} = {value}: must be a finite number")


def _numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """All numbers with their keys, with dots between levels."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, float):
        yield place, value


def _keys(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """All keys, with dots between levels."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{prefix}{name}"
        yield from _keys(inner, f"{prefix}{name}.")


def _explain(error: ValidationError, keys: list[str]) -> str:
    place = [str(part) for part in error.absolute_path]
    rule: Any = error.validator_value
    given: Any = error.instance
    if error.validator == "additionalProperties":
        level: Any = error.schema
        known = list(level["properties"])
        wrong = next(key for key in given if key not in known)
        beside = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
        deeper = [key for key in keys if key.rpartition(".")[2] == wrong]
        similar = [".".join([*place, name]) for name in beside]
        near = similar + deeper if place else deeper + similar  # at the top, a forgotten section
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"unknown key {'.'.join([*place, wrong])!r}; {hint}"
    if error.validator == "required":
        missing = next(key for key in rule if key not in given)
        return f"{'.'.join([*place, missing])!r} is missing (see config/config.yaml)"
    return f"{'.'.join(place)} = {given!r}: {error.message.splitlines()[0]}"

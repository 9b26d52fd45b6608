"""The check of the configuration against its schema, with one line for whoever mistyped."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from cryoready.core.errors import CryoreadyError


def check_config(config: Mapping[str, Any], schema_file: Path) -> None:
    """Compare ``config`` with the JSON schema in ``schema_file`` (YAML).

    Raises
    ------
    CryoreadyError
        naming the first wrong key or value, and the nearest valid key.
    """
    validator = Draft202012Validator(yaml.safe_load(schema_file.read_text(encoding="utf-8")))
    errors = sorted(validator.iter_errors(config), key=lambda error: list(map(str, error.path)))
    unknown = next((e for e in errors if e.validator == "additionalProperties"), None)
    error = unknown or best_match(errors)
    if error is not None:
        raise CryoreadyError(f"configuration: {_explain(error)}")


def _explain(error: ValidationError) -> str:
    place = [str(part) for part in error.absolute_path]
    rule: Any = error.validator_value
    given: Any = error.instance
    if error.validator == "additionalProperties":
        schema: Any = error.schema
        known = list(schema["properties"])
        wrong = next(key for key in given if key not in known)
        near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.4)
        hint = f"did you mean {'.'.join([*place, near[0]])!r}?" if near else f"known: {known}"
        return f"unknown key {'.'.join([*place, wrong])!r}; {hint}"
    if error.validator == "required":
        missing = next(key for key in rule if key not in given)
        return f"{'.'.join([*place, missing])!r} is missing (see config/config.yaml)"
    return f"{'.'.join(place)} = {given!r}: {error.message.splitlines()[0]}"

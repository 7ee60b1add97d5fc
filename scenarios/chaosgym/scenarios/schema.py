"""The JSON Schemas that editors check documents with: `python -m chaosgym.scenarios.schema [FOLDER]` writes them.

They say what a single field may be; what must hold between fields and documents, `chaosgym scenario check` says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chaosgym.app import App
from chaosgym.faults import FAULTS
from chaosgym.scenario import Scenario

__all__ = ["app_schema", "scenario_schema", "schema_files", "write_schemas"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"type": "string", "pattern": r"^\$\{[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)?\}$"}


def app_schema() -> dict[str, Any]:
    """JSON Schema of a file of kind App."""
    return {"$schema": _DIALECT, **App.model_json_schema(by_alias=True)}


def scenario_schema() -> dict[str, Any]:
    """JSON Schema of a file of kind Scenario; each fault allows its own parameters, or references in their place."""
    schema = Scenario.model_json_schema(by_alias=True)
    schema["$defs"]["FaultSpec"]["allOf"] = [_fault_rule(label) for label in sorted(FAULTS)]
    return {"$schema": _DIALECT, **schema}


def _fault_rule(label: str) -> dict[str, Any]:
    parameters = FAULTS[label].Parameters.model_json_schema()
    rule: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: {**_about(field), "anyOf": [field, _REFERENCE]} for name, field in parameters.get("properties", {}).items()},
    }
    required = parameters.get("required", [])
    if required:
        rule["required"] = required
    then: dict[str, Any] = {"properties": {"parameters": rule}}
    if required:
        then["required"] = ["parameters"]
    return {"if": {"properties": {"fault": {"const": label}}, "required": ["fault"]}, "then": then}


def _about(field: dict[str, Any]) -> dict[str, Any]:
    """Description and default, where an editor shows them."""
    return {key: field.pop(key) for key in ("title", "description", "default") if key in field}


def schema_files() -> dict[str, str]:
    """File name -> text."""
    schemas = {"app.schema.json": app_schema(), "scenario.schema.json": scenario_schema()}
    return {name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()}


def write_schemas(folder: Path) -> list[Path]:
    """Write both files; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schema_files().items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in schema_files()]


if __name__ == "__main__":
    for path in write_schemas(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schema")):
        print(path)

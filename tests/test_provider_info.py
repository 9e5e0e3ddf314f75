from __future__ import annotations

import ast
import importlib
import io
import json
from contextlib import redirect_stdout
from importlib.metadata import entry_points, version
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.cli import cli_parser
from airflow.providers.common.compat.sdk import redact
from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

import airflow_provider_hca
from airflow_provider_hca.get_provider_info import get_provider_info
from airflow_provider_hca.hooks.connection import KNOWN_EXTRAS
from airflow_provider_hca.hooks.dss import DSSHook

AIRFLOW_V_3_2_PLUS = get_base_airflow_version_tuple() >= (3, 2, 0)

_AIRFLOW = Path(airflow.__file__).parent


def test_info_satisfies_the_schema_of_airflow() -> None:
    """Airflow checks it at every start: an error breaks all commands."""
    info = get_provider_info()
    jsonschema.validate(info, json.loads((_AIRFLOW / "provider_info.schema.json").read_text()))
    assert info["package-name"] == "airflow-provider-hca"


def test_connection_type_satisfies_the_schema_of_airflows_own_providers() -> None:
    path = _AIRFLOW / "provider.yaml.schema.json"
    schema = json.loads(path.read_text())
    jsonschema.validate(get_provider_info()["connection-types"], schema["properties"]["connection-types"])


def test_info_is_a_literal_without_imports() -> None:
    source = Path(airflow_provider_hca.__file__).with_name("get_provider_info.py").read_text()
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert {getattr(node, "module", None) for node in imports} == {"__future__", "typing"}
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def test_all_modules_and_classes_can_be_imported() -> None:
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for group in info[kind]:
            for module in group["python-modules"]:
                importlib.import_module(module)
    for connection in info["connection-types"]:
        module, _, name = connection["hook-class-name"].rpartition(".")
        assert getattr(importlib.import_module(module), name).conn_type == connection["connection-type"]
    assert info["asset-uris"] == info["dataset-uris"]
    for uris in info["asset-uris"]:
        for key in ("handler", "to_openlineage_converter"):
            module, _, name = uris[key].rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))


def test_connection_form_has_all_extras() -> None:
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    assert set(fields) == KNOWN_EXTRAS
    assert all(field["label"] and field["description"] for field in fields.values())
    secret = {name for name, field in fields.items() if field["schema"].get("format") == "password"}
    assert secret == {"keyfile_dict", "refresh_token", "client_secret"}
    # Who may see a connection, in the UI or by Airflow's API, sees none of their values.
    assert redact(dict.fromkeys(secret, "value")) == dict.fromkeys(secret, "***")


if not AIRFLOW_V_3_2_PLUS:  # newer versions read the description

    def test_connection_form_is_the_same_on_older_airflow() -> None:
        fields = get_provider_info()["connection-types"][0]["conn-fields"]
        widgets = DSSHook.get_connection_form_widgets()
        assert list(widgets) == list(fields)
        for name, widget in widgets.items():
            assert str(widget.args[0]) == fields[name]["label"]
            assert widget.kwargs["description"] == fields[name]["description"]
            secret = fields[name]["schema"].get("format") == "password"
            assert widget.field_class.__name__ == ("PasswordField" if secret else "StringField")


def test_entry_point() -> None:
    (entry,) = [
        entry
        for entry in entry_points(group="apache_airflow_provider")
        if entry.value.startswith("airflow_provider_hca")
    ]
    assert entry.load()() == get_provider_info()
    assert version("airflow-provider-hca") == airflow_provider_hca.__version__


@pytest.mark.system  # imports the hooks of all providers: 2,100 modules and 200 MB
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["providers", "get", "airflow-provider-hca"], airflow_provider_hca.__version__),
        (["providers", "hooks"], "airflow_provider_hca.hooks.dss.DSSHook"),
        (["providers", "behaviours"], "hca_dss"),
    ],
)
def test_airflow_commands_show_the_provider(command: list[str], expected: str) -> None:
    options = cli_parser.get_parser().parse_args([*command, "--output", "json"])
    with redirect_stdout(io.StringIO()) as stdout:
        options.func(options)
    text = stdout.getvalue()
    assert expected in text
    rows = json.loads(text[text.index("[") :])
    assert not [row for row in rows if "hca" in str(row) and "rror" in str(row)]

"""Tests of example_dss_new_bundles_scheduled.py, which replaces the watcher on older versions of Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_hca.client.identifiers import make_version
from tests.local.server import LocalDSS, new_uuid
from tests.running import run, states, xcom
from tests.test_examples import load

_EXAMPLE = Path(__file__).parents[1] / "example_dags" / "example_dss_new_bundles_scheduled.py"


@pytest.mark.usefixtures("airflow_db")
def test_next_run_lists_bundles_of_a_failed_or_full_run(dss: LocalDSS, tmp_path: Path) -> None:
    few = tmp_path / _EXAMPLE.name
    example = _EXAMPLE.read_text().replace("MAX_PER_RUN = 1000", "MAX_PER_RUN = 2")
    few.write_text(example.replace('id="example', 'id="few_example'))
    noon = datetime(2995, 6, 1, 12, tzinfo=UTC)
    file = dss.new_file()
    versions = [make_version(noon + timedelta(minutes=minutes)) for minutes in range(3)]

    def listed(minutes: int) -> list[str] | None:
        dag_run = run(load(few), logical_date=noon + timedelta(minutes=minutes))
        if dag_run.state == "failed":
            return None
        return [bundle["version"] for bundle in xcom(dag_run, "pick_new")]

    assert listed(0) == []
    for version in versions:
        assert dss.put_bundle([dss.entry("a", file)], new_uuid(), version).status_code == 201
    dss.control("POST", "faults", {"method": "GET", "path": "/bundles/all", "action": "status", "status": 403})
    assert listed(10) is None
    dss.control("DELETE", "faults")
    assert listed(20) == versions[:2]
    assert listed(30) == versions[2:]
    assert listed(40) == []


@pytest.mark.usefixtures("airflow_db")
def test_run_lists_late_bundles_within_lookback_once(dss: LocalDSS) -> None:
    # In the future, so that no other test's bundles are newer.
    noon = datetime(2990, 6, 1, 12, tzinfo=UTC)
    file = dss.new_file()

    def put(moment: datetime) -> dict[str, str]:
        uuid, version = new_uuid(), make_version(moment)
        assert dss.put_bundle([dss.entry("a", file)], uuid, version).status_code == 201
        return {"uuid": uuid, "version": version}

    def listed(minutes: int) -> list[dict[str, str]]:
        dag_run = run(load(_EXAMPLE), logical_date=noon + timedelta(minutes=minutes))
        assert set(states(dag_run).values()) <= {"success", "skipped"}
        bundles: list[dict[str, str]] = xcom(dag_run, "pick_new")
        return sorted(bundles, key=lambda bundle: bundle["version"])

    listed(-10)  # makes this the last run, not one of another test
    put(noon - timedelta(days=2))  # too old
    first = put(noon)
    assert listed(0) == [first]
    late, second = put(noon - timedelta(hours=20)), put(noon + timedelta(minutes=5))
    assert listed(10) == [late, second]
    assert listed(20) == []
    meanwhile = put(noon + timedelta(days=2))
    assert listed(4 * 24 * 60) == [meanwhile]
    assert listed(4 * 24 * 60 + 10) == []

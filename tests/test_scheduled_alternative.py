"""What takes the watcher's place on older Airflows: example_dss_new_bundles_scheduled.py."""

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
def test_each_run_takes_what_no_earlier_run_has_listed(dss: LocalDSS) -> None:
    """A run looks at bundles since a day before the last one, also at older ones that came late, and at none again."""
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
        found: list[dict[str, str]] = xcom(dag_run, "list_new")
        return sorted(found, key=lambda bundle: bundle["version"])

    listed(-10)  # what other tests have run of this DAG is no longer the last run
    put(noon - timedelta(days=2))  # too old
    first = put(noon)
    assert listed(0) == [first]
    late, second = put(noon - timedelta(hours=20)), put(noon + timedelta(minutes=5))
    assert listed(10) == [late, second]
    assert listed(20) == []
    meanwhile = put(noon + timedelta(days=2))
    assert listed(4 * 24 * 60) == [meanwhile]
    assert listed(4 * 24 * 60 + 10) == []

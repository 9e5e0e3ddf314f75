"""Run DAGs with OpenLineage in a separate process: `python -m tests.utils.openlineage_process`.

OpenLineage reads its settings once in a process, and its listener then receives all tasks.
"""

from __future__ import annotations

import sys
from typing import Any

from airflow.providers.common.compat.sdk import task

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import (
    DSSDownloadBundleOperator,
    DSSPatchBundleOperator,
    DSSPutBundleOperator,
    DSSPutFileOperator,
    DSSUploadDirectoryOperator,
    DSSUploadTaskGroup,
)
from tests.local.server import VERSION, new_uuid
from tests.running import LOGICAL_DATE, new_dag, output, run, states


@task
def use_hook(uuid: str, version: str, source_url: str) -> None:
    """Create, read and change a bundle with the hook."""
    with DSSHook() as hook:
        hook.put_file(uuid, version, source_url=source_url)
        files: Any = [{"uuid": uuid, "version": version, "name": "a", "indexed": False}]
        hook.put_bundle(uuid, version, replica="aws", files=files)
        hook.find_bundle(uuid, replica="aws")
        hook.get_bundle(uuid, replica="aws")
        hook.change_bundle(uuid, version=version, replica="aws", remove_files=files)


def main(directory: str, target: str, bucket: str, source_url: str, small_url: str) -> None:
    """Run one task of each kind that reads or creates data of a DSS."""
    # First and alone: all tasks of a process share one collector of hook-level lineage.
    with new_dag("openlineage_hook") as dag:
        use_hook(new_uuid(), VERSION, small_url)
    assert set(states(run(dag, logical_date=LOGICAL_DATE)).values()) == {"success"}
    stage: dict[str, Any] = {"directory": directory, "staging_bucket": bucket}
    with new_dag("openlineage") as dag:
        upload = DSSUploadDirectoryOperator(task_id="upload", deferrable=True, poll_interval=1, **stage)
        DSSDownloadBundleOperator(
            task_id="download",
            directory=target,
            bundle_uuid=output(upload, "uuid"),
            bundle_version=output(upload, "version"),
            data_files=[],
        )
        file = DSSPutFileOperator(task_id="file", source_url=source_url, deferrable=True, poll_interval=1)
        member: Any = file.output
        bundle = DSSPutBundleOperator(task_id="bundle", files=[member])
        DSSPatchBundleOperator(
            task_id="patch",
            bundle_uuid=output(bundle, "uuid"),
            bundle_version=output(bundle, "version"),
            remove_files=[member],
        )
        DSSUploadTaskGroup("group", max_shard_files=2, **stage)
    assert set(states(run(dag, logical_date=LOGICAL_DATE)).values()) == {"success"}


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Every call of the DSS's own documentation, as a task of the same name.

If you know the original Python bindings (`DSSClient().put_file(...)`), see here how to replace them: with an operator
where there is one, since it makes a retry safe, otherwise with the hook's method of the same name.
"""

# [START example]
from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_hca.hooks.dss import DSSHook
from airflow_provider_hca.operators.dss import (
    DSSDeleteBundleOperator,
    DSSDeleteCollectionOperator,
    DSSPatchBundleOperator,
    DSSPatchCollectionOperator,
    DSSPutBundleOperator,
    DSSPutCollectionOperator,
    DSSPutFileOperator,
    DSSUploadDirectoryOperator,
)

with DAG(
    dag_id="example_dss_every_call",
    schedule=None,
    params={
        "directory": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
    },
    doc_md=__doc__,
) as dag:
    # A directory becomes a bundle.
    upload = DSSUploadDirectoryOperator(
        task_id="upload", directory="{{ params.directory }}", staging_bucket="{{ params.staging_bucket }}"
    )

    @task
    def stage(bucket: str, run_id: str | None = None) -> str:
        """Put an object with its checksums into the staging bucket, as your own pipeline would."""
        from airflow_provider_hca.upload.checksums import checksum_bytes
        from airflow_provider_hca.upload.staging import open_staging

        content, staging = b'{"cell_count": 42}', open_staging("aws", bucket)
        key = f"staged/{run_id}/summary.json"
        staging.put(key, content, checksum_bytes(content), "application/json")
        return staging.url(key)

    # A staged object becomes a file, the file becomes a bundle.
    put_file = DSSPutFileOperator(task_id="put_file", source_url=stage("{{ params.staging_bucket }}"))
    put_bundle = DSSPutBundleOperator(task_id="put_bundle", files=[put_file.output])

    # A new version of that bundle has the files of the other one too.
    @task
    def files_of(uuid: str, version: str) -> list[dict[str, Any]]:
        """Return the files of a bundle."""
        with DSSHook() as hook:
            return hook.get_bundle(uuid, version=version, replica="aws")["files"]

    patch_bundle = DSSPatchBundleOperator(
        task_id="patch_bundle",
        bundle_uuid=put_bundle.output["uuid"],
        bundle_version=put_bundle.output["version"],
        add_files=files_of(upload.output["uuid"], upload.output["version"]),
    )

    # A collection of bundles.
    put_collection = DSSPutCollectionOperator(
        task_id="put_collection",
        name="Cells of {{ ds }}",
        description="What was ingested on that day",
        contents=[
            {"type": "bundle", "uuid": upload.output["uuid"], "version": upload.output["version"]},
        ],
    )

    @task
    def get_collection(uuid: str) -> str:
        """Return the owner of a collection."""
        with DSSHook() as hook:
            return str(hook.get_collection(uuid, replica="aws")["owner"])

    @task
    def get_collections() -> int:
        """Return the number of your collections."""
        with DSSHook() as hook:
            return len(hook.get_collections())

    patch_collection = DSSPatchCollectionOperator(
        task_id="patch_collection",
        collection_uuid=put_collection.output["uuid"],
        collection_version=put_collection.output["version"],
        add_contents=[
            {"type": "bundle", "uuid": patch_bundle.output["uuid"], "version": patch_bundle.output["version"]},
        ],
    )

    # Delete everything. Only administrators of the DSS can delete bundles, and they must give a reason.
    delete_collection = DSSDeleteCollectionOperator(
        task_id="delete_collection", collection_uuid=put_collection.output["uuid"]
    )
    delete_bundle = DSSDeleteBundleOperator(
        task_id="delete_bundle", bundle_uuid=put_bundle.output["uuid"], reason="it was an example"
    )

    reads = [get_collection(put_collection.output["uuid"]), get_collections()]
    put_collection >> reads >> patch_collection >> delete_collection >> delete_bundle
# [END example]

if __name__ == "__main__":
    dag.test()

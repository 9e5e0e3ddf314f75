"""Register staged objects as files with mapped tasks, and create a bundle from them.

Use it for objects that another program stages, with their four checksums in tags or metadata. Here the first task
stages the files of a small directory, so that the DAG runs by itself.
"""

# [START example]
from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_hca.operators.dss import DSSPutBundleOperator, DSSPutFileOperator

with DAG(
    dag_id="example_dss_put_files",
    schedule=None,
    params={
        "directory": Param(str(Path(__file__).parent / "data" / "cell_42"), type="string"),
        "staging_bucket": Param("dss-staging", type="string"),
    },
    doc_md=__doc__,
) as dag:

    @task
    def stage(directory: str, bucket: str, run_id: str | None = None) -> list[dict[str, str]]:
        """Stage the files of a directory; return their URLs and names in a stable order."""
        from airflow_provider_hca.upload.checksums import checksum_bytes
        from airflow_provider_hca.upload.plan import guess_type
        from airflow_provider_hca.upload.staging import open_staging

        staging = open_staging("aws", bucket)
        staged = []
        for path in sorted(path for path in Path(directory).rglob("*") if path.is_file()):
            name = path.relative_to(directory).as_posix()
            content = path.read_bytes()
            key = f"staged/{run_id}/{name}"  # otherwise the next run could overwrite an object before it is registered
            staging.put(key, content, checksum_bytes(content), guess_type(name))
            staged.append({"source_url": staging.url(key), "name": name})
        return staged

    # One task per file, retried on its own. Run and map index give the file its uuid.
    files = DSSPutFileOperator.partial(
        task_id="put_file",
        retries=2,
        retry_delay=timedelta(seconds=30),
        map_index_template="{{ task.name }}",
    ).expand_kwargs(stage("{{ params.directory }}", "{{ params.staging_bucket }}"))

    # The output of the mapped tasks is the list of the bundle's files.
    DSSPutBundleOperator(task_id="put_bundle", files=files.output)
# [END example]

if __name__ == "__main__":
    dag.test()

"""Lineage of operators: events of outlets, and OpenLineage datasets.

Datasets outside a DSS are named by OpenLineage's naming conventions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_hca.assets.dss import bundle_uri, dss_host

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import DatasetFacet, InputDataset, OutputDataset
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

# With more files or bundles, each event would have megabytes, and the graph would be unreadable.
_MAX_FILES = 100


@dataclass(frozen=True, slots=True)
class Data:
    """A bundle, file or directory as an OpenLineage dataset.

    :ivar namespace: Namespace, such as `dss://dss.example.org`, `s3://bucket` or `file://host`
    :ivar name: Name in the namespace
    :ivar version: Version, if any
    :ivar files: Number of files, if known
    :ivar size: Size in bytes, if known
    """

    namespace: str
    name: str
    version: str | None = None
    files: int | None = None
    size: int | None = None

    @classmethod
    def bundle(cls, api_url: str, result: Mapping[str, Any]) -> Data:
        """Return the dataset of a bundle, the same as of `bundle_uri`, which hook-level lineage reports.

        :param api_url: URL of the DSS's API
        :param result: Result of a task, with `uuid`, `version`, `replica`, optionally `file_count` and `byte_count`
        """
        namespace, version = f"dss://{dss_host(api_url)}", result["version"]
        name = f"{result['replica']}/{result['uuid']}.{version}"
        return cls(namespace, name, version, result.get("file_count"), result.get("byte_count"))

    @classmethod
    def file(cls, api_url: str, replica: str, file: Mapping[str, Any]) -> Data:
        """Return the dataset of a file in a DSS.

        :param api_url: URL of the DSS's API
        :param replica: `aws` or `gcp`
        :param file: File, with `uuid` and `version`
        """
        name = f"{replica}/files/{file['uuid'].lower()}.{file['version']}"
        return cls(f"dss://{dss_host(api_url)}", name, file["version"])

    @classmethod
    def source(cls, source: str, *, files: int | None = None, size: int | None = None) -> Data:
        """Return the dataset of a directory of this worker, or of an object or prefix in a bucket.

        :param source: Path, or URL such as `s3://bucket/key`
        :param files: Number of files, if known
        :param size: Size in bytes, if known
        """
        if "://" in source:
            scheme, _, path = source.partition("://")
            bucket, _, key = path.partition("/")  # not urlsplit(): a key may contain "?" or "#"
            return cls(f"{scheme}://{bucket}", key, files=files, size=size)
        import socket

        return cls(f"file://{socket.gethostname()}", str(Path(source).absolute()), files=files, size=size)

    def as_input(self) -> InputDataset:
        """Return an input dataset."""
        from airflow.providers.common.compat.openlineage.facet import InputDataset
        from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

        facets: dict[str, Any] = {}
        if self.files is not None:
            facet = statistics.InputStatisticsInputDatasetFacet(fileCount=self.files, size=self.size)
            facets["inputStatistics"] = facet
        return InputDataset(self.namespace, self.name, facets=self._facets(), inputFacets=facets)

    def as_output(self) -> OutputDataset:
        """Return an output dataset."""
        from airflow.providers.common.compat.openlineage.facet import (
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )

        facets: dict[str, Any] = {}
        if self.files is not None:
            facets["outputStatistics"] = OutputStatisticsOutputDatasetFacet(fileCount=self.files, size=self.size)
        return OutputDataset(self.namespace, self.name, facets=self._facets(), outputFacets=facets)

    def _facets(self) -> dict[str, DatasetFacet]:
        from openlineage.client.facet_v2 import dataset_version_dataset

        if self.version is None:
            return {}
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=self.version)}


def file_inputs(api_url: str, replica: str, files: Sequence[Mapping[str, Any]]) -> list[Data]:
    """Return the datasets of files; none if there are more than 100 files.

    :param api_url: URL of the DSS's API
    :param replica: `aws` or `gcp`
    :param files: Files, each with `uuid` and `version`
    """
    return [Data.file(api_url, replica, file) for file in files] if len(files) <= _MAX_FILES else []


def bundle_inputs(api_url: str, replica: str, bundles: Sequence[tuple[str, str]]) -> list[Data]:
    """Return the datasets of bundles; none if there are more than 100 bundles.

    :param api_url: URL of the DSS's API
    :param replica: `aws` or `gcp`
    :param bundles: Pairs of UUID and version
    """
    results = [{"replica": replica, "uuid": uuid, "version": version} for uuid, version in bundles[: _MAX_FILES + 1]]
    return [Data.bundle(api_url, result) for result in results] if len(results) <= _MAX_FILES else []


class OpenLineageMixin:
    """Operator that reports its inputs and outputs to OpenLineage."""

    outlets: list[Any]  # declared by Airflow
    # Set while the task runs, so that OpenLineage's listener needs no requests.
    _lineage: tuple[list[Data], list[Data]] | None = None

    def _report_lineage(self, inputs: Iterable[Data], outputs: Iterable[Data] = ()) -> None:
        """Store inputs and outputs for OpenLineage."""
        self._lineage = list(inputs), list(outputs)

    def _report_bundle(
        self, context: Context, api_url: str, result: Mapping[str, Any], inputs: Iterable[Data] = ()
    ) -> None:
        """Report the bundle that the task created, to OpenLineage and to the events of the outlets.

        :param context: Context of the running task
        :param api_url: URL of the DSS's API
        :param result: Result of the task
        :param inputs: Inputs of the bundle
        """
        self._report_lineage(inputs, [Data.bundle(api_url, result)])
        add_to_outlets(context, self.outlets, api_url, result)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002 - Airflow's signature
        """Return inputs and outputs for OpenLineage; None if the task has not succeeded."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        if self._lineage is None:
            return None
        inputs, outputs = self._lineage
        return OperatorLineage(
            inputs=[data.as_input() for data in inputs], outputs=[data.as_output() for data in outputs]
        )


def add_to_outlets(
    context: Context, outlets: list[Any], api_url: str, result: Mapping[str, Any], *, partitioned: bool = False
) -> None:
    """Add the bundle to the events of a task's outlets, and as an asset to its aliases.

    :param context: Context of the running task
    :param outlets: Outlets of the task; assets, references to assets and aliases are used, others ignored
    :param api_url: URL of the DSS's API
    :param result: Result of the task, with `uuid`, `version`, `fqid`, `replica`, `file_count`, optionally `byte_count`
    :param partitioned: Whether the events of assets have the FQID as their partition key (Airflow 3.2 and newer)
    """
    if not outlets:
        return
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    extra = {name: result[name] for name in ("fqid", "uuid", "version", "replica", "file_count")}
    extra["host"] = dss_host(api_url)
    if "byte_count" in result:
        extra["bytes"] = result["byte_count"]
    events: Any = context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            uri = bundle_uri(api_url, replica=result["replica"], uuid=result["uuid"], version=result["version"])
            # The plugin adds a tab to assets with a replica.
            events[outlet].add(Asset(uri=uri, extra={"replica": result["replica"]}), extra=extra)
        elif isinstance(outlet, (Asset, *_references())):
            events[outlet].extra.update(extra)
            if partitioned:
                events[outlet].add_partitions(result["fqid"])


def _references() -> tuple[type, ...]:
    """Return the class of references to assets of other DAGs, which Airflow 2 does not have."""
    if not AIRFLOW_V_3_0_PLUS:
        return ()
    from airflow.sdk.definitions.asset import AssetRef

    return (AssetRef,)

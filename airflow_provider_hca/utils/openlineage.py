"""What a task tells of the data it read and made: to the DAGs that are scheduled on its outlets, and to OpenLineage.

The naming of data that is not in a DSS is OpenLineage's own.
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

# With more files each event would be of megabytes, and the picture made of it of no use.
_MOST_FILES = 100


@dataclass(frozen=True, slots=True)
class Data:
    """A bundle, a file or a directory, as OpenLineage calls it.

    :ivar namespace: such as `dss://dss.example.org`, `s3://bucket` or `file://host`
    :ivar name: in the namespace
    :ivar version: if it has any
    :ivar files: how many, if that is known
    :ivar size: of all of them in bytes, if that is known
    """

    namespace: str
    name: str
    version: str | None = None
    files: int | None = None
    size: int | None = None

    @classmethod
    def bundle(cls, api_url: str, made: Mapping[str, Any]) -> Data:
        """Return a bundle.

        :param api_url: of its DSS
        :param made: what a task returns of it: `uuid`, `version`, `replica`, and maybe `file_count` and `byte_count`
        """
        namespace, version = f"dss://{dss_host(api_url)}", made["version"]
        name = f"{made['replica']}/{made['uuid']}.{version}"
        return cls(namespace, name, version, made.get("file_count"), made.get("byte_count"))

    @classmethod
    def file(cls, api_url: str, replica: str, file: Mapping[str, Any]) -> Data:
        """Return a file in a DSS.

        :param api_url: of its DSS
        :param replica: `aws` or `gcp`
        :param file: with `uuid` and `version`
        """
        name = f"{replica}/files/{file['uuid'].lower()}.{file['version']}"
        return cls(f"dss://{dss_host(api_url)}", name, file["version"])

    @classmethod
    def source(cls, source: str, *, files: int | None = None, size: int | None = None) -> Data:
        """Return a directory of this worker, or an object or prefix in a bucket.

        :param source: a path, or a URL such as `s3://bucket/key`
        :param files: how many, if that is known
        :param size: of all of them in bytes, if that is known
        """
        if "://" in source:
            scheme, _, path = source.partition("://")
            bucket, _, key = path.partition("/")  # a key may have a "?" or "#" in it
            return cls(f"{scheme}://{bucket}", key, files=files, size=size)
        import socket

        return cls(f"file://{socket.gethostname()}", str(Path(source).absolute()), files=files, size=size)

    def as_input(self) -> InputDataset:
        """Return it as OpenLineage has what is read."""
        from airflow.providers.common.compat.openlineage.facet import InputDataset
        from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

        told: dict[str, Any] = {}
        if self.files is not None:
            read = statistics.InputStatisticsInputDatasetFacet(fileCount=self.files, size=self.size)
            told["inputStatistics"] = read
        return InputDataset(self.namespace, self.name, facets=self._facets(), inputFacets=told)

    def as_output(self) -> OutputDataset:
        """Return it as OpenLineage has what is made."""
        from airflow.providers.common.compat.openlineage.facet import (
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )

        told: dict[str, Any] = {}
        if self.files is not None:
            told["outputStatistics"] = OutputStatisticsOutputDatasetFacet(fileCount=self.files, size=self.size)
        return OutputDataset(self.namespace, self.name, facets=self._facets(), outputFacets=told)

    def _facets(self) -> dict[str, DatasetFacet]:
        from openlineage.client.facet_v2 import dataset_version_dataset

        if self.version is None:
            return {}
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=self.version)}


def file_inputs(api_url: str, replica: str, files: Sequence[Mapping[str, Any]]) -> list[Data]:
    """Return the files of a bundle, unless they are too many to be told one by one.

    :param api_url: of the DSS
    :param replica: `aws` or `gcp`
    :param files: each with `uuid` and `version`
    """
    return [Data.file(api_url, replica, file) for file in files] if len(files) <= _MOST_FILES else []


class OpenLineageMixin:
    """An operator that tells what data it read and made."""

    outlets: list[Any]  # Airflow's own
    # Of the try that succeeded; nothing of it has to be asked for when OpenLineage wants it.
    _lineage: tuple[list[Data], list[Data]] | None = None

    def _report_lineage(self, inputs: Iterable[Data], outputs: Iterable[Data] = ()) -> None:
        """Keep what was read and made for OpenLineage."""
        self._lineage = list(inputs), list(outputs)

    def _report_bundle(
        self, context: Context, api_url: str, made: Mapping[str, Any], inputs: Iterable[Data] = ()
    ) -> None:
        """Tell of the bundle that this task has made.

        :param context: of the running task
        :param api_url: URL of the DSS's API
        :param made: what the task returns
        :param inputs: what it was made of
        """
        self._report_lineage(inputs, [Data.bundle(api_url, made)])
        add_to_outlets(context, self.outlets, api_url, made)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002 - Airflow's signature
        """Return what the task read and made, for OpenLineage; None if it has not come that far."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        if self._lineage is None:
            return None
        inputs, outputs = self._lineage
        return OperatorLineage(
            inputs=[data.as_input() for data in inputs], outputs=[data.as_output() for data in outputs]
        )


def add_to_outlets(context: Context, outlets: list[Any], api_url: str, made: Mapping[str, Any]) -> None:
    """Add to the events of a task's outlets which bundle it made; to an alias, the bundle as an asset.

    :param context: of the running task
    :param outlets: of the task, of which all but assets, references to them and aliases are left alone
    :param api_url: of the DSS that has the bundle
    :param made: what the task returns: `uuid`, `version`, `fqid`, `replica`, `file_count`, and maybe `byte_count`
    """
    if not outlets:
        return
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    extra = {name: made[name] for name in ("fqid", "uuid", "version", "replica", "file_count")}
    extra["host"] = dss_host(api_url)
    if "byte_count" in made:
        extra["bytes"] = made["byte_count"]
    events: Any = context["outlet_events"]
    for outlet in outlets:
        if isinstance(outlet, AssetAlias):
            uri = bundle_uri(api_url, replica=made["replica"], uuid=made["uuid"], version=made["version"])
            events[outlet].add(Asset(uri=uri), extra=extra)
        elif isinstance(outlet, (Asset, *_references())):
            events[outlet].extra.update(extra)


def _references() -> tuple[type, ...]:
    """Return what stands for an asset that another DAG defines; Airflow 2 has no such thing."""
    if not AIRFLOW_V_3_0_PLUS:
        return ()
    from airflow.sdk.definitions.asset import AssetRef

    return (AssetRef,)

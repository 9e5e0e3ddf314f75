"""Operators for collections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_hca.exceptions import DSSAuthError, DSSNotFoundError
from airflow_provider_hca.operators.base import DSSOperator, identity
from airflow_provider_hca.units import count_text
from airflow_provider_hca.utils.identity import run_version, task_uuid
from airflow_provider_hca.utils.validation import mappings

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.hooks.dss import DSSHook

IfExists = Literal["fail", "skip", "overwrite"]
_CHOICES = ("fail", "skip", "overwrite")
_REACHED_KEY = "dss_collection_reached"  # in Airflow's task state store


class DSSPutCollectionOperator(DSSOperator):
    """Create a version of a collection (`PUT /collections`): a named list of links to files, bundles, collections.

    A DSS silently overwrites existing versions, also of other owners. The operator therefore looks up the collection
    first, and sends nothing if the version exists with the same content, for example after a previous try. `if_exists`
    decides what happens if the version exists with other content, or if the collection belongs to another owner, who
    would lose it to a new version. A new version of your own collection overwrites nothing, and is created.

    Returns, also as separate XComs: `uuid`, `version`, `fqid`, `replica`, `item_count` and `created` (whether this try
    created it). If `if_exists="skip"` keeps the collection of another owner, `item_count` is None, since the DSS does
    not report it; `version` and `fqid` are None too if it exists only in other versions.

    :param name: Name of the collection. (templated)
    :param description: Description, in Markdown. (templated)
    :param contents: At most 1,000 links, each with `type` (`file`, `bundle`, `collection` or a custom type), `uuid`,
        `version`, and for a custom type `fragment`, a JSON pointer into a JSON file; `DSSPatchCollectionOperator` adds
        more. (templated)
    :param details: Additional details, as JSON. (templated)
    :param replica: Replica that has the linked data, `aws` or `gcp`. (templated)
    :param collection_uuid: UUID of the collection; derived from DAG run, task and map index if None. (templated)
    :param collection_version: Version of the collection, a DSS_VERSION; derived from the DAG run if None. (templated)
    :param if_exists: Action if the collection would overwrite something: `fail` reports the owner and fails without
        retries, `skip` keeps what exists and succeeds, `overwrite` does not look it up. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`, whose token has the e-mail address of the owner.
        (templated)
    """

    template_fields: Sequence[str] = (
        "name",
        "description",
        "contents",
        "details",
        "replica",
        "collection_uuid",
        "collection_version",
        "if_exists",
        *DSSOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"contents": "json", "details": "json"}

    def __init__(
        self,
        *,
        name: str,
        description: str,
        contents: Iterable[Mapping[str, Any]] | XComArg = (),
        details: Mapping[str, Any] | XComArg | None = None,
        replica: str = "aws",
        collection_uuid: str | None = None,
        collection_version: str | None = None,
        if_exists: IfExists = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.description = description
        self.contents = contents
        self.details = details
        self.replica = replica
        self.collection_uuid = collection_uuid
        self.collection_version = collection_version
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Create the collection unless it exists."""
        from airflow_provider_hca.client.identifiers import check_uuid, check_version

        with self._open_hook() as hook:
            uuid = check_uuid(self.collection_uuid or task_uuid(context), "collection_uuid")
            version = check_version(self.collection_version or run_version(context), "collection_version")
            wanted = self._wanted()
            existing = None if self.if_exists == "overwrite" else _find_existing(hook, uuid, version, self.replica)
            if existing is None or existing.is_own_older_version:
                self._put(hook, uuid, version, wanted)
                return self._result(uuid, version, wanted, created=True)
            if not existing.is_own_with(wanted):
                if self.if_exists == "fail":
                    raise ValueError(f"{existing}. Nothing was overwritten: {existing.advice}")
                self.log.warning("%s; skipped", existing)
            return self._result(uuid, existing.version, existing.content, created=False)

    def _result(self, uuid: str, version: str | None, content: Mapping[str, Any], *, created: bool) -> dict[str, Any]:
        return {
            **identity(uuid, version, self.replica),
            "item_count": len(content["contents"]) if content else None,
            "created": created,
        }

    def _wanted(self) -> dict[str, Any]:
        """Return the body of the request, with each link once."""
        from airflow_provider_hca.client.models import MAX_CHANGES, collection_item

        if self.if_exists not in _CHOICES:
            raise ValueError(f"if_exists must be one of {', '.join(_CHOICES)}, got {self.if_exists!r}")
        items = [dict(collection_item(item)) for item in mappings("contents", self.contents)]
        contents = list({json.dumps(item, sort_keys=True): item for item in items}.values())
        if len(contents) > MAX_CHANGES:
            raise ValueError(
                f"a collection can be created with at most {MAX_CHANGES:,} links, got {len(contents):,}: add the "
                "others with DSSPatchCollectionOperator, which takes any number"
            )
        details = _details(self.details) or {}
        return {"name": self.name, "description": self.description, "details": details, "contents": contents}

    def _put(self, hook: DSSHook, uuid: str, version: str, wanted: dict[str, Any]) -> None:
        hook.put_collection(uuid, version, replica=self.replica, **wanted)
        try:
            hook.get_collection(uuid, replica=self.replica, version=version)
        except DSSNotFoundError:
            raise ValueError(
                f"collection {uuid} was deleted, and the DSS hides all versions created afterwards: use another "
                "collection_uuid"
            ) from None
        self.log.info(
            "collection %s.%s of %s: created", uuid, version, count_text(len(wanted["contents"]), "link", "links")
        )


@dataclass(frozen=True)
class _Existing:
    """A collection that already has the UUID.

    :ivar version: The requested version if it exists; None if only other versions exist, which a DSS does not list
    :ivar is_own: Whether the caller owns it
    :ivar content: Content as far as the DSS shows it; empty if it belongs to another owner
    """

    uuid: str
    version: str | None
    is_own: bool
    content: Mapping[str, Any]

    @property
    def is_own_older_version(self) -> bool:
        return self.is_own and self.version is None

    def is_own_with(self, wanted: Mapping[str, Any]) -> bool:
        return self.is_own and all(self.content.get(key) == value for key, value in wanted.items())

    def __str__(self) -> str:
        owner = self.content.get("owner") or "another owner, not named by the DSS"
        if self.version is None:
            return f"collection {self.uuid} exists and belongs to {owner}"
        if not self.is_own:
            return f"collection {self.uuid}.{self.version} exists and belongs to {owner}"
        return f"collection {self.uuid}.{self.version} exists with other content; it belongs to you ({owner})"

    @property
    def advice(self) -> str:
        other = "collection_version, or change it with DSSPatchCollectionOperator" if self.is_own else "collection_uuid"
        return f"use another {other}; or set if_exists='skip' to keep it, if_exists='overwrite' to overwrite it"


def _find_existing(hook: DSSHook, uuid: str, version: str, replica: str) -> _Existing | None:
    """Return the collection that a PUT would overwrite, or would take from its owner with a newer version."""
    for requested in (version, None):
        try:
            content = hook.get_collection(uuid, replica=replica, version=requested)
        except DSSNotFoundError:
            continue
        except DSSAuthError as error:
            if error.status == 401:
                raise
            content = {}
        # Raises if it was the token that the DSS refused, not the access to another owner's collection.
        is_listed = any(collection.get("uuid") == uuid for collection in hook.get_collections())
        return _Existing(uuid, requested, is_listed and bool(content), content)
    return None


class DSSPatchCollectionOperator(DSSOperator):
    """Add links to a collection and remove links from it, as a new version (`PATCH /collections/{uuid}`).

    More than 1,000 additions or removals take several PATCH requests, each of the version that the previous one
    created. A retry results in the same collection, with each link once. With Airflow 3.3 or newer, which stores the
    state of a task, it resumes from the version that the previous try reached; on older versions it starts from
    `collection_version` again, since a DSS does not list the versions of a collection. After an unclear response the
    operator looks up the collection before it repeats a PATCH. If nothing has to change, no version is created.

    Returns, also as separate XComs: `uuid`, `version` (the one with all changes), `fqid`, `replica`, `item_count` (of
    that version), `created` (whether this try created the version) and `statistics`: `patch_count` (PATCH requests of
    this try).

    :param collection_uuid: UUID of the collection, which must be your own. (templated)
    :param collection_version: Version to change, a DSS_VERSION. (templated)
    :param replica: Replica to change, `aws` or `gcp`. (templated)
    :param add_contents: Links to add, any number, each as in `DSSPutCollectionOperator`. (templated)
    :param remove_contents: Links to remove, any number, each equal in all keys. (templated)
    :param name: New name; unchanged if None. (templated)
    :param description: New description, in Markdown; unchanged if None. (templated)
    :param details: New details, as JSON; unchanged if None. (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`, whose token has the e-mail address of the owner.
        (templated)
    """

    template_fields: Sequence[str] = (
        "collection_uuid",
        "collection_version",
        "replica",
        "add_contents",
        "remove_contents",
        "name",
        "description",
        "details",
        *DSSOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "add_contents": "json",
        "remove_contents": "json",
        "details": "json",
    }

    def __init__(
        self,
        *,
        collection_uuid: str,
        collection_version: str,
        replica: str = "aws",
        add_contents: Iterable[Mapping[str, Any]] | XComArg = (),
        remove_contents: Iterable[Mapping[str, Any]] | XComArg = (),
        name: str | None = None,
        description: str | None = None,
        details: Mapping[str, Any] | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_uuid = collection_uuid
        self.collection_version = collection_version
        self.replica = replica
        self.add_contents = add_contents
        self.remove_contents = remove_contents
        self.name = name
        self.description = description
        self.details = details

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the collection."""
        with self._open_hook() as hook:
            progress = _PatchProgress(context, f"{self.replica}/{self.collection_uuid}.{self.collection_version}")
            change = hook.change_collection(
                self.collection_uuid,
                self.collection_version,
                replica=self.replica,
                add_contents=mappings("add_contents", self.add_contents),
                remove_contents=mappings("remove_contents", self.remove_contents),
                name=self.name,
                description=self.description,
                details=_details(self.details),
                resume_from=progress.reached,
                on_version=progress.store,
            )
            self.log.info("collection %s.%s after %d PATCH requests", change.uuid, change.version, change.patches)
            return {
                **identity(change.uuid, change.version, self.replica),
                "item_count": change.count,
                "created": change.patches > 0,
                "statistics": {"patch_count": change.patches},
            }


class _PatchProgress:
    """Version that the tries of a task have reached, in the task state store of Airflow 3.3 and newer.

    :param context: Context of the running task
    :param origin: Collection version that is changed; progress from another one is ignored
    """

    def __init__(self, context: Context, origin: str) -> None:
        self._store: Any = context.get("task_state_store")
        self._origin = origin

    @property
    def reached(self) -> str | None:
        """Version reached by a previous try or before a clear: a hint, since users can edit the store."""
        state = self._store.get(_REACHED_KEY) if self._store else None
        return state.get("version") if isinstance(state, dict) and state.get("from") == self._origin else None

    def store(self, version: str) -> None:
        """Store the version reached."""
        if self._store:
            self._store.set(_REACHED_KEY, {"from": self._origin, "version": version})


def _details(given: Any) -> dict[str, Any] | None:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"details must be a mapping, got {given!r:.200}")
    return None if given is None else dict(given)


class DSSDeleteCollectionOperator(DSSOperator):
    """Delete your own collection with all its versions, permanently (`DELETE /collections/{uuid}`).

    A DSS gives the same response for an unknown collection as for a deleted one, so a missing collection is a success
    with `deleted` false and a warning in the log. Another owner's collection fails immediately, without retries.

    Returns, also as separate XComs: `uuid`, `replica` and `deleted` (whether this try deleted it).

    :param collection_uuid: UUID of the collection; the DSS hides everything created under it afterwards. (templated)
    :param replica: Replica to delete it from, `aws` or `gcp`; the DSS later deletes it from the other one too.
        (templated)
    :param dss_conn_id: Airflow connection of type `hca_dss`, whose token has the e-mail address of the owner.
        (templated)
    """

    template_fields: Sequence[str] = ("collection_uuid", "replica", *DSSOperator.template_fields)

    def __init__(
        self,
        *,
        collection_uuid: str,
        replica: str = "aws",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_uuid = collection_uuid
        self.replica = replica

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Delete the collection."""
        from airflow_provider_hca.client.identifiers import check_uuid

        with self._open_hook() as hook:
            uuid = check_uuid(self.collection_uuid, "collection_uuid")
            try:
                hook.delete_collection(uuid, replica=self.replica)
            except DSSNotFoundError as error:
                self.log.warning("nothing deleted: the collection does not exist, or was deleted before: %s", error)
                return {"uuid": uuid, "replica": self.replica, "deleted": False}
            self.log.info("deleted collection %s", uuid)
            return {"uuid": uuid, "replica": self.replica, "deleted": True}

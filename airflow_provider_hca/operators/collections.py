"""The operators for collections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_hca.exceptions import DSSAuthError, DSSNotFoundError
from airflow_provider_hca.operators.base import DSSOperator, mappings
from airflow_provider_hca.utils.identity import run_version, task_uuid

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_hca.hooks.dss import DSSHook

IfExists = Literal["fail", "skip", "overwrite"]
_CHOICES = ("fail", "skip", "overwrite")
_REACHED = "dss_collection_reached"  # the key in Airflow's store of task states


class DSSPutCollectionOperator(DSSOperator):
    """Make a version of a collection (`PUT /collections`): a named list of links to files, bundles, collections.

    A DSS would overwrite what is there, silently and whoever owns it. So this looks first, and sends nothing when the
    version is there as it is wanted, such as after an earlier try. `if_exists` decides where the version has something
    else in it, and where the collection belongs to somebody else, from whom a further version would take it. A further
    version of a collection of your own overwrites nothing, and is made.

    Returns, also as an XCom each, `uuid`, `version`, `fqid`, `replica`, `item_count` and `created` (whether this try
    put it). Where `if_exists="skip"` leaves alone what somebody else has, what a DSS does not tell of it is None: the
    number of links, and `version` and `fqid` if it is in another version.

    :param name: of the collection (templated)
    :param description: in Markdown (templated)
    :param contents: at most 1,000 links, each with `type` (`file`, `bundle`, `collection`, or a name of your own),
        `uuid`, `version`, and with a name of your own `fragment`, a JSON pointer into a JSON file (templated). Further
        ones are for `DSSPatchCollectionOperator`
    :param details: anything else to say of it, as JSON (templated)
    :param replica: `aws` or `gcp`: where what it links to is (templated)
    :param collection_uuid: of the collection; if None it derives from DAG run, task and map index (templated)
    :param collection_version: of the collection, a DSS_VERSION; if None it derives from the DAG run (templated)
    :param if_exists: what to do where it would overwrite something: `fail` says whether it is yours and spends no
        retry, `skip` leaves what is there and succeeds, `overwrite` does not even look (templated)
    :param dss_conn_id: the Airflow connection, with a token that has an e-mail address: the owner's (templated)
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
        "dss_conn_id",
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
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.name = name
        self.description = description
        self.contents = contents
        self.details = details
        self.replica = replica
        self.collection_uuid = collection_uuid
        self.collection_version = collection_version
        self.if_exists = if_exists

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the collection unless it is there; return what it is called."""
        from airflow_provider_hca.client.identifiers import check_uuid, check_version

        with self._running() as (hook, _):
            uuid = check_uuid(self.collection_uuid or task_uuid(context), "collection_uuid")
            version = check_version(self.collection_version or run_version(context), "collection_version")
            wanted = self._wanted()
            there = None if self.if_exists == "overwrite" else _look(hook, uuid, version, self.replica)
            if there is None or there.is_older_one_of_mine:
                self._put(hook, uuid, version, wanted)
                return self._result(uuid, version, wanted, created=True)
            if not there.is_mine_with(wanted):
                if self.if_exists == "fail":
                    raise ValueError(f"{there}. Nothing was overwritten: {there.advice}")
                self.log.warning("%s, and is left alone", there)
            return self._result(uuid, there.version, there.content, created=False)

    def _result(self, uuid: str, version: str | None, content: Mapping[str, Any], *, created: bool) -> dict[str, Any]:
        return {
            "uuid": uuid,
            "version": version,
            "fqid": version and f"{uuid}.{version}",
            "replica": self.replica,
            "item_count": len(content["contents"]) if content else None,
            "created": created,
        }

    def _wanted(self) -> dict[str, Any]:
        """Return the body of the collection, each link once."""
        from airflow_provider_hca.client.models import MOST_CHANGES, collection_item

        if self.if_exists not in _CHOICES:
            raise ValueError(f"if_exists must be one of {', '.join(_CHOICES)}, not {self.if_exists!r}")
        given = [dict(collection_item(item)) for item in mappings("contents", self.contents)]
        contents = list({json.dumps(item, sort_keys=True): item for item in given}.values())
        if len(contents) > MOST_CHANGES:
            raise ValueError(
                f"a collection is put with {MOST_CHANGES:,} links at most, not {len(contents):,}: put it with some of "
                "them, and add the others with DSSPatchCollectionOperator, which takes any number"
            )
        details = _details(self.details) or {}
        return {"name": self.name, "description": self.description, "details": details, "contents": contents}

    def _put(self, hook: DSSHook, uuid: str, version: str, wanted: dict[str, Any]) -> None:
        hook.put_collection(uuid, version, replica=self.replica, **wanted)
        try:
            hook.get_collection(uuid, replica=self.replica, version=version)
        except DSSNotFoundError:
            raise ValueError(
                f"collection {uuid} was deleted once: the DSS takes what is put there and hides it for ever. Give "
                "another collection_uuid"
            ) from None
        self.log.info("collection %s.%s of %d links: created", uuid, version, len(wanted["contents"]))


@dataclass(frozen=True)
class _There:
    """A collection that has the uuid of the one to put.

    :ivar version: the one to put; None if it is in another version, which a DSS does not tell
    :ivar mine: whether the caller owns it
    :ivar content: what the DSS tells of it; nothing if it is another's
    """

    uuid: str
    version: str | None
    mine: bool
    content: Mapping[str, Any]

    @property
    def is_older_one_of_mine(self) -> bool:
        """Whether a further version would take nothing from anybody."""
        return self.mine and self.version is None

    def is_mine_with(self, wanted: Mapping[str, Any]) -> bool:
        """Return whether it is what was to be put."""
        return self.mine and all(self.content.get(key) == value for key, value in wanted.items())

    def __str__(self) -> str:
        owner = self.content.get("owner") or "somebody else, whom the DSS does not name"
        if self.version is None:
            return f"collection {self.uuid} exists and belongs to {owner}"
        if not self.mine:
            return f"collection {self.uuid}.{self.version} exists and belongs to {owner}"
        return f"collection {self.uuid}.{self.version} exists with something else in it; it belongs to you ({owner})"

    @property
    def advice(self) -> str:
        """What to do instead."""
        other = "collection_version, or change it with DSSPatchCollectionOperator" if self.mine else "collection_uuid"
        return f"give another {other}; or say if_exists='skip' to leave it alone, 'overwrite' to overwrite it"


def _look(hook: DSSHook, uuid: str, version: str, replica: str) -> _There | None:
    """Return what a PUT of a collection would overwrite, or would take from its owner by a newer version."""
    for asked in (version, None):
        try:
            content = hook.get_collection(uuid, replica=replica, version=asked)
        except DSSNotFoundError:
            continue
        except DSSAuthError as error:
            if error.status == 401:
                raise
            content = {}
        # It raises, and rightly so, when it is the token that is refused, and not a stranger.
        mine = any(each.get("uuid") == uuid for each in hook.get_collections())
        return _There(uuid, asked, mine and bool(content), content)
    return None


class DSSPatchCollectionOperator(DSSOperator):
    """Add links to a collection and remove others, as a new version of it (`PATCH /collections/{uuid}`).

    More than 1,000 additions or removals become several PATCHes, each of the version that the one before made. A
    retry makes the same collection, each link once: with Airflow 3.3 or newer, which keeps a task's state, it goes on
    from the version that the try before had reached; else from `collection_version` again, since a DSS does not list
    the versions that PATCHes make. After an unclear answer the DSS is asked before a PATCH is sent again. Where
    everything is as wanted already, no version is made.

    Returns, also as an XCom each, `uuid`, `version` (the one that has all of it), `fqid`, `replica`, `item_count` (of
    that version) and `patch_count` (how many PATCHes this try took).

    :param collection_uuid: of the collection, which must be your own (templated)
    :param collection_version: the version that is changed, a DSS_VERSION (templated)
    :param replica: `aws` or `gcp` (templated)
    :param add_contents: links to be in it, as `DSSPutCollectionOperator` has them; any number (templated)
    :param remove_contents: links to be out of it, each the same in every key as it is there; any number (templated)
    :param name: a new one; if None it stays (templated)
    :param description: a new one; if None it stays (templated)
    :param details: new ones, as JSON; if None they stay (templated)
    :param dss_conn_id: the Airflow connection, with a token that has the owner's e-mail address (templated)
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
        "dss_conn_id",
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
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.collection_uuid = collection_uuid
        self.collection_version = collection_version
        self.replica = replica
        self.add_contents = add_contents
        self.remove_contents = remove_contents
        self.name = name
        self.description = description
        self.details = details

    def execute(self, context: Context) -> dict[str, Any]:
        """Change the collection; return what it is called now."""
        with self._running() as (hook, _):
            progress = _Progress(context, f"{self.replica}/{self.collection_uuid}.{self.collection_version}")
            change = hook.change_collection(
                self.collection_uuid,
                self.collection_version,
                replica=self.replica,
                add_contents=mappings("add_contents", self.add_contents),
                remove_contents=mappings("remove_contents", self.remove_contents),
                name=self.name,
                description=self.description,
                details=_details(self.details),
                reached=progress.reached,
                on_version=progress.note,
            )
            self.log.info("collection %s.%s after %d PATCHes", change.uuid, change.version, change.patches)
            return {
                "uuid": change.uuid,
                "version": change.version,
                "fqid": f"{change.uuid}.{change.version}",
                "replica": self.replica,
                "item_count": change.count,
                "patch_count": change.patches,
            }


class _Progress:
    """Which version the tries of a task have reached, in Airflow's store of task states where it has one (3.3).

    :param context: of the running task
    :param begun: what is changed; what was reached from elsewhere counts for nothing
    """

    def __init__(self, context: Context, begun: str) -> None:
        self._store: Any = context.get("task_state_store")
        self._begun = begun

    @property
    def reached(self) -> str | None:
        """What an earlier try, or a task that was cleared, had reached: a hint, as anybody may change it."""
        kept = self._store.get(_REACHED) if self._store else None
        return kept.get("version") if isinstance(kept, dict) and kept.get("from") == self._begun else None

    def note(self, version: str) -> None:
        """Note what is reached."""
        if self._store:
            self._store.set(_REACHED, {"from": self._begun, "version": version})


def _details(given: Any) -> dict[str, Any] | None:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"details must be a mapping, not {given!r:.200}")
    return None if given is None else dict(given)


class DSSDeleteCollectionOperator(DSSOperator):
    """Delete a collection of your own, all versions of it and for ever (`DELETE /collections/{uuid}`).

    What is not there is as good as deleted: a DSS answers the same to an unknown collection as to a deleted one, so the
    task succeeds, `deleted` is false, and the log says so. A collection of somebody else is an error that spends no
    retry.

    Returns, also as an XCom each, `uuid`, `replica` and `deleted` (whether there was one to delete).

    :param collection_uuid: of the collection; nothing can be put there again that anybody could read (templated)
    :param replica: `aws` or `gcp`; some time later it is deleted in the other one too (templated)
    :param dss_conn_id: the Airflow connection, with a token that has the owner's e-mail address (templated)
    """

    template_fields: Sequence[str] = ("collection_uuid", "replica", "dss_conn_id")

    def __init__(
        self,
        *,
        collection_uuid: str,
        replica: str = "aws",
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.collection_uuid = collection_uuid
        self.replica = replica

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Delete the collection; return what it was called."""
        from airflow_provider_hca.client.identifiers import check_uuid

        with self._running() as (hook, _):
            uuid = check_uuid(self.collection_uuid, "collection_uuid")
            try:
                hook.delete_collection(uuid, replica=self.replica)
            except DSSNotFoundError as error:
                self.log.warning("there is nothing to delete, or not any more: %s", error)
                return {"uuid": uuid, "replica": self.replica, "deleted": False}
            self.log.info("collection %s is deleted", uuid)
            return {"uuid": uuid, "replica": self.replica, "deleted": True}

"""Operations on multipart uploads."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from airflow_provider_hca.local.checksums import MIB

from .bodies import receive_content
from .messages import Response, iso_time, parse_range, xml_response
from .models import Part, S3Error, no_such_key
from .object_operations import checksum_headers, copy_result, copy_source, md5_of

if TYPE_CHECKING:
    from pathlib import Path

    from .messages import Request
    from .storage import S3Storage

_MAX_PARTS = 10_000
_MAX_LISTED_PARTS = 1000
_MIN_PART_SIZE = 5 * MIB  # except for the last part


async def create_upload(storage: S3Storage, request: Request) -> Response:
    """Create a multipart upload."""
    upload = storage.create_upload(request.bucket, request.key, request.properties())
    fields = {"Bucket": request.bucket, "Key": escape(request.key), "UploadId": upload}
    algorithm = request.headers.get("x-amz-checksum-algorithm")
    headers = {"x-amz-checksum-algorithm": algorithm} if algorithm else None
    return xml_response("InitiateMultipartUploadResult", fields, headers=headers)


async def upload_part(storage: S3Storage, request: Request) -> Response:
    """Store a part: UploadPart, or UploadPartCopy if a copy source is given."""
    number = request.number("partNumber", 0, _MAX_PARTS + 1)
    if not 1 <= number <= _MAX_PARTS:
        raise S3Error(400, "InvalidArgument", f"partNumber must be 1 to {_MAX_PARTS}")
    upload = storage.upload(request.bucket, request.key, request.query["uploadId"])
    path = storage.new_piece()
    try:
        part, response = await _receive_part(storage, request, number, path)
        storage.put_part(upload, part)
    except BaseException:
        storage.remove_pieces([path.name])
        raise
    return response


async def _receive_part(storage: S3Storage, request: Request, number: int, path: Path) -> tuple[Part, Response]:
    """Write the content of a part to a file: the body of the request, or a range of the copy source."""
    if "x-amz-copy-source" not in request.headers:
        received = await receive_content(request.receive, request.headers, path)
        part = Part(number, received.etag, received.size, time.time(), path.name)
        return part, Response(headers={"etag": f'"{part.etag}"', **checksum_headers(received.checksums)})
    source = copy_source(storage, request)
    offset, size = parse_range(request.headers.get("x-amz-copy-source-range", ""), source.size)
    try:
        with path.open("wb") as file:
            etag = await asyncio.to_thread(md5_of, storage.read(source, offset, size), file.write)
    except FileNotFoundError:
        raise no_such_key(source.key) from None
    part = Part(number, etag, size, time.time(), path.name)
    return part, copy_result("CopyPartResult", part.etag, part.modified)


async def list_parts(storage: S3Storage, request: Request) -> Response:
    """List the parts of an upload."""
    upload = storage.upload(request.bucket, request.key, request.query["uploadId"])
    limit = request.number("max-parts", _MAX_LISTED_PARTS, _MAX_LISTED_PARTS)
    marker = request.number("part-number-marker", 0, _MAX_PARTS)
    remaining = [part for part in storage.list_parts(upload.id) if part.number > marker]
    page = remaining[:limit]
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{iso_time(part.modified)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size></Part>"
        for part in page
    )
    fields = {"Bucket": request.bucket, "Key": escape(request.key), "UploadId": upload.id}
    fields["IsTruncated"] = "true" if len(remaining) > limit else "false"
    if page:
        fields["NextPartNumberMarker"] = str(page[-1].number)
    return xml_response("ListPartsResult", fields, rows)


async def complete_upload(storage: S3Storage, request: Request) -> Response:
    """Create the object from the parts of an upload."""
    root = await request.xml()
    try:
        manifest = [
            (int(part.findtext("PartNumber", "")), part.findtext("ETag", "").strip('"')) for part in root.iter("Part")
        ]
    except ValueError:
        raise S3Error(400, "MalformedXML", "A part has no number") from None
    upload = storage.upload(request.bucket, request.key, request.query["uploadId"])
    parts = _select_parts(storage.list_parts(upload.id), manifest)
    item = storage.complete(upload, parts, if_absent=request.headers.get("if-none-match") == "*")
    fields = {"Bucket": request.bucket, "Key": escape(request.key), "ETag": f"&quot;{item.etag}&quot;"}
    return xml_response("CompleteMultipartUploadResult", fields)


def _select_parts(uploaded: list[Part], manifest: list[tuple[int, str]]) -> list[Part]:
    """Return the parts with the numbers and ETags of a manifest.

    :raises S3Error: `InvalidPartOrder`, `InvalidPart` or `EntityTooSmall`
    """
    numbers = [number for number, _ in manifest]
    if not manifest or numbers != sorted(set(numbers)):
        raise S3Error(400, "InvalidPartOrder", "The parts are not in ascending order")
    selected = set(manifest)
    parts = [part for part in uploaded if (part.number, part.etag) in selected]
    if len(parts) != len(manifest):
        raise S3Error(400, "InvalidPart", "A part was not uploaded, or has another ETag")
    if any(part.size < _MIN_PART_SIZE for part in parts[:-1]):
        raise S3Error(400, "EntityTooSmall", f"A part other than the last has less than {_MIN_PART_SIZE} bytes")
    return parts


async def abort_upload(storage: S3Storage, request: Request) -> Response:
    """Abort an upload."""
    storage.abort(request.bucket, request.key, request.query["uploadId"])
    return Response(204)

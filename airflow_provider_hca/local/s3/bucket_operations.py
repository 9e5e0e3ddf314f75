"""Operations on buckets: create, delete, and list their objects and uploads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from .bodies import receive_document
from .messages import Response, iso_time, xml_response
from .models import S3Error
from .storage import LAST

if TYPE_CHECKING:
    from .messages import Request
    from .models import S3Object
    from .storage import S3Storage

REGION = "us-east-1"
_MAX_KEYS = 1000
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


async def list_buckets(storage: S3Storage, _: Request) -> Response:
    """List all buckets."""
    rows = "".join(
        f"<Bucket><Name>{name}</Name><CreationDate>{iso_time(created)}</CreationDate></Bucket>"
        for name, created in storage.list_buckets()
    )
    return xml_response("ListAllMyBucketsResult", {"Buckets": rows})


async def create_bucket(storage: S3Storage, request: Request) -> Response:
    """Create a bucket; if it exists, this succeeds, as S3 does in us-east-1."""
    if not _BUCKET.fullmatch(request.bucket):
        raise S3Error(400, "InvalidBucketName", "A bucket name must be 3 to 63 characters of a-z, 0-9, '.' and '-'")
    await receive_document(request.receive)  # the region, which is ignored
    storage.create_bucket(request.bucket)
    return Response(headers={"location": f"/{request.bucket}"})


async def head_bucket(storage: S3Storage, request: Request) -> Response:
    """Check that a bucket exists."""
    storage.require_bucket(request.bucket)
    return Response(headers={"x-amz-bucket-region": REGION})


async def delete_bucket(storage: S3Storage, request: Request) -> Response:
    """Delete an empty bucket."""
    storage.delete_bucket(request.bucket)
    return Response(204)


async def get_location(storage: S3Storage, request: Request) -> Response:
    """Return the region of a bucket, which is empty for us-east-1."""
    storage.require_bucket(request.bucket)
    return xml_response("LocationConstraint", {})


async def list_objects(storage: S3Storage, request: Request) -> Response:
    """List objects: ListObjectsV2, and ListObjects if `list-type` is missing."""
    query = request.query
    v2 = query.get("list-type") == "2"
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = request.number("max-keys", _MAX_KEYS, _MAX_KEYS)
    after = query.get("continuation-token") or query.get("start-after" if v2 else "marker", "")
    items, prefixes, last, truncated = _page(storage, request.bucket, prefix, delimiter, after, limit)
    encode = request.name_encoder
    rows = [
        f"<Contents><Key>{encode(item.key)}</Key><LastModified>{iso_time(item.modified)}</LastModified>"
        f"<ETag>&quot;{item.etag}&quot;</ETag><Size>{item.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for item in items
    ]
    rows += [f"<CommonPrefixes><Prefix>{encode(common)}</Prefix></CommonPrefixes>" for common in prefixes]
    fields = {"Name": request.bucket, "Prefix": encode(prefix), "MaxKeys": str(limit)}
    if delimiter:
        fields["Delimiter"] = encode(delimiter)
    if "encoding-type" in query:
        fields["EncodingType"] = "url"
    fields["IsTruncated"] = "true" if truncated else "false"
    if v2:
        fields["KeyCount"] = str(len(rows))
    if truncated:
        fields["NextContinuationToken" if v2 else "NextMarker"] = escape(last) if v2 else encode(last)
    return xml_response("ListBucketResult", fields, "".join(rows))


def _page(
    storage: S3Storage, bucket: str, prefix: str, delimiter: str, after: str, limit: int
) -> tuple[list[S3Object], list[str], str, bool]:
    """Return objects and common prefixes of a page, the start of the next page, and whether there is one."""
    items: list[S3Object] = []
    prefixes: list[str] = []
    while True:
        batch = storage.list_objects(bucket, prefix, after, limit - len(items) - len(prefixes) + 1)
        if not batch:
            return items, prefixes, after, False
        for item in batch:
            if len(items) + len(prefixes) == limit:
                return items, prefixes, after, True
            head, separator, _ = item.key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if separator:
                prefixes.append(f"{prefix}{head}{separator}")
                after = prefixes[-1] + LAST
                break
            items.append(item)
            after = item.key


async def list_uploads(storage: S3Storage, request: Request) -> Response:
    """List open multipart uploads."""
    encode = request.name_encoder
    uploads = storage.list_uploads(request.bucket, request.query.get("prefix", ""))
    marker = (request.query.get("key-marker", ""), request.query.get("upload-id-marker", ""))
    limit = request.number("max-uploads", _MAX_KEYS, _MAX_KEYS)
    remaining = [upload for upload in uploads if (upload.key, upload.id) > marker]
    page, truncated = remaining[:limit], len(remaining) > limit
    rows = "".join(
        f"<Upload><Key>{encode(upload.key)}</Key><UploadId>{upload.id}</UploadId>"
        f"<Initiated>{iso_time(upload.initiated)}</Initiated></Upload>"
        for upload in page
    )
    fields = {"Bucket": request.bucket, "IsTruncated": "true" if truncated else "false"}
    if truncated:
        fields |= {"NextKeyMarker": encode(page[-1].key), "NextUploadIdMarker": page[-1].id}
    if "encoding-type" in request.query:
        fields["EncodingType"] = "url"
    return xml_response("ListMultipartUploadsResult", fields, rows)


async def delete_objects(storage: S3Storage, request: Request) -> Response:
    """Delete up to 1,000 objects."""
    root = await request.xml()
    keys = [element.findtext("Key", "") for element in root.iter("Object")]
    if len(keys) > _MAX_KEYS:
        raise S3Error(400, "MalformedXML", f"More than {_MAX_KEYS} keys")
    storage.delete(request.bucket, keys)
    quiet = root.findtext("Quiet", "").lower() == "true"
    rows = "" if quiet else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
    return xml_response("DeleteResult", {}, rows)

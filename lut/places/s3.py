"""Uploads to S3 in parts that need not be sent again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hwprof.errors import LutError

PART_BYTES = 16 << 20


def upload_in_parts(fs: Any, path: str, source: Path, sha256: str) -> None:
    """Upload a file to `path` of an s3fs file system; the object appears when its last part is there.

    An upload to the same key that was begun before and not finished is taken up: S3 names each part it
    holds by the MD5 of its bytes, and those that are as they should be are not sent again. So two
    processes that upload the same file help each other. Errors are s3fs's own, and a `LutError` if the
    file does not hash to `sha256`.
    """
    bucket, key, _ = fs.split_path(path)
    upload = _begun(fs, bucket, key)
    there = _parts(fs, bucket, key, upload) if upload else {}
    if upload is None:
        upload = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    here = {"Bucket": bucket, "Key": key, "UploadId": upload}
    parts: list[dict[str, object]] = []
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while data := file.read(PART_BYTES):
            digest.update(data)
            number = len(parts) + 1
            etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
            if there.get(number) != etag:
                etag = fs.call_s3("upload_part", **here, PartNumber=number, Body=data)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
    if digest.hexdigest() != sha256:
        raise LutError(f"{source}: the file was changed while it was read; run the command again")
    try:
        fs.call_s3("complete_multipart_upload", **here, MultipartUpload={"Parts": parts})
    except FileNotFoundError:
        # Another process has completed the same upload.
        fs.invalidate_cache()
        if fs.info(path)["size"] != source.stat().st_size:
            raise


def _begun(fs: Any, bucket: str, key: str) -> str | None:
    """The newest unfinished upload to a key; none where one may not ask."""
    try:
        found = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
    except PermissionError:
        return None
    begun = [upload for upload in found.get("Uploads", ()) if upload["Key"] == key]
    newest = max(begun, key=lambda upload: upload["Initiated"], default=None)
    return None if newest is None else str(newest["UploadId"])


def _parts(fs: Any, bucket: str, key: str, upload: str) -> dict[int, str]:
    """Number and ETag of the parts that an upload holds."""
    parts: dict[int, str] = {}
    after = 0
    while True:
        found = fs.call_s3("list_parts", Bucket=bucket, Key=key, UploadId=upload, PartNumberMarker=after)
        parts |= {part["PartNumber"]: part["ETag"] for part in found.get("Parts", ())}
        if not found.get("IsTruncated"):
            return parts
        after = found["NextPartNumberMarker"]

"""Object storage that speaks S3: what is asked of it, and errors that name the object, the cause and what to do.

Where it is and who we are is read from the environment by boto3: AWS_ENDPOINT_URL_S3 for a service of one's own,
AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the identity of the pod. boto3 repeats what failed by the
network's or the server's fault; what is raised here has failed for good.
"""

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cvntrade_assets.operations.masking import shown
from resources.artifact_manifest import ArtifactError
from resources.secrets import learn_secrets, process_mask

# Larger files are sent in parts of this size; S3 takes 10,000 of them.
PART_BYTES = 16 * 1024 * 1024
_DELETED_AT_ONCE = 1000
_ATTEMPTS = 5
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Nothing that an address, a shell or a log would read as something else.
_KEY = re.compile(r"[\w.+=@-]+(/[\w.+=@-]+)*", re.ASCII)
_REMEDIES = {
    "NoSuchBucket": "Create the bucket, or correct CVN_ARTIFACTS or CVN_COMPUTE_LOGS",
    "AccessDenied": "Allow s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket, s3:AbortMultipartUpload and "
    "s3:ListBucketMultipartUploads there",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "Renew the credentials",
}
_ABSENT = ("NoSuchKey", "404", "NotFound")


class ObjectStorageError(ArtifactError):
    """Object storage did not answer or refused; the message names the object, and never a credential."""


@dataclass(frozen=True)
class S3Address:
    """An object, or the folder of some, in a bucket.

    Attributes:
        bucket: The bucket's name.
        key: Segments joined by slashes, none at either end; empty for the whole bucket.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "S3Address":
        """Read `s3://bucket/prefix`.

        Raises:
            ObjectStorageError: it is none.
        """
        scheme, _, rest = text.partition("://")
        bucket, _, key = rest.rstrip("/").partition("/")
        segments = key.split("/") if key else []
        is_key = not key or (_KEY.fullmatch(key) and not {".", ".."} & set(segments))
        if scheme != "s3" or not _BUCKET.fullmatch(bucket) or not is_key:
            raise ObjectStorageError(
                f"{shown(text)!r} is no address of object storage: expected s3://bucket/prefix, with letters, digits "
                "and . _ + = @ - in the prefix. Set CVN_ARTIFACTS (or CVN_COMPUTE_LOGS) to such an address, or to a "
                "folder."
            )
        return cls(bucket, key)

    def __truediv__(self, name: str) -> "S3Address":
        return S3Address(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last segment."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "S3Address":
        """What it stands in."""
        return S3Address(self.bucket, self.key.rpartition("/")[0])


@dataclass(frozen=True)
class Stored:
    """An object as a listing shows it."""

    address: S3Address
    size: int


def is_address(text: str) -> bool:
    """Whether a text means something with a scheme, and not a folder."""
    return "://" in text


class ObjectStorage:
    """One client, made when it is first needed; every method raises ObjectStorageError."""

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore.config import Config

        # boto3 knows the region by another name; the cluster sets this one.
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            tcp_keepalive=True,
        )
        session = botocore.session.Session()
        session.register_component("data_loader", _loader())
        credentials = session.get_credentials()
        if credentials is not None:
            _learn(credentials)
            # Those of a pod's identity are renewed from time to time.
            session.register("before-sign.s3", lambda **_: _learn(credentials))
        return session.create_client("s3", region_name=region, config=config)

    def get(self, address: S3Address, start: int | None = None, end: int | None = None) -> bytes | None:
        """An object's bytes, from `start` up to `end` (exclusive) where given; None when there is no such object."""
        span = {} if start is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        with self._asked("read", address):
            try:
                return self._read(address, span)
            except self._client.exceptions.ClientError as error:
                if _code(error) in _ABSENT:
                    return None
                if _code(error) in ("InvalidRange", "416"):
                    return b""
                raise

    def _read(self, address: S3Address, span: Mapping[str, str]) -> bytes:
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        # boto3 asks again for an answer that did not come, and not for the rest of one that broke off.
        for last in (*[False] * (_ATTEMPTS - 1), True):
            answer = self._client.get_object(Bucket=address.bucket, Key=address.key, **span)
            try:
                return bytes(answer["Body"].read())
            except (HTTPClientError, IncompleteReadError):
                if last:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def put(self, address: S3Address, content: bytes) -> None:
        """Write an object, over one that is there."""
        with self._asked("written", address):
            self._client.put_object(Bucket=address.bucket, Key=address.key, Body=content, **_checksum(content))

    def put_first(self, address: S3Address, content: bytes) -> bool:
        """Write an object that must not be there yet; returns whether it is there now with this very content."""
        with self._asked("written", address):
            try:
                self._client.put_object(
                    Bucket=address.bucket, Key=address.key, Body=content, IfNoneMatch="*", **_checksum(content)
                )
                return True
            except self._client.exceptions.ClientError as error:
                # In conflict with another that is being written right now, which may yet fail.
                if _code(error) not in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                    raise
        # An answer that was lost makes boto3 ask again, and then what is there is our own.
        found = self.get(address)
        if found is None:
            raise ObjectStorageError(f"{address} could not be written: another writer was at it. Run again.")
        return found == content

    def upload(self, path: Path, address: S3Address, sha256: str) -> None:
        """Send a file, in parts when it is large, and see that what arrived is what was sent."""
        size = path.stat().st_size
        with self._asked("written", address):
            if size <= PART_BYTES:
                content = path.read_bytes()
                sent = _checksum(content)["ChecksumSHA256"]
                self._client.put_object(Bucket=address.bucket, Key=address.key, Body=content, **_checksum(content))
            else:
                sent = self._upload_parts(path, address)
            there = self._client.head_object(Bucket=address.bucket, Key=address.key, ChecksumMode="ENABLED")
        # That of a file in parts ends with their number, at most services.
        found = there.get("ChecksumSHA256", "").partition("-")[0]
        if not found:
            # A service that keeps no checksums: what it holds is read back.
            read = self.get(address)
            found, sent = (None if read is None else hashlib.sha256(read).hexdigest()), sha256
        if (found, there["ContentLength"]) != (sent, size):
            raise ObjectStorageError(
                f"{address} is not what was sent: {there['ContentLength']} bytes with checksum {found}, expected "
                f"{size} bytes with {sent}. Nothing was published; run again, and should it happen again look after "
                "the storage."
            )

    def _upload_parts(self, path: Path, address: S3Address) -> str:
        """Send a large file; returns the checksum that S3 gives the whole: that of its parts' checksums."""
        where = {"Bucket": address.bucket, "Key": address.key}
        upload = self._client.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
        parts: list[dict[str, Any]] = []
        digests = b""
        with path.open("rb") as file:
            while content := file.read(PART_BYTES):
                number, checksum = len(parts) + 1, _checksum(content)
                sent = self._client.upload_part(**where, UploadId=upload, PartNumber=number, Body=content, **checksum)
                parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum["ChecksumSHA256"]})
                digests += hashlib.sha256(content).digest()
        self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
        return _base64(hashlib.sha256(digests).digest())

    def download(self, address: S3Address, path: Path) -> bool:
        """Write an object's bytes to a file; False, and no file, when there is no such object."""
        from boto3.s3.transfer import S3Transfer, TransferConfig

        with self._asked("read", address):
            transfer = S3Transfer(self._client, TransferConfig(use_threads=False))
            try:
                transfer.download_file(address.bucket, address.key, str(path))
            except self._client.exceptions.ClientError as error:
                if _code(error) not in _ABSENT:
                    raise
                # The answer to what the transfer asks first does not tell a missing object from a missing bucket.
                self.get(address, 0, 1)
                return False
        return True

    def listed(self, folder: S3Address) -> Iterator[Stored]:
        """Every object below a folder, by key."""
        with self._asked("listed", folder):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=folder.bucket, Prefix=f"{folder.key}/"):
                for each in page.get("Contents", ()):
                    yield Stored(S3Address(folder.bucket, each["Key"]), each["Size"])

    def remove(self, addresses: Sequence[S3Address]) -> None:
        """Remove objects of one bucket; one that is not there is fine."""
        for start in range(0, len(addresses), _DELETED_AT_ONCE):
            some = addresses[start : start + _DELETED_AT_ONCE]
            with self._asked("removed", some[0]):
                keys = {"Objects": [{"Key": each.key} for each in some], "Quiet": True}
                answer = self._client.delete_objects(Bucket=some[0].bucket, Delete=keys)
            for error in answer.get("Errors", ()):
                failed = S3Address(some[0].bucket, error["Key"])
                raise _refused("removed", failed, error.get("Code", ""), error.get("Message", ""))

    def remove_folder(self, folder: S3Address) -> None:
        """Remove everything below a folder, and parts of files that never became whole."""
        with self._asked("removed", folder):
            pages = self._client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=folder.bucket, Prefix=f"{folder.key}/"):
                for each in page.get("Uploads", ()):
                    self._client.abort_multipart_upload(
                        Bucket=folder.bucket, Key=each["Key"], UploadId=each["UploadId"]
                    )
        self.remove([each.address for each in self.listed(folder)])

    @contextmanager
    def _asked(self, done: str, address: S3Address) -> Iterator[None]:
        """Say of every error which object it befell; `done` completes "could not be …"."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        try:
            yield
        except ClientError as error:
            raise _refused(done, address, _code(error), error.response.get("Error", {}).get("Message", "")) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise ObjectStorageError(
                f"{address} could not be {done}: there are no credentials for it. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or give the pod's service account a role."
            ) from None
        except (BotoCoreError, Boto3Error, ValueError) as error:
            # botocore has no error of its own for an address that is none.
            raise ObjectStorageError(
                f"{address} could not be {done}: {_masked(str(error))} ({type(error).__name__}, {_ATTEMPTS} attempts). "
                "Check that the service runs and that AWS_ENDPOINT_URL_S3 and AWS_REGION are right, then run again."
            ) from None


@cache
def _loader() -> Any:
    """Reads what boto3 knows of S3's requests: half a second, once a process."""
    from botocore.loaders import create_loader

    return create_loader()


def _learn(credentials: Any) -> None:
    """Have the mask know what we are known by, which need not come from the environment."""
    held = credentials.get_frozen_credentials()
    given = {"AWS_SECRET_ACCESS_KEY": held.secret_key, "AWS_SESSION_TOKEN": held.token}
    learn_secrets({name: secret for name, secret in given.items() if secret})


def _refused(done: str, address: S3Address, code: str, message: str) -> ObjectStorageError:
    remedy = _REMEDIES.get("AccessDenied" if code in ("403", "Forbidden") else code, "Look after the service")
    return ObjectStorageError(f"{address} could not be {done}: {_masked(message)} ({code}). {remedy}, then run again.")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _masked(text: str) -> str:
    return process_mask().text(text).strip().rstrip(".")[:500]


def _checksum(content: bytes) -> dict[str, str]:
    """The arguments that make S3 refuse a body that is not this one, and keep the checksum."""
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _base64(hashlib.sha256(content).digest())}


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()

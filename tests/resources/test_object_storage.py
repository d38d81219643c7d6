import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from s3_server import KEY_ID, SECRET, Fault, S3Door, address_it, client, everything_in

from resources import object_storage
from resources.object_storage import ObjectStorage, ObjectStorageError, S3Address, Stored
from resources.secrets import process_mask


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket/pre/fix", "bucket", "pre/fix"),
        ("s3://bucket/pre/fix/", "bucket", "pre/fix"),
        ("s3://bucket", "bucket", ""),
        ("s3://my.bucket-1/a=b/c+d_e@f.g", "my.bucket-1", "a=b/c+d_e@f.g"),
    ],
)
def test_an_address_is_read(text, bucket, key):
    address = S3Address.parse(text)
    assert (address.bucket, address.key) == (bucket, key)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///prefix",
        "gs://bucket/prefix",
        "https://bucket/prefix",
        "s3://Bucket/prefix",
        "s3://ab",
        "s3://bucket//prefix",
        "s3://bucket/../other",
        "s3://bucket/a/./b",
        "s3://bucket/pre fix",
        "s3://bucket/prefix?versionId=1",
        "s3://bucket/pré",
        "s3://bucket/a\nb",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ObjectStorageError, match=r"is no address of object storage: expected s3://bucket/prefix"):
        S3Address.parse(text)


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(ObjectStorageError) as caught:
        S3Address.parse("s3://operator:hunter2hunter2@bucket/prefix")
    assert "hunter2" not in str(caught.value)


def test_what_was_put_is_there_for_everybody(storage, bucket):
    storage.put(bucket / "one", b"hello")
    assert everything_in(bucket.bucket) == {"team/artifacts/one": b"hello"}
    assert storage.get(bucket / "one") == b"hello"
    assert storage.get(bucket / "other") is None
    assert list(storage.listed(bucket)) == [Stored(bucket / "one", 5)]


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(0, 5, b"hello"), (1, 3, b"el"), (4, 99, b"o"), (2, None, b"llo"), (5, 9, b"")]
)
def test_a_part_of_an_object(storage, bucket, start, end, expected):
    storage.put(bucket / "one", b"hello")
    assert storage.get(bucket / "one", start, end) == expected


def test_what_is_put_first_stays(storage, bucket):
    assert storage.put_first(bucket / "one", b"first")
    assert not storage.put_first(bucket / "one", b"second")
    assert storage.get(bucket / "one") == b"first"
    assert storage.put_first(bucket / "one", b"first")


def test_a_listing_is_of_a_folder_and_not_of_what_begins_alike(storage, bucket):
    for name in ("a/1", "ab/2", "a/b/3"):
        storage.put(bucket / name, b"")
    assert [each.address.key for each in storage.listed(bucket / "a")] == ["team/artifacts/a/1", "team/artifacts/a/b/3"]


def test_more_objects_than_one_request_lists_or_removes(storage, bucket, monkeypatch):
    monkeypatch.setattr(object_storage, "_DELETED_AT_ONCE", 3)
    for number in range(8):
        storage.put(bucket / f"{number}", b"")
    storage.put(bucket.parent / "beside", b"")
    storage.remove_folder(bucket)
    assert set(everything_in(bucket.bucket)) == {"team/beside"}


SIZES = {"empty": 0, "one byte": 1, "a part": 1000, "a part and a byte": 1001, "three parts": 3000, "and a bit": 3001}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_files_arrive_whole_in_one_piece_or_in_parts(storage, bucket, tmp_path, monkeypatch, size):
    monkeypatch.setattr(object_storage, "PART_BYTES", 1000)
    content = os.urandom(size)
    (tmp_path / "sent").write_bytes(content)
    storage.upload(tmp_path / "sent", bucket / "file", sha256(content))
    assert everything_in(bucket.bucket) == {"team/artifacts/file": content}
    assert storage.download(bucket / "file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_a_file_that_is_not_there_leaves_no_file(storage, bucket, tmp_path):
    assert not storage.download(bucket / "file", tmp_path / "back")
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_keeps_no_checksums_is_read_back(storage, bucket, tmp_path, monkeypatch):
    (tmp_path / "sent").write_bytes(b"content")
    real = storage._client.head_object
    monkeypatch.setattr(
        storage._client,
        "head_object",
        lambda **asked: {name: each for name, each in real(**asked).items() if name != "ChecksumSHA256"},
    )
    storage.upload(tmp_path / "sent", bucket / "file", sha256(b"content"))
    with pytest.raises(
        ObjectStorageError, match=r"is not what was sent: 7 bytes with checksum .*Nothing was published"
    ):
        storage.upload(tmp_path / "sent", bucket / "file", sha256(b"other"))


@pytest.mark.parametrize("there", [{"ChecksumSHA256": "AAAA"}, {"ContentLength": 6}])
def test_what_did_not_arrive_as_it_was_sent_is_refused(storage, bucket, tmp_path, monkeypatch, there):
    (tmp_path / "sent").write_bytes(b"content")
    real = storage._client.head_object
    monkeypatch.setattr(storage._client, "head_object", lambda **asked: {**real(**asked), **there})
    with pytest.raises(ObjectStorageError, match="is not what was sent"):
        storage.upload(tmp_path / "sent", bucket / "file", sha256(b"content"))


def test_parts_of_a_file_that_never_became_whole_are_removed(storage, bucket):
    ours = client()
    for name in ("a/file", "b/file"):
        ours.create_multipart_upload(Bucket=bucket.bucket, Key=(bucket / name).key)
    storage.remove_folder(bucket / "a")
    left = ours.list_multipart_uploads(Bucket=bucket.bucket)["Uploads"]
    assert [each["Key"] for each in left] == ["team/artifacts/b/file"]


# Faults


def asked(storage: ObjectStorage, address: S3Address, folder: Path) -> dict[str, object]:
    """One of everything that is asked of a storage."""
    (folder / "sent").write_bytes(b"content")
    return {
        "read": lambda: storage.get(address),
        "put": lambda: storage.put(address, b""),
        "put first": lambda: storage.put_first(address, b""),
        "upload": lambda: storage.upload(folder / "sent", address, sha256(b"content")),
        "list": lambda: list(storage.listed(address)),
        "remove": lambda: storage.remove([address]),
        "remove folder": lambda: storage.remove_folder(address),
    }


ASKED = ("read", "put", "put first", "upload", "list", "remove", "remove folder")


@pytest.mark.parametrize("what", ASKED)
def test_a_bucket_that_is_missing(storage, bucket, tmp_path, what):
    missing = S3Address("no-such-bucket", "team/artifacts/one")
    with pytest.raises(ObjectStorageError) as caught:
        asked(storage, missing, tmp_path)[what]()
    assert "s3://no-such-bucket/team/artifacts/one could not be" in str(caught.value)
    assert "(NoSuchBucket). Create the bucket, or correct CVN_ARTIFACTS" in str(caught.value)


def test_a_file_of_a_bucket_that_is_missing_is_not_said_to_be_absent(storage, bucket, tmp_path):
    with pytest.raises(ObjectStorageError, match="NoSuchBucket"):
        storage.download(S3Address("no-such-bucket", "one"), tmp_path / "back")


@pytest.mark.parametrize("what", ASKED)
def test_a_service_that_is_not_there(bucket, tmp_path, monkeypatch, what):
    monkeypatch.setattr(object_storage, "_ATTEMPTS", 1)
    address_it(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(ObjectStorageError) as caught:
        asked(ObjectStorage(), bucket / "one", tmp_path)[what]()
    message = str(caught.value)
    assert f"{bucket}/one could not be" in message
    assert "127.0.0.1:9" in message
    assert "Check that the service runs and that AWS_ENDPOINT_URL_S3 and AWS_REGION are right" in message
    assert SECRET not in message


def test_an_endpoint_that_is_no_address(bucket, monkeypatch):
    address_it(monkeypatch, "minio.svc:9000")
    with pytest.raises(ObjectStorageError, match=r"minio.svc:9000 .*Check that .* AWS_ENDPOINT_URL_S3"):
        ObjectStorage().get(bucket / "one")


def test_no_credentials(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ObjectStorageError, match=r"there are no credentials for it. Set AWS_ACCESS_KEY_ID and"):
        ObjectStorage().get(bucket / "one")


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.BUSY, Fault.CUT, Fault.LOST])
def test_what_failed_once_is_asked_again(door: S3Door, storage, bucket, fault):
    failed = []

    def once(method: str, path: str) -> Fault | None:
        return None if failed else failed.append(path) or fault

    door.fault = once
    storage.put(bucket / "one", b"hello" * 1000)
    assert storage.get(bucket / "one") == b"hello" * 1000
    assert [method for method, _ in door.seen] == ["PUT", "PUT", "GET"]


def test_an_answer_that_breaks_off_is_asked_for_again(door: S3Door, storage, bucket):
    storage.put(bucket / "one", b"hello")
    faults = [Fault.BROKEN_OFF, Fault.BROKEN_OFF]
    door.fault = lambda method, path: faults.pop() if faults else None
    assert storage.get(bucket / "one") == b"hello"
    door.fault = lambda method, path: Fault.BROKEN_OFF
    with pytest.raises(ObjectStorageError, match="one could not be read"):
        storage.get(bucket / "one")


def test_a_lost_answer_to_what_is_put_first_is_found_to_be_ours(door: S3Door, storage, bucket):
    faults = [Fault.LOST]
    door.fault = lambda method, path: faults.pop() if faults else None
    assert storage.put_first(bucket / "one", b"mine")
    assert [method for method, _ in door.seen] == ["PUT", "PUT", "GET"]


def test_a_service_that_keeps_failing_is_given_up(door: S3Door, bucket, monkeypatch):
    monkeypatch.setattr(object_storage, "_ATTEMPTS", 2)
    door.fault = lambda method, path: Fault.BUSY
    with pytest.raises(ObjectStorageError, match=r"one could not be written: .*\(503\). Look after the service"):
        ObjectStorage().put(bucket / "one", b"")
    assert len(door.seen) == 2


REFUSALS = {
    "AccessDenied": "Allow s3:GetObject, s3:PutObject",
    "403": "Allow s3:GetObject, s3:PutObject",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "Renew the credentials",
    "QuotaExceeded": "Look after the service",
}


@pytest.fixture
def unknowing(monkeypatch):
    """A mask that was built before this test's environment was there."""
    monkeypatch.setattr("resources.secrets._learned", set())
    process_mask.cache_clear()
    with pytest.MonkeyPatch.context() as before:
        before.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
        assert process_mask().text(SECRET) == SECRET
    yield
    process_mask.cache_clear()


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_says_what_to_do_and_never_the_secret(storage, bucket, unknowing, monkeypatch, code):
    from botocore.exceptions import ClientError

    said = {"Error": {"Code": code, "Message": f"refused, said {SECRET}"}}

    def refuse(**arguments: object) -> None:
        raise ClientError(said, "GetObject")

    monkeypatch.setattr(storage._client, "get_object", refuse)
    with pytest.raises(ObjectStorageError) as caught:
        storage.get(bucket / "one")
    message = str(caught.value)
    assert f"{bucket}/one could not be read: refused" in message
    assert f"({code}). {REFUSALS[code]}" in message
    assert SECRET not in message
    assert caught.value.__cause__ is None


# As AWS and others give them out for an identity: for a while, and each time others.
IDENTITY = """#!/bin/sh
echo x >> {folder}/asked
n=$(wc -l < {folder}/asked | tr -d ' ')
echo '{{"Version": 1, "AccessKeyId": "AKIAIDENTITY000000001", "SecretAccessKey": "canary-of-time-'$n'",'
echo '"SessionToken": "canary-of-session-'$n'", "Expiration": "{end}"}}'
"""


def test_the_secrets_of_an_identity_are_masked_also_when_they_were_renewed(storage, bucket, unknowing, tmp_path):
    now = datetime.now(UTC)
    (tmp_path / "identity").write_text(IDENTITY.format(folder=tmp_path, end=(now + timedelta(hours=1)).isoformat()))
    (tmp_path / "identity").chmod(0o700)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {tmp_path}/identity\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        for time in (1, 2):
            said = f"signed with canary-of-time-{time} and canary-of-session-{time}"
            assert process_mask().text(said) == said
            assert storage.get(bucket / "one") is None
            assert process_mask().text(said) == "signed with *** and ***"
            storage._client._request_signer._credentials._expiry_time = now


def test_an_object_that_may_not_be_removed_is_named(storage, bucket, monkeypatch):
    refused = {"Errors": [{"Key": (bucket / "one").key, "Code": "AccessDenied", "Message": "no"}]}
    monkeypatch.setattr(storage._client, "delete_objects", lambda **asked: refused)
    with pytest.raises(ObjectStorageError, match=r"artifacts/one could not be removed: no \(AccessDenied\)"):
        storage.remove([bucket / "one", bucket / "two"])


def test_the_secret_is_in_no_representation(storage, bucket):
    storage.get(bucket / "one")
    assert KEY_ID not in repr(vars(storage))
    assert SECRET not in repr(vars(storage))

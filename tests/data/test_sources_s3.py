"""Sources in object storage: an S3 server on this machine gives what the disk gives."""

import io
import logging
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from varscale.data.sources import open_source
from varscale.errors import EnvironmentalError, UserError
from varscale.locations import Location

pytest.importorskip("moto.server")

IMAGES = {f"{name}/{i:02d}.png": f"{name}{i}".encode() * (i + 1) for name in ("cat", "dog") for i in range(20)}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a folder in a bucket, with a ``%s`` for what is below it."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any")):
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="pictures")
        yield f"s3://pictures/%s?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        server.stop()


def test_a_bucket_that_is_missing_is_called_that(bucket: str) -> None:
    place = Location.of(bucket.replace("pictures", "nowhere") % "set/manifest.json")
    with pytest.raises(EnvironmentalError, match=r"s3://nowhere/set/manifest\.json\S*: not written: no such bucket$"):
        place.write_bytes(b"{}")


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def class_tars() -> bytes:
    held = {name: {k.split("/")[1]: v for k, v in IMAGES.items() if k.startswith(name)} for name in ("cat", "dog")}
    return tar_of({f"{name}.tar": tar_of(images) for name, images in held.items()})


def parquet() -> bytes:
    rows = [
        {"image": {"bytes": content, "path": key}, "label": i % 2} for i, (key, content) in enumerate(IMAGES.items())
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=7)
    return buffer.getvalue()


KINDS = {
    "folder": IMAGES,
    "splits": {f"{split}/{key}": content for split in ("train", "val") for key, content in IMAGES.items()},
    "tar/a.tar": {"a.tar": tar_of(IMAGES)},
    "ilsvrc": {
        "train.tar": class_tars(),
        "val.tar": tar_of({f"{i:03d}.JPEG": b"held out" for i in range(9)}),
        "truth.txt": b"1\n2\n1\n" * 3,
    },
    "tables": {"all.parquet": parquet()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bucket_is_as_good_as_a_folder(tmp_path: Path, bucket: str, kind: str) -> None:
    folder = kind.split("/")[0]
    for path, content in KINDS[kind].items():
        (Location.of(tmp_path) / folder / path).write_bytes(content)
        (Location.of(bucket % folder) / path).write_bytes(content)
    here, there = open_source(tmp_path / kind, 0.2), open_source(bucket % kind, 0.2)
    assert there.digest() == here.digest()
    assert there.listing.equals(here.listing)
    rows = here.listing.num_rows
    again = pickle.loads(pickle.dumps(there))  # noqa: S301
    assert list(again.read(0, rows)) == list(here.read(0, rows))
    assert list(again.read(5, 12)) == list(here.read(5, 12))


def test_what_a_bucket_lacks_is_named(bucket: str) -> None:
    with pytest.raises(UserError, match=r"s3://pictures/nowhere\?.*: nothing there"):
        open_source(bucket % "nowhere", 0.2)
    with pytest.raises(EnvironmentalError, match=r"s3://pictures/x\?endpoint_override=127\.0\.0\.1:1&.*connect"):
        open_source("s3://pictures/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1", 0.2)

"""Token shards: what stands in them, that nothing but the job decides it, and what is refused."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from crafted import TINY, image_manifest, shard

from lawfit.records import schema
from varscale.cli import app, main
from varscale.data.assembly import UNFINISHED, Assembly
from varscale.data.encoder import TokeniseJob
from varscale.data.images import ViewRule, random_crop, resized, validation_view
from varscale.data.ingest import IngestOptions, ingest
from varscale.data.loader import ImageShards
from varscale.data.manifests import ImageSet
from varscale.data.schema import (
    IMAGE_SCHEMA,
    MANIFEST,
    ImageManifest,
    Shard,
    read_image_manifest,
    token_schema,
    write_manifest,
)
from varscale.data.tokenise import SHARD_BYTES, plan_token_parts, token_key, tokenise
from varscale.errors import EnvironmentalError, UserError
from varscale.evaluate.assessment import QUALITY, assess
from varscale.evaluate.references import REFERENCE
from varscale.locations import Location
from varscale.metrics.pictures import to_tensor
from varscale.models.shapes import VARConfig, VQVAEConfig
from varscale.models.store import load_model, save_model
from varscale.models.tokenizer_file import TokenizerFile
from varscale.models.var import VAR, init_weights
from varscale.models.vqvae import VQVAE

LENGTH = 85
RULE = ViewRule(16, flip=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def job(image_set: Path, tiny_tokenizer: Path) -> TokeniseJob:
    return TokeniseJob(ImageSet.read(image_set), TokenizerFile.read(tiny_tokenizer), RULE, views=3, seed=5)


@pytest.fixture(scope="module")
def tokens(job: TokeniseJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens") / "tokens"
    tokenise(job, Location.of(folder), assess)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def image_rows(folder: Path, split: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob(f"{split}-*.parquet"))])


def rows(folder: Path, split: str) -> pa.Table:
    shards = [pa.ipc.open_file(pa.memory_map(str(path))) for path in sorted(folder.glob(f"{split}-*.arrow"))]
    assert all(shard.num_record_batches == 1 for shard in shards)
    return pa.concat_tables([shard.read_all() for shard in shards])


def test_view_j_of_image_i_is_row_i_times_views_plus_j(job: TokeniseJob, image_set: Path, tokens: Path) -> None:
    model = load_model(job.tokenizer.path, VQVAE).model
    for split, views in (("train", 3), ("val", 1)):
        source, table = ImageShards(image_set, split), rows(tokens, split)
        assert table.schema == token_schema(LENGTH)
        assert table["key"].to_pylist() == [source.key(i) for i in range(len(source)) for _ in range(views)]
        assert table["label"].to_pylist() == np.repeat(source.labels, views).tolist()
        assert table["view"].to_pylist() == list(range(views)) * len(source)
        for row in (0, 7):
            wanted = [validation_view(source.encoded(row), RULE)]
            if split == "train":
                key = source.key(row)
                wanted = [random_crop(resized(source.encoded(row), RULE), RULE, 5, key, view) for view in range(views)]
            with torch.inference_mode():
                encoded = model.tokens(to_tensor(np.stack(wanted))).numpy()
            assert np.array_equal(table["tokens"].to_pylist()[row * views : (row + 1) * views], encoded)


def test_the_manifest_says_what_was_made_of_what(job: TokeniseJob, image_set: Path, tokens: Path) -> None:
    manifest = tokenise(job, Location.of(tokens), assess)
    assert (manifest.image_size, manifest.resize_ratio, manifest.flip, manifest.seed) == (16, 1.125, True, 5)
    assert manifest.views == {"train": 3, "val": 1}
    assert manifest.data_fingerprint == read_image_manifest(Location.of(image_set)).fingerprint
    assert manifest.tokenizer_fingerprint == job.tokenizer.fingerprint
    held = [shard for split in manifest.splits.values() for shard in split]
    assert len(held) >= 16
    for each in held:
        place = Location.of(tokens / each.file)
        assert (place.size(), place.sha256()) == (each.bytes, each.sha256)
    assert set(content(tokens)) == {
        MANIFEST,
        REFERENCE,
        QUALITY,
        schema.RECONSTRUCTIONS_FILE,
        *(each.file for each in held),
    }


def test_shards_are_bounded_and_many(job: TokeniseJob) -> None:
    def manifest(train: int, val: int) -> ImageManifest:
        counts = {"train": train, "val": val}
        splits = {name: (Shard(file=name, rows=count, bytes=0, sha256=""),) for name, count in counts.items()}
        return image_manifest(splits)

    for train, val, views in ((9, 2, 1), (80, 80, 4), (1_281_167, 50_000, 10)):
        images, tokenizer = (
            replace(job.images, manifest=manifest(train, val)),
            replace(job.tokenizer, cfg=VQVAEConfig()),
        )
        parts = plan_token_parts(replace(job, views=views, images=images, tokenizer=tokenizer))[1:]
        for split, count in (("train", train), ("val", val)):
            chosen = [part for part in parts if part.split == split]
            assert len(chosen) >= min(8, count)
            assert [part.start for part in chosen] == [0, *(part.stop for part in chosen[:-1])]
            assert chosen[-1].stop == count
            assert len({part.file for part in chosen}) == len(chosen)
        largest = max(part.stop - part.start for part in parts if part.split == "train")
        assert largest * views * 2 * 680 < SHARD_BYTES


def test_without_training_views_only_validation_is_encoded(job: TokeniseJob, tokens: Path, tmp_path: Path) -> None:
    manifest = tokenise(replace(job, views=0), Location.of(tmp_path / "val"), assess)
    assert (manifest.views, manifest.splits["train"]) == ({"train": 0, "val": 1}, ())
    for path in (tmp_path / "val").glob("val-*"):
        assert path.read_bytes() == (tokens / path.name).read_bytes()


def test_image_sharding_and_order_of_work_change_no_byte(
    job: TokeniseJob, tokens: Path, image_set: Path, tmp_path: Path
) -> None:
    manifest = read_image_manifest(Location.of(image_set))
    for split in manifest.splits:
        table = image_rows(image_set, split)
        pieces = [table.slice(start, 13) for start in range(0, len(table), 13)]
        shards = tuple(written(tmp_path / "many", f"{split}-{i:05d}.parquet", p) for i, p in enumerate(pieces))
        manifest = manifest.model_copy(update={"splits": {**manifest.splits, split: shards}})
    write_manifest(Location.of(tmp_path / "many"), manifest)
    tokenise(replace(job, images=ImageSet.read(tmp_path / "many")), Location.of(tmp_path / "tokens"), assess)
    assert content(tmp_path / "tokens") == content(tokens)


def written(folder: Path, name: str, table: pa.Table) -> Shard:
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / name, compression="none")
    return shard(folder / name, len(table))


@pytest.mark.parametrize("survived", [0, 1, 5])
def test_a_stopped_run_goes_on_and_ends_byte_identical(
    job: TokeniseJob, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    dest, noted, note = tmp_path / "tokens", [], Assembly.note

    def dying(self: Assembly, shard: str, facts: dict) -> None:
        if len(noted) == survived:
            raise KeyboardInterrupt
        noted.append(shard)
        note(self, shard, facts)

    with monkeypatch.context() as patch:
        patch.setattr(Assembly, "note", dying)
        with pytest.raises(KeyboardInterrupt):
            tokenise(job, Location.of(dest), assess)
    assert not (dest / MANIFEST).exists()
    kept = {name: (dest / name).stat().st_mtime_ns for name in noted if (dest / name).exists()}
    with pytest.raises(UserError, match="beginnings of a data set of another source or other options"):
        tokenise(replace(job, seed=6), Location.of(dest), assess)
    (dest / ".train-00007.arrow.0f5e4a1c.part").write_bytes(b"half")  # as a process killed in mid-write leaves it
    tokenise(job, Location.of(dest), assess)
    assert content(dest) == content(tokens)
    assert all((dest / name).stat().st_mtime_ns == time for name, time in kept.items())


def test_a_shard_lost_after_its_receipt_is_made_again(
    job: TokeniseJob, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "tokens"

    def dying(self: Assembly, manifest: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Assembly, "finish", dying)
        with pytest.raises(KeyboardInterrupt):
            tokenise(job, Location.of(dest), assess)
    (dest / "train-00002.arrow").write_bytes(b"")
    (dest / QUALITY).unlink()
    tokenise(job, Location.of(dest), assess)
    assert content(dest) == content(tokens)


def test_shards_and_destination_may_be_urls(
    job: TokeniseJob, image_set: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARSCALE_CACHE", str(tmp_path))
    source, dest = Location.of("memory://tokenise/images"), Location.of("memory://tokenise/tokens")
    for path in image_set.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    tokenise(replace(job, images=ImageSet.read(source)), dest, assess)
    assert {name: (dest / name).read_bytes() for name in dest.files(recursive=True)} == content(tokens)


def test_the_key_is_that_of_all_that_decides_the_tokens(job: TokeniseJob) -> None:
    data, tokenizer = job.images.manifest, job.tokenizer
    others = [
        replace(job, views=2), replace(job, seed=1), replace(job, rule=replace(RULE, flip=False)),
        replace(job, rule=replace(RULE, resize_ratio=1.0)), replace(job, views=0),
        replace(job, images=replace(job.images, manifest=data.model_copy(update={"fingerprint": "other"}))),
        replace(job, tokenizer=replace(tokenizer, fingerprint="other")),
    ]  # fmt: skip
    keys = {token_key(other) for other in (job, *others)}
    assert len(keys) == len(others) + 1
    elsewhere = replace(
        job,
        images=replace(job.images, folder=Location.of("elsewhere")),
        tokenizer=replace(tokenizer, path=Path("elsewhere")),
        cpus_per_actor=4,
        gpus_per_actor=0.5,
    )
    assert token_key(elsewhere) == token_key(job)


def undecodable(image_set: Path, folder: Path) -> Location:
    """Image shards whose manifest is right, and whose row 40 is half an image."""
    shutil.copytree(image_set, folder)
    table = pq.read_table(folder / "train-00000.parquet")
    cut = table["image"].to_pylist()
    cut[40] = cut[40][: len(cut[40]) // 2]
    return rewritten(folder, table.set_column(2, IMAGE_SCHEMA.field("image"), pa.array(cut, pa.binary())))


def rewritten(folder: Path, train: pa.Table) -> Location:
    """The folder with another training shard, and a manifest that knows it."""
    place = Location.of(folder)
    manifest = read_image_manifest(place)
    shard = written(folder, "train-00000.parquet", train)
    write_manifest(place, manifest.model_copy(update={"splits": {**manifest.splits, "train": (shard,)}}))
    return place


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"train-00000\.parquet: no such file"),
        ("truncated", r"train-00000\.parquet: [\d,]+ bytes; the manifest says [\d,]+"),
        ("flipped", r"train-00000\.parquet: its checksum is not the manifest's"),
        ("schema", r"train-00000\.parquet: columns are \{.+\}; wanted \{key: string, label: int32, image: .+\}"),
        ("label", r"train-00000\.parquet: row 3 has label 2; allowed 0-1"),
        ("undecodable", r"train-00000\.parquet: row 40 \('.+/.+'\): not a readable image"),
        ("small", r"images are smaller than the view of 16 px, e\.g\. '.+' with a shorter side of 12 px"),
        ("empty", r"split 'val' has 0 images; wanted at least 2"),
    ],
)
def test_bad_image_shards_are_refused(
    job: TokeniseJob, image_set: Path, picture_folder: Path, tmp_path: Path, damage: str, message: str
) -> None:
    folder = tmp_path / "images"
    shard = folder / "train-00000.parquet"
    if damage == "undecodable":
        undecodable(image_set, folder)
    elif damage == "small":
        ingest(picture_folder, folder, IngestOptions(size=12))
    else:
        shutil.copytree(image_set, folder)
    whole = pq.read_table(shard)
    if damage == "missing":
        shard.unlink()
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif damage == "flipped":
        raw = bytearray(shard.read_bytes())
        raw[len(raw) // 2] ^= 1
        shard.write_bytes(raw)
    elif damage == "schema":
        rewritten(folder, whole.select(["key", "label"]))
    elif damage == "label":
        labels = whole["label"].to_pylist()
        wrong = pa.array([*labels[:3], 2, *labels[4:]], pa.int32())
        rewritten(folder, whole.set_column(1, IMAGE_SCHEMA.field("label"), wrong))
    elif damage == "empty":
        manifest = read_image_manifest(Location.of(folder))
        write_manifest(
            Location.of(folder), manifest.model_copy(update={"splits": {"train": manifest.splits["train"], "val": ()}})
        )
    with pytest.raises(UserError, match=message):
        tokenise(replace(job, images=ImageSet.read(folder)), Location.of(tmp_path / "tokens"), assess)
    assert not (tmp_path / "tokens" / MANIFEST).exists()
    if damage != "undecodable":  # found before anything was made: mended images may go to the same place
        assert not (tmp_path / "tokens" / UNFINISHED).exists()


def test_a_few_small_images_are_enlarged_and_told_of(
    job: TokeniseJob, image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(image_set, tmp_path / "images")
    table = image_rows(image_set, "train")
    widths = [7, *table["width"].to_pylist()[1:]]
    some = rewritten(
        tmp_path / "images", table.set_column(3, IMAGE_SCHEMA.field("width"), pa.array(widths, pa.int32()))
    )
    tokenise(replace(job, images=ImageSet.read(some), views=1), Location.of(tmp_path / "tokens"), assess)
    told = capsys.readouterr().err
    assert "1 of 80 images are smaller than the view of 16 px" in told
    assert f"e.g. '{table['key'][0].as_py()}' with a shorter side of 7 px; they are enlarged" in told


def test_unusable_tokenizers_are_refused(job: TokeniseJob, tmp_path: Path) -> None:
    var = VAR(VARConfig(1, 8, 1, 2, 32, 4, TINY.patch_nums))
    init_weights(var)
    save_model(tmp_path / "var.safetensors", var, var.state_dict(), {})
    model = VQVAE(TINY)
    state = model.state_dict() | {"decoder.conv_in.bias": torch.full((16,), float("nan"))}
    save_model(tmp_path / "nan.safetensors", model, state, {})
    for name, message in (("var", "holds 'var'; wanted a varscale tokenizer"), ("nan", "values that are not finite")):
        with pytest.raises(UserError, match=message):
            TokenizerFile.read(tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match="made for 16 px images"):
        tokenise(replace(job, rule=ViewRule(32)), Location.of(tmp_path / "tokens"), assess)
    assert not (tmp_path / "tokens").exists()


def test_a_destination_that_holds_something_else_is_left_alone(
    job: TokeniseJob, tokens: Path, image_set: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    for place, message in (
        (tmp_path, "exists and is no data set"),
        (image_set, "wanted a token data set"),
        (tokens, "holds a data set already"),
    ):
        before = content(place)
        with pytest.raises(UserError, match=message):
            tokenise(replace(job, seed=77), Location.of(place), assess)
        assert content(place) == before


def test_what_is_missing_is_one_line_before_ray_starts(
    image_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    job: TokeniseJob,
) -> None:
    weights = str(job.tokenizer.path)
    begun, other = tmp_path / "begun", tmp_path / "other"
    Assembly.begin(Location.of(begun), "key")
    other.mkdir()
    (other / "precious.txt").write_text("mine")
    for arguments, message in (
        ([str(begun), weights], f"{begun}: unfinished: 0 of its shards stand; run the ingest again"),
        (
            [str(image_set), weights, str(image_set / "t")],
            f"{image_set}/t: source and destination are the same or inside each",
        ),
        (
            [str(image_set), weights, str(image_set.parent)],
            "source and destination are the same or inside each other",
        ),
        ([str(image_set), weights, str(other)], f"{other}: exists and is no data set (it holds precious.txt)"),
        ([str(image_set), weights, "--patch-nums", "1,2"], "--patch-nums 1,2: only for a released .pth"),
        ([str(other), weights], f"{other}: no manifest.json here; wanted an image data set"),
        ([str(image_set), "none.safetensors"], "none.safetensors: no such file; wanted a tokenizer"),
        ([str(image_set), weights, "--patch-nums", "1,x"], "--patch-nums 1,x: wanted whole numbers with commas"),
    ):
        dest = [] if arguments[2:] and not arguments[2].startswith("--") else [str(tmp_path / "o")]
        monkeypatch.setattr("sys.argv", ["varscale", "tokenise", *arguments[:2], *dest, *arguments[2:]])
        with pytest.raises(SystemExit) as ended:
            main(app)
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert message in told
        assert told.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_tokens_that_stand_are_told_of_without_ray(
    tokens: Path,
    image_set: Path,
    job: TokeniseJob,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # nobody is there: whoever connects fails
    options = ["--views", "3", "--seed", "5", "--flip"]
    monkeypatch.setattr(
        "sys.argv", ["varscale", "tokenise", str(image_set), str(job.tokenizer.path), str(tokens), *options]
    )
    before = content(tokens)
    with pytest.raises(SystemExit) as ended:
        main(app)
    told = capsys.readouterr()
    assert ended.value.code in (None, 0)
    assert f"{tokens}: holds just these tokens already; nothing to do" in told.err
    assert "key " in told.out
    assert content(tokens) == before


def test_a_disk_that_fills_leaves_nothing_that_looks_whole(job: TokeniseJob, tmp_path: Path) -> None:
    dest, large = tmp_path / "tokens", replace(job, views=40)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # a write beyond fails, as on a full disk
    try:
        with pytest.raises(EnvironmentalError, match=r"train-00000\.arrow: not written"):
            tokenise(large, Location.of(dest), assess)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in dest.iterdir()} == {UNFINISHED, REFERENCE, QUALITY, schema.RECONSTRUCTIONS_FILE}
    assert tokenise(large, Location.of(dest), assess).rows("train") == len(rows(dest, "train"))


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_actors_make_the_same_bytes(two_cpus: None, job: TokeniseJob, tokens: Path, tmp_path: Path) -> None:
    tokenise(job, Location.of(tmp_path / "tokens"), assess)
    assert content(tmp_path / "tokens") == content(tokens)
    with pytest.raises(UserError, match="an actor is to take 3 CPU and 0 GPU; no node of this cluster has"):
        tokenise(replace(job, cpus_per_actor=3), Location.of(tmp_path / "other"), assess)


def test_an_actors_error_names_file_row_and_key(
    two_cpus: None, job: TokeniseJob, image_set: Path, tmp_path: Path
) -> None:
    undecodable(image_set, tmp_path / "broken")
    with pytest.raises(UserError, match=r"train-00000\.parquet: row 40 \('.+/.+'\): not a readable image"):
        tokenise(
            replace(job, images=ImageSet.read(tmp_path / "broken")),
            Location.of(tmp_path / "tokens"),
            assess,
        )

"""ILSVRC tars: classes, the validation split by every form of ground truth, and labels that are never guessed."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from varscale.data.sources import Source, open_source
from varscale.errors import UserError

WNIDS = tuple(f"n{number:08d}" for number in (7, 20, 33, 41, 59, 64))
IDS = (4, 1, 6, 2, 5, 3)
"""ILSVRC2012_ID of each class, in another order than the names'."""
TRAIN = {
    f"{wnid}/{wnid}_{i}.JPEG": f"{wnid}-{i}".encode() * (i + 1) for wnid in WNIDS for i in range(3 + int(wnid[-1]) % 4)
}
VAL = {f"ILSVRC2012_val_{k:08d}.JPEG": f"held out {k}".encode() for k in range(1, 13)}
LABELS = [k * 5 % 6 for k in range(1, 13)]
"""Label of each validation image."""
UNPACKED = {f"train/{key}": content for key, content in TRAIN.items()} | {
    f"val/{WNIDS[label]}/{name}": content for (name, content), label in zip(VAL.items(), LABELS, strict=True)
}


def tar_of(files: dict[str, bytes], compression: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def train_tar(wnids: tuple[str, ...] = WNIDS) -> bytes:
    """A tar of class tars; images lie in no order in them."""
    images = {
        wnid: {key.split("/")[1]: TRAIN[key] for key in reversed(TRAIN) if key.startswith(wnid)} for wnid in wnids
    }
    return tar_of({f"{wnid}.tar": tar_of(images[wnid] or {"a.JPEG": b""}) for wnid in wnids})


def meta(ids: tuple[int, ...] = IDS) -> bytes:
    """A devkit's meta.mat: the classes by their numbers, then the synsets above them, which are no classes."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    kinds += [("children", "O"), ("wordnet_height", "O"), ("num_train_images", "O")]
    leaves = sorted(zip(ids, WNIDS, strict=True))
    rows = [(float(number), wnid, "words", "gloss", 0.0, np.zeros((0, 0)), 0.0, 9.0) for number, wnid in leaves]
    rows += [(7.0, "n99999999", "thing", "gloss", 2.0, np.array([1.0, 2.0]), 3.0, 0.0)]
    synsets = np.empty((len(rows), 1), dtype=kinds)
    for i, row in enumerate(rows):
        synsets[i, 0] = row
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets})
    return buffer.getvalue()


def lines(values: list) -> bytes:
    return "".join(f"{value}\n" for value in values).encode()


TRUTH = "ILSVRC2012_validation_ground_truth.txt"
KIT = {
    "ILSVRC2012_devkit_t12/data/meta.mat": meta(),
    f"ILSVRC2012_devkit_t12/data/{TRUTH}": lines([IDS[label] for label in LABELS]),
    "ILSVRC2012_devkit_t12/readme.txt": b"val",
}
NAMED = list(zip(VAL, LABELS, strict=True))
TRUTHS = {
    "devkit archive": {"ILSVRC2012_devkit_t12.tar.gz": tar_of(KIT, "gz")},
    "devkit folder": KIT,
    "data of a devkit": {name.removeprefix("ILSVRC2012_devkit_t12/"): content for name, content in KIT.items()},
    "devkit files": {name.split("/")[-1]: content for name, content in list(KIT.items())[:2]},
    "class a line": {"val.txt": lines([WNIDS[label] for label in LABELS])},
    "image and class": {"labels.txt": lines([f"{name} {WNIDS[label]}" for name, label in reversed(NAMED)])},
    "image and number from 0": {"val.txt": lines([f"{name} {label}" for name, label in reversed(NAMED)])},
    "image and devkit number": {
        "val.txt": lines([f"{name} {IDS[label]}" for name, label in NAMED]),
        "meta.mat": meta(),
    },
    "Kaggle": {
        "LOC_val_solution.csv": b"ImageId,PredictionString\n"
        + lines([f"{name.removesuffix('.JPEG')},{WNIDS[label]} 1 2 3 4 {WNIDS[0]} 5 6 7 8 " for name, label in NAMED])
    },
}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def tars(shuffled: bool = True) -> dict[str, bytes]:
    val = dict(reversed(VAL.items())) if shuffled else VAL
    return {"ILSVRC2012_img_train.tar": train_tar(), "ILSVRC2012_img_val.tar": tar_of(val)}


def contents(source: Source) -> dict[str, bytes]:
    keys = source.listing["key"].to_pylist()
    return dict(zip(keys, source.read(0, len(keys)), strict=True))


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_tars_are_what_they_unpack_to(tmp_path: Path, truth: str) -> None:
    packed = open_source(write(tmp_path / "packed", tars() | TRUTHS[truth]), 0.1)
    unpacked = open_source(write(tmp_path / "unpacked", UNPACKED), 0.1)
    assert packed.classes == WNIDS
    assert packed.notes == ()
    assert contents(packed) == UNPACKED
    assert packed.listing.select(["key", "split", "label", "size"]).equals(unpacked.listing)
    assert packed.digest() == unpacked.digest()
    middle = packed.listing["key"].to_pylist()[7:20]
    assert list(packed.read(7, 20)) == [UNPACKED[key] for key in middle]


def test_names_may_be_others_and_what_is_not_taken_is_noted(tmp_path: Path) -> None:
    files = {"a.tar": train_tar(), "b.tar": tar_of({f"val/{name}": content for name, content in VAL.items()})}
    extra = {"img_test.tar": tar_of({"test/1.JPEG": b"x"}), "bounding_boxes.tgz": b"", "._a.tar": b"fork"}
    source = open_source(write(tmp_path, files | TRUTHS["devkit archive"] | extra), 0.1)
    assert contents(source) == UNPACKED
    assert source.notes == (
        "not taken: img_test.tar, test images without labels",
        "not taken: 2 files, no tar and no ground truth (.tar 1, .tgz 1)",
    )


@pytest.mark.parametrize("alone", [False, True], ids=["in its folder", "alone"])
def test_without_a_validation_tar_the_split_is_drawn(tmp_path: Path, alone: bool) -> None:
    write(tmp_path, {"ILSVRC2012_img_train.tar": train_tar()})
    source = open_source(tmp_path / "ILSVRC2012_img_train.tar" if alone else tmp_path, 0.3)
    assert contents(source) == TRAIN
    assert "no tar of validation images: a share of 0.3 of the training images is the val split" in source.notes
    assert source.digest() == open_source(write(tmp_path / "unpacked", TRAIN), 0.3).digest()


def test_over_a_network_it_is_the_same(tmp_path: Path) -> None:
    write(tmp_path, tars() | TRUTHS["devkit archive"])
    remote = open_source(f"fsspec+file://{tmp_path}", 0.1)
    assert remote.digest() == open_source(tmp_path, 0.1).digest()
    assert contents(remote) == UNPACKED


def test_numbers_from_1_of_other_classes_count_their_sorted_names(tmp_path: Path) -> None:
    train = tar_of({f"{name}.tar": tar_of({"a.JPEG": b"x"}) for name in ("fox", "ant", "n00000007", "cat")})
    truth = {"truth.txt": lines([1 + k % 4 for k in range(12)])}
    source = open_source(write(tmp_path, {"train.tar": train, "val.tar": tar_of(VAL)} | truth), 0.1)
    assert source.classes == ("ant", "cat", "fox", "n00000007")
    label_of = {Path(row["key"]).name: row["label"] for row in source.listing.to_pylist() if row["split"] == "val"}
    assert [label_of[name] for name in VAL] == [k % 4 for k in range(12)]
    (tmp_path / "truth.txt").write_bytes(lines([1] * 11 + [5]))
    with pytest.raises(UserError, match=r"truth\.txt: line 12: unknown class '5'; wanted one of the 4 classes"):
        open_source(tmp_path, 0.1)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({}, r"ground truth of the validation images: none; wanted a devkit"),
        ({"val.txt": b"1\n", "truth.txt": b"1\n"}, r"more than one: truth\.txt, val\.txt; wanted a devkit"),
        ({"val.txt": lines([1] * 11)}, r"val\.txt: 11 lines for the 12 images of .*ILSVRC2012_img_val\.tar"),
        (
            {"val.txt": lines([1] * 11 + [7])},
            r"val\.txt: numbers from 1 for classes that are WordNet ids are ILSVRC2012_IDs",
        ),
        ({"val.txt": lines([f"{n} 1" for n in VAL])}, r"only the devkit explains; put ILSVRC2012_devkit_t12\.tar\.gz"),
        ({"val.txt": lines([0] * 11 + [6])}, r"val\.txt: line 12: unknown class '6'"),
        ({"val.txt": lines([WNIDS[0]] * 3 + ["n5"] + [WNIDS[0]] * 8)}, r"val\.txt: line 4: unknown class 'n5'"),
        ({"val.txt": lines([1] * 5 + ["a 1"] + [1] * 6)}, r"val\.txt: line 6: 'a 1' is not of the form"),
        (
            {"val.txt": lines(["x.JPEG 1"] + [f"{n} 1" for n in list(VAL)[1:]])},
            r"line 1: image 'x' is not in .*val\.tar",
        ),
        (
            {"val.txt": lines([f"{n} 1" for n in [list(VAL)[1], *list(VAL)[1:]]])},
            r"line 1: image '.*02' is named twice",
        ),
        ({"val.txt": lines([9] * 12), "meta.mat": meta()}, r"val\.txt: line 1: unknown class '9'"),
        ({"val.txt": lines([1] * 12), "meta.mat": b"rubbish"}, r"meta\.mat: .*wanted a MATLAB file with synsets"),
        ({"val.txt": b"\xff\xfe\x00"}, r"val\.txt: no text"),
        ({"ILSVRC2012_devkit_t12.tar.gz": TRUTHS["devkit archive"]["ILSVRC2012_devkit_t12.tar.gz"][:400]}, "devkit"),
    ],
)
def test_ground_truths_that_do_not_fit_are_refused(tmp_path: Path, truth: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_source(write(tmp_path, tars() | truth), 0.1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"val.tar": tar_of(VAL)}, r"tar of class tars: none; wanted one"),
        ({"a.tar": train_tar(), "b.tar": train_tar()}, r"tar of class tars: 2 \(a\.tar, b\.tar\); wanted one"),
        (
            {"a.tar": train_tar(), "b.tar": tar_of(VAL), "c.tar": tar_of(VAL)},
            r"validation images: 2 \(b\.tar, c\.tar\)",
        ),
        ({"a.tar": train_tar()[:4000]}, r"a\.tar: cut off within 'n\d+\.tar'; get it again"),
        (
            {"a.tar": tar_of({"n1.tar": tar_of({"a.JPEG": b"x" * 9000})[:4000]})},
            r"n1\.tar: cut off within 'a\.JPEG'",
        ),
        ({"a.tar": tar_of({"n1.tar": tar_of({"a.JPEG": b"x"}, "gz")})}, r"n1\.tar: compressed with gzip"),
    ],
)
def test_other_tars_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(write(tmp_path, files), 0.1)

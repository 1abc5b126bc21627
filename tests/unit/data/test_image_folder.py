"""Folders of images: how they are read, and what is refused."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from conftest import tiny_config
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.data import data_root, sources, splits
from halobench.data.loaders import image_folder
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.jobs import jobs
from halobench.results import status
from halobench.runner import build_checks, validation
from halobench.storage import files as store

pytestmark = pytest.mark.paper

NAMES = ("ant", "Bee", "cow")
SIZES = [(9, 9), (12, 9), (9, 14), (31, 40), (8, 50), (57, 11), (9, 10), (400, 300), (1, 1)]


def picture(rng: np.random.Generator, width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A smooth random image, which survives JPEG compression."""
    levels = rng.integers(256, size=(3, 3, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def fill(root: Path, mode: str = "RGB", names: tuple[str, ...] = NAMES, each: int = 12) -> Path:
    """Classes with images of mixed sizes, some in subfolders, and files that aren't images."""
    rng = np.random.default_rng(len(str(names)))
    for name in names:
        for i in range(each):
            place = root / name / ("" if i % 3 else f"deep/er{i % 2}")
            place.mkdir(parents=True, exist_ok=True)
            picture(rng, *SIZES[i % len(SIZES)], mode).save(place / f"{i}{('.png', '.JPG', '.bmp')[i % 3]}")
        (root / name / "notes.txt").write_text("no image")
    (root / "notes.txt").write_text("no class")
    return root


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A data root with a folder of colour images."""
    monkeypatch.setenv(data_root.ROOT, str(tmp_path / "data"))
    fill(tmp_path / "data/zoo")
    return tmp_path / "data"


def spec(**options: object) -> SourceSpec:
    return SourceSpec("image_folder", {"folder": "zoo", "size": 9} | options)


def written(folder: Path, source: SourceSpec) -> tuple[np.ndarray, np.ndarray, dict]:
    sources.write_source(source, folder)
    return np.load(folder / "images.npy"), np.load(folder / "labels.npy"), store.read_json(folder / "meta.json")


@pytest.mark.parametrize(("size", "mode"), [(1, "RGB"), (9, "L"), (33, "RGB")])
def test_images_are_those_of_torchvision(root, tmp_path, monkeypatch, size, mode):
    monkeypatch.setattr("halobench.data.sources.BLOCK", 5 * size * size * 3)  # a few at a time
    fill(root / "zoo", names=("ant-eater",))  # its path sorts before those of the folders in ant
    for other in ("L", "P", "RGBA", "CMYK", "1"):
        picture(np.random.default_rng(0), 20, 20).convert(other).save(root / f"zoo/cow/{other}.tif")
    images, labels, meta = written(tmp_path / "out", spec(size=size, mode=mode))
    cut = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    theirs = ImageFolder(root / "zoo", transform=cut)
    if mode == "L":  # torchvision decodes only to RGB; ours is grey before it is resized
        theirs.loader = lambda path: Image.open(path).convert("L")
    expected = np.stack([np.asarray(image).reshape(size, size, -1) for image, _ in theirs])
    np.testing.assert_array_equal(images, expected.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(labels, theirs.targets)
    assert meta["names"] == theirs.classes == ["Bee", "ant", "ant-eater", "cow"]
    assert meta["shape"] == [1 if mode == "L" else 3, size, size]
    assert meta["parts"] == {}
    listed = image_folder.list_folder("folder", "zoo", {})
    assert [path for paths in listed.values() for path in paths] == [path for path, _ in theirs.samples]
    assert image_folder.SUFFIXES == IMG_EXTENSIONS


def test_a_test_folder_gives_official_parts_and_noise_falls_on_both(root, tmp_path):
    fill(root / "zoo-test", each=5)
    images, labels, meta = written(tmp_path / "out", spec(test_folder="zoo-test"))
    assert meta["parts"] == {"train": [0, 36], "test": [36, 51]}
    np.testing.assert_array_equal(images[36:], written(tmp_path / "test", spec(folder="zoo-test"))[0])
    np.testing.assert_array_equal(images[:36], written(tmp_path / "train", spec())[0])
    np.testing.assert_array_equal(labels, [*np.repeat([0, 1, 2], 12), *np.repeat([0, 1, 2], 5)])
    loaded = splits.load_data(tmp_path / "out", DatasetSpec("s", 30, 6, 15, NoiseSpec("asymmetric", 0.5)), 1)
    assert loaded.splits["train"].index.max() < 36 <= loaded.splits["test"].index.min()
    for split in loaded.splits.values():
        np.testing.assert_array_equal(split.clean, labels[split.index])
        np.testing.assert_array_equal(split.images, images[split.index])
        assert (split.labels != split.clean).any()


def test_the_same_folder_gives_the_same_bytes_on_any_number_of_threads(root, tmp_path, monkeypatch):
    for threads, block in ((1, 243), (2, 700), (8, 2**20)):
        monkeypatch.setattr(image_folder, "THREADS", threads)
        monkeypatch.setattr("halobench.data.sources.BLOCK", block)
        sources.write_source(spec(), tmp_path / f"{threads}")
    for file in ("images.npy", "labels.npy", "meta.json"):
        assert len({(tmp_path / str(threads) / file).read_bytes() for threads in (1, 2, 8)}) == 1


def test_describing_opens_no_image_and_a_folder_may_lie_anywhere(root, tmp_path, monkeypatch):
    (root / "zoo").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    for options, channels in (({}, 3), ({"mode": "L"}, 1)):
        found = sources.describe(spec(folder=str(tmp_path / "elsewhere"), **options))
        assert found == sources.Description((channels, 9, 9), 3, 36, names=tuple(sorted(NAMES)))


# --- Bad input -------------------------------------------------------------------------------------------------------


def refusal(source: SourceSpec, folder: Path, described: bool = True) -> SpecError:
    """A source's error; nothing may be written. `described` says whether its description is refused too."""
    with pytest.raises(SpecError) as caught:
        sources.write_source(source, folder)
    if described:
        with pytest.raises(SpecError) as before:
            sources.describe(source)
        assert str(before.value) == str(caught.value)
    else:
        sources.describe(source)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert "\n" not in str(caught.value)
    return caught.value


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bad_image_is_named(root, tmp_path, monkeypatch):
    """Whatever its name says, only formats of images are read: PostScript would be run by Ghostscript.

    Levels of 16 bits would be clipped, and Pillow refuses images with twice as many pixels as its limit.
    """
    target = fill(root / "zoo-test", each=5) / "cow/1.JPG"
    cut_short, deep, huge = target.read_bytes()[:400], io.BytesIO(), io.BytesIO()
    Image.fromarray(np.full((20, 20), 4000, np.uint16)).save(deep, "PNG")
    Image.new("RGB", (400, 301)).save(huge, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    readable, eight_bits = "can't be read (", "has more than 8 bits per channel ("
    for content, value, expected in (
        (b"text", "UnidentifiedImageError: ", readable),
        (cut_short, "OSError: ", readable),
        (EPS, "UnidentifiedImageError: ", readable),
        (huge.getvalue(), "DecompressionBombError: ", readable),
        (deep.getvalue(), "mode I", eight_bits),
    ):
        target.write_bytes(content)
        for mode in image_folder.CHANNELS:
            error = refusal(spec(test_folder="zoo-test", mode=mode), tmp_path / "out", described=False)
            assert error.key == str(target)
            assert error.sentence.startswith(expected + value)
            remedy = "replace" if expected == readable else "convert"
            assert error.sentence.endswith(f"; {remedy} it or move it elsewhere")
    for other in ("Bee/0.png", "ant/1.JPG"):
        (root / "zoo" / other).write_bytes(b"text")
    assert refusal(spec(), tmp_path / "out", described=False).key == str(root / "zoo/Bee/0.png"), "the first in order"


def test_folders_that_hold_no_classes_are_refused(root, tmp_path):
    fill(root / "single", names=("ant",))
    (root / "bare").mkdir()
    fill(root / "half", names=("ant", "bee"))
    (root / "half/none").mkdir()
    fill(root / "others", names=("ant", "Bee", "dog"))
    cases = [
        (spec(folder="gone"), rf"folder: {root}/gone can't be read \(FileNotFoundError"),
        (spec(folder="zoo/notes.txt"), r"folder: .*zoo/notes\.txt can't be read \(NotADirectoryError"),
        (spec(folder="single"), rf"folder: {root}/single has 1 subfolder of images, but needs at least 2"),
        (spec(folder="bare"), rf"folder: {root}/bare has 0 subfolders of images, but needs at least 2"),
        (spec(folder="half"), rf"folder: {root}/half/none has no images"),
        (spec(test_folder="others"), "test_folder: must have the same classes .* add or remove cow, which only one"),
        (spec(folder=None), "folder = None"),
        (spec(test_folder="a\0b"), r"test_folder: .*a\\x00b can't be read \(ValueError: "),
        (spec(folder="\ud800"), r"folder: .*\\ud800 can't be read \(UnicodeEncodeError: "),
        (spec(folder="~nobody there/a"), r"folder: .*~nobody there/a can't be read \(FileNotFoundError: "),
        (spec(size="32"), "size = '32': expected a whole number"),
        (spec(size=0), "size = 0"),
        (spec(mode="rgb"), "mode = 'rgb'"),
    ]
    for source, line in cases:
        with pytest.raises(SpecError, match=line):
            raise refusal(source, tmp_path / "out")


def test_links_to_folders_and_files_elsewhere_are_followed(root, tmp_path):
    before = written(tmp_path / "plain", spec())
    (root / "zoo/cow").rename(tmp_path / "herd")
    (root / "zoo/cow").symlink_to(tmp_path / "herd")
    (root / "zoo/Bee/deep").rename(tmp_path / "hive")
    (root / "zoo/Bee/deep").symlink_to(tmp_path / "hive")
    (root / "zoo/ant/1.JPG").rename(tmp_path / "ant.jpg")
    (root / "zoo/ant/1.JPG").symlink_to(tmp_path / "ant.jpg")
    (root / "menagerie").symlink_to("zoo")
    for folder in ("zoo", "menagerie"):
        for one, other in zip(written(tmp_path / folder, spec(folder=folder))[:2], before, strict=False):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("link", "target", "same", "other"),
    [
        ("zoo/all", ".", "zoo/all", "zoo"),
        ("zoo/cow/beside", "../ant", "zoo/cow/beside", "zoo/ant"),
        ("zoo/ant/everything", "/", "zoo/ant/everything", "/"),
        ("zoo/cow/again/and/again", "..", "zoo/cow/again/and/again", "zoo/cow/again"),
    ],
)
def test_a_link_through_which_images_count_twice_is_refused(root, tmp_path, link, target, same, other):
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(target)
    error = refusal(spec(), tmp_path / "out")
    assert error.key == str(root / same)
    assert error.sentence.startswith(f"its images would count twice, since {root / other} contains this link")


@pytest.mark.parametrize(
    ("folder", "test_folder"),
    [("zoo", "same"), ("zoo", "zoo/../zoo"), ("zoo", "zoo/cow/test"), ("around/ant", "around"), ("zoo", "linked")],
)
def test_test_images_are_no_training_images(root, tmp_path, folder, test_folder):
    (root / "same").symlink_to("zoo")
    fill(root / "zoo/cow/test", names=("ant", "bee"))
    fill(root / "around/ant")
    fill(root / "linked", names=("ant", "Bee"))
    (root / "linked/cow").symlink_to("../zoo/cow")
    error = refusal(spec(folder=folder, test_folder=test_folder), tmp_path / "out")
    assert error.key.startswith(str(root / test_folder))
    assert "its images would count twice" in error.sentence


@pytest.mark.parametrize("name", ["ant/0.png.jpg", "dog"])
@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("nowhere"), "a broken link"),
        (Path.touch, "an empty file"),
    ],
)
def test_what_is_no_image_is_refused_as_it_is_listed(root, tmp_path, name, put, kind):
    """A broken link may be a class, whatever its name; other files that aren't named like images are ignored."""
    path = root / "zoo" / name
    put(path)
    if name.endswith(".jpg") or kind == "a broken link":
        error = refusal(spec(), tmp_path / "out")
        assert str(error).startswith(f"{path}: is {kind}; replace it")
    else:
        assert sources.describe(spec()).size == 36


# --- In a configuration ----------------------------------------------------------------------------------------------


def configured(**options: object) -> dict:
    config = tiny_config()
    config["sources"] = {"zoo": {"loader": "image_folder", "folder": "zoo", "size": 9} | options}
    config["datasets"] = {"zoo": {"source": "zoo", "train": 20, "val": 6, "test": 10}}
    config["experiments"]["tiny"]["grid"][0] |= {
        "datasets": ["zoo"],
        "models": ["mlp"],
        "losses": ["cross_entropy"],
        "seeds": [0],
    }
    return config


@pytest.fixture
def _built_here(monkeypatch):
    """Build models for checks in this process, because starting another takes seconds."""
    monkeypatch.setattr(validation, "_build", lambda plain, results, config: build_checks.run(config, results))


@pytest.mark.usefixtures("_built_here")
def test_a_folder_is_looked_at_in_each_run_until_its_source_is_written(root, tmp_path):
    config, place = configured(), tmp_path / "results"
    validation.load_checked(config, tmp_path / "cache", place)
    gone = root / "zoo/cow"
    gone.rename(root / "cow")
    with pytest.raises(ConfigError, match=r"train \+ val \+ test = 36, but source .* has only 24 samples"):
        validation.load_checked(config, tmp_path / "cache", place)
    (root / "cow").rename(gone)
    (root / "zoo").rename(root / "moved")
    with pytest.raises(ConfigError, match=r"^sources\.zoo\.folder: .*zoo can't be read \(FileNotFoundError"):
        validation.load_checked(config, tmp_path / "cache", place)
    (root / "moved").rename(root / "zoo")
    plugins.load("stages", "source")(spec=load_config(config).source_spec("zoo"), out=place / "sources/zoo")
    (root / "zoo").rename(root / "moved")
    assert not (tmp_path / "cache").exists()  # what is on disk may change
    for _ in range(2):
        validation.load_checked(config, tmp_path / "cache", place)
    assert len([*(tmp_path / "cache").iterdir()]) == 1
    assert sources.changed_files(spec(), place / "sources/zoo") == 0, "it is out of reach"
    # Another size needs the folder again.
    with pytest.raises(ConfigError, match=r"^sources\.zoo\.folder: .*zoo can't be read \(FileNotFoundError"):
        validation.load_checked(configured(size=8), tmp_path / "cache", place)


def test_images_that_moved_or_were_overwritten_since_then_are_counted_and_read_again(root, tmp_path):
    """Their number stays the same. A copy with other times is read again, too, but other results stay current."""
    config = load_config(configured())
    listed = {job.name: job for job in jobs(config)}
    source, train = listed["source", "zoo"], listed["train", "zoo/mlp/cross_entropy/seed0"]

    def read() -> str:
        plugins.load("stages", "source")(spec=source.spec, out=tmp_path / "sources/zoo")
        assert status.state_of(source, tmp_path).kind == "current"
        return store.checksum(tmp_path / "sources/zoo/meta.json")

    def told() -> list[str]:
        return status.report([source, train], status.survey([source, train], tmp_path))

    before, (cow, *others) = read(), sorted((root / "zoo/cow").glob("*[gGp]"))
    cow.rename(root / "zoo/Bee" / f"new{cow.suffix}")
    picture(np.random.default_rng(5), 30, 20).save(others[0])
    assert told()[0] == "source zoo: 2 of its files were added, removed or changed"
    after = read()
    assert after != before
    shutil.copy(others[1], tmp_path / "copy")
    shutil.move(tmp_path / "copy", others[1])
    assert told()[0] == "source zoo: 1 of its files was added, removed or changed"
    assert read() == after

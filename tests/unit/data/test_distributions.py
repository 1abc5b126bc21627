"""Distributions: posteriors against counted draws, their entropy against a closed form, and refused options."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import entr
from scipy.stats import chi2, norm

from halobench.calibration.overlap_theory import posterior_entropy
from halobench.core.errors import SpecError
from halobench.core.specs.codec import parse
from halobench.core.specs.data import DatasetSpec, NoiseSpec, SourceSpec
from halobench.data import sources, splits
from halobench.data.distribution import Distribution, Regions, Sample
from halobench.data.loaders import collage
from halobench.data.loaders.collage import Collage
from halobench.data.loaders.overlap import in_ball
from halobench.data.sources import load_distribution
from halobench.storage import files

pytestmark = pytest.mark.theory

MADE = {
    "balls": {"loader": "overlap", "classes": 8},
    "fours": {"loader": "overlap", "classes": 8, "group": 4, "beta": 0.3},
    "all": {"loader": "overlap", "classes": 5, "group": 5},
    "unequal": {"loader": "overlap", "classes": 6, "shares": [0.8, 0.2]},
    "discs": {"loader": "overlap", "classes": 8, "disc": 3, "radius": 2.0, "shape": [1, 4, 4]},
    "images": {"loader": "image_overlap", "classes": 4},
    "collages": {"loader": "collage", "classes": 6, "shares": [0.7, 0.3]},
    "two": {"loader": "gaussians", "mu": 0.1},
    "five": {"loader": "gaussians", "classes": 5, "separation": 2.5, "shape": [1, 3, 3]},
}
DRAWS = 20_000


class Unknown(Distribution):
    """A distribution that doesn't know its posterior."""

    shape, classes, mean, std = (1, 1, 2), 2, np.zeros(1), np.ones(1)

    def sample(self, count, rng):
        labels = rng.integers(2, size=count)
        return Sample(rng.standard_normal((count, *self.shape)).astype(np.float32), labels)


def unknown() -> Distribution:
    return Unknown()


def mislabelled() -> Distribution:
    return sources.Images(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), 2)


def made(name: str) -> Distribution:
    return load_distribution(parse(SourceSpec, MADE[name]))


@pytest.mark.parametrize("name", MADE)
def test_the_posterior_against_counting(name):
    """In each bin of the posterior, computed from inputs alone, the labels of 20,000 draws are within 4.5 deviations.

    The mean entropy is that of the closed form, which depends on the mass of the shared regions. Images take long to
    draw, so there are fewer of them.
    """
    found, rng = made(name), np.random.default_rng(1)
    draws = 5_000 if name == "images" else DRAWS
    counts: dict[tuple[int, float], list[float]] = {}
    entropies = []
    for _ in range(2):
        sample = found.sample(draws // 2, rng)
        assert sample.inputs.dtype == np.float32
        assert sample.inputs.shape == (draws // 2, *found.shape)
        posterior = found.posterior(sample.inputs)
        np.testing.assert_allclose(posterior.sum(axis=1), 1, atol=1e-12)
        if sample.region is not None:
            np.testing.assert_array_equal(posterior, found.regions.posterior[sample.region])
        entropies.append(entr(posterior).sum(axis=1))
        for label in range(found.classes):
            p, hit = posterior[:, label], sample.labels == label
            bins = np.ceil(p * 20)  # 0 gets a bin of its own, 1 shares one with values near it
            for level in np.unique(bins):
                chosen = bins == level
                tally = counts.setdefault((label, level), [0.0, 0.0, 0.0])
                tally[0] += hit[chosen].sum()
                tally[1] += p[chosen].sum()
                tally[2] += (p * (1 - p))[chosen].sum()
    assert len(counts) >= 2 * found.classes
    for (label, level), (hits, expected, variance) in counts.items():
        assert abs(hits - expected) <= 4.5 * np.sqrt(variance) + 1e-9, (label, level)
    if found.regions is not None:
        options, entropy = MADE[name], np.concatenate(entropies)
        group, shares = options.get("group", 2), options.get("shares")
        assert found.facts().get("group") == (group if shares is None else None)
        expected = posterior_entropy(options.get("beta", 0.5), group, None if shares is None else np.array(shares))
        assert entropy.mean() == pytest.approx(expected, abs=5 * entropy.std() / np.sqrt(draws))


@pytest.mark.parametrize("count", [1, 37, 4000])
def test_samples_are_allocated_in_proportion_to_masses(count):
    """Counts are expectations, rounded, and right on average; the share of all shared regions is as exact."""
    mass = np.append(np.random.default_rng(5).dirichlet(np.full(12, 0.5)), 0.0)
    shared, rng, draws = np.arange(13) >= 8, np.random.default_rng(6), 2000
    regions = Regions(np.full((13, 2), 0.5), mass, shared)
    found = [regions.allocate(count, rng) for _ in range(draws)]
    counts = np.array([np.bincount(region, minlength=13) for region in found])
    for number, expected in ((counts, count * mass), (counts[:, shared].sum(axis=1), count * mass[shared].sum())):
        assert (np.abs(number - expected) < 1).all()
        up = expected % 1  # how often the expectation is rounded up
        assert (np.abs(number.mean(axis=0) - expected) <= 5 * np.sqrt(up * (1 - up) / draws) + 1e-9).all()
    first = np.bincount([region[0] for region in found], minlength=13) / draws  # the order is random
    assert (np.abs(first - mass) <= 5 * np.sqrt(mass * (1 - mass) / draws)).all()


def test_only_test_samples_are_allocated_and_each_number_of_classes_has_its_own_draws(tmp_path):
    """Over seeds, the share of shared samples is binomial in training, independently for each k, and exact in test."""
    seeds, n = 100, 80
    share = {}
    for k in (4, 8):
        sources.write_source(parse(SourceSpec, {"loader": "overlap", "classes": k, "shape": [1, 4, 4]}), tmp_path)
        for seed in range(seeds):
            drawn = splits.load_data(tmp_path, DatasetSpec("s", n, n, n), seed)
            shared = drawn.distribution.regions.shared
            for name, split in drawn.splits.items():
                share.setdefault((name, k), []).append(shared[split.region].mean())
    for k in (4, 8):
        assert set(share["test", k]) == {0.5}
        for name in ("train", "val"):
            chi_square = ((np.array(share[name, k]) - 0.5) ** 2).sum() * 4 * n
            assert chi2.cdf(chi_square, seeds) == pytest.approx(0.5, abs=0.4999)
    pairs = [("train", 4), ("train", 8), ("val", 4), ("val", 8)]
    correlations = np.corrcoef([share[pair] for pair in pairs])[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(seeds)


@pytest.mark.parametrize("name", ["balls", "collages"])
def test_the_control_without_overlap_differs_in_shared_labels_alone(name):
    """With shares of 1 and 0, the same random numbers give the same regions and inputs."""
    pairs, apart = (load_distribution(parse(SourceSpec, MADE[name] | {"shares": p})) for p in ([0.5, 0.5], [1, 0]))
    first, second = (found.sample(500, np.random.default_rng(2)) for found in (pairs, apart))
    np.testing.assert_array_equal(first.inputs, second.inputs)
    np.testing.assert_array_equal(first.region, second.region)
    np.testing.assert_array_equal(pairs.regions.mass, apart.regions.mass)
    own = np.append(np.arange(apart.classes), np.arange(0, apart.classes, 2))  # the class that each region belongs to
    np.testing.assert_array_equal(second.labels, own[second.region])
    np.testing.assert_array_equal(apart.posterior(second.inputs), np.eye(apart.classes)[second.labels])
    unshared = ~pairs.regions.shared[first.region]
    np.testing.assert_array_equal(first.labels[unshared], second.labels[unshared])
    assert apart.facts() == {"beta": 0.5}


def test_collages_leave_out_what_two_classes_share():
    """Halves that images of two classes have in common would belong to two regions, where the posterior differs."""
    pixels = np.zeros((4, 1, 4, 2), np.uint8)
    pixels[:, 0, :2] = np.array([1, 2, 2, 3])[:, None, None]  # the upper halves; 2 is of both classes
    pixels[:, 0, 2:] = np.array([1, 1, 2, 3])[:, None, None]
    regions = Regions(np.array([[0.5, 0.5], [1, 0]]), np.array([0.5, 0.5]), np.array([True, False]))
    found = Collage(sources.Images(pixels, np.array([0, 0, 1, 1]), 2), regions, np.array([[0, 1], [1, 0]]))
    sample = found.sample(200, np.random.default_rng(0))
    np.testing.assert_array_equal(sample.inputs[:, 0, 0, 0], np.where(sample.region == 0, 1, 3))
    np.testing.assert_array_equal(found.posterior(sample.inputs), regions.posterior[sample.region])
    for row in (pixels[1:2], pixels[:1] + 0.5, np.concatenate([pixels[:1, :, :2], pixels[:1, :, :2]], axis=2)):
        with pytest.raises(
            SpecError, match="1 of 1 inputs are outside all regions"
        ):  # shared, no level, and no such pair
            found.posterior(row)


def test_collages_of_some_classes_consist_of_their_halves_only():
    images = sources.plain_images("images", "mnist5k")
    chosen = [7, 1, 4]
    found = collage.load(classes=4, of=chosen)
    sample = found.sample(50, np.random.default_rng(0))
    for name, place in (("upper", 0), ("lower", 1)):
        rows = (slice(None), slice(None), slice(0, 14) if name == "upper" else slice(14, 28))
        halves = {half.tobytes(): label for half, label in zip(images.images[rows], images.labels, strict=True)}
        drawn = [halves[half.astype(np.uint8).tobytes()] for half in sample.inputs[rows]]
        np.testing.assert_array_equal(drawn, np.array(chosen)[found.pairs[sample.region, place]])


def test_two_gaussians_have_their_bayes_error():
    found = made("two")
    sample = found.sample(20_000, np.random.default_rng(0))
    wrong = (found.posterior(sample.inputs).argmax(axis=1) != sample.labels).mean()
    expected = norm.cdf(-0.1 * np.sqrt(300) / 2)
    assert wrong == pytest.approx(expected, abs=4.5 * np.sqrt(expected * (1 - expected) / 20_000))


@pytest.mark.parametrize("classes", [2, 10])
def test_means_of_gaussians_are_equally_far_apart(classes):
    means = load_distribution(
        SourceSpec("gaussians", {"classes": classes, "separation": 3.0, "shape": [1, 3, 3]})
    ).means
    gaps = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(classes, 1)]
    np.testing.assert_allclose(gaps, 3.0, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 64])
def test_balls_are_filled_evenly(width):
    """The share of points within radius r is r^width, and no direction is preferred."""
    points = in_ball(50_000, width, np.random.default_rng(0))
    lengths = np.linalg.norm(points, axis=1)
    for share in (0.1, 0.5, 0.9):
        inside = (lengths <= share ** (1 / width)).mean()
        assert inside == pytest.approx(share, abs=4.5 * np.sqrt(share * (1 - share) / 50_000))
    assert np.abs(points.mean(axis=0)).max() < 5 * points.std() / np.sqrt(50_000)


def test_discs_lie_in_their_planes_and_regions_apart():
    found = made("discs")
    sample = found.sample(2000, np.random.default_rng(0))
    flat = sample.inputs.reshape(2000, -1)
    for region in range(len(found.centres)):
        points = flat[sample.region == region].astype(float)
        assert np.linalg.matrix_rank(points - found.centres[region], tol=1e-3) == 3
    near = np.linalg.norm(flat[:, None] - found.centres[None], axis=2)
    assert (near[np.arange(2000), sample.region] <= found.radius + 1e-4).all()


def test_images_stay_near_their_prototype_and_its_posterior_is_no_guess():
    found = made("images")
    sample = found.sample(500, np.random.default_rng(0))
    offsets = np.linalg.norm(
        (sample.inputs[:, None] - found.prototypes[None]).reshape(500, len(found.prototypes), -1), axis=2
    )
    own = offsets[np.arange(500), sample.region]
    assert (own <= found.reach[sample.region]).all()
    assert own.std() > 50, "images do change"
    others = np.where(np.eye(len(found.prototypes), dtype=bool)[sample.region], np.inf, offsets)
    assert (others > found.reach[None]).all()
    with pytest.raises(SpecError, match=r"1 of 2 inputs are outside all regions"):
        found.posterior(np.concatenate([sample.inputs[:1], 255 - sample.inputs[:1]]))


def test_an_input_outside_all_regions_has_no_posterior():
    with pytest.raises(SpecError, match=r"inputs\[0\]: 3 of 3 inputs are outside all"):
        made("balls").posterior(np.zeros((3, 1, 8, 8)))


def test_a_distribution_that_knows_no_posterior_says_so(tmp_path):
    spec = SourceSpec(f"{__name__}:unknown")
    sources.write_source(spec, tmp_path)
    drawn = splits.load_data(tmp_path, DatasetSpec("s", 20, 20, 20), seed=0)
    with pytest.raises(SpecError, match="the posterior of Unknown isn't known"):
        drawn.targets()


NONE_SHARED = Regions(np.eye(2), np.array([0.5, 0.5]), np.zeros(2, dtype=bool))
ONE_SHARED = Regions(np.full((2, 2), 0.5), np.array([0.5, 0.5]), np.array([False, True]))


@pytest.mark.parametrize(
    ("attribute", "value", "line"),
    [
        ("regions", NONE_SHARED, "has no shared region; add one, or set regions = None"),
        ("regions", ONE_SHARED, "has regions but doesn't define inputs_in"),
        ("std", np.array([1.0, np.nan]), "must have a std with one finite number per channel"),
    ],
)
def test_what_later_stages_could_not_use_is_refused_before_any_job(monkeypatch, attribute, value, line):
    monkeypatch.setattr(Unknown, attribute, value)
    with pytest.raises(SpecError, match=f"loader: .*:unknown {line}"):
        sources.describe(SourceSpec(f"{__name__}:unknown"))


def test_an_annotation_that_isnt_true_is_refused():
    with pytest.raises(SpecError, match="must return a Distribution, as its annotation says, but returned Images"):
        sources.describe(SourceSpec(f"{__name__}:mislabelled"))


def test_a_source_holds_meta_data_alone_and_samples_by_seed(tmp_path):
    """A seed gives the same points whatever else is drawn; other seeds, splits and layouts give others."""
    sources.write_source(parse(SourceSpec, MADE["balls"]), tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir() if not path.name.startswith(".")] == ["meta.json"]
    assert sources.describe(parse(SourceSpec, MADE["balls"])).size is None
    spec = DatasetSpec("a", 300, 100, 200)
    first, again = (splits.load_data(tmp_path / "a", spec, seed=3) for _ in range(2))
    larger = splits.load_data(tmp_path / "a", DatasetSpec("a", 300, 100, 500, NoiseSpec("uniform", 0.2)), seed=3)
    other = splits.load_data(tmp_path / "a", spec, seed=4)
    for split in splits.SPLITS:
        np.testing.assert_array_equal(first.splits[split].images, again.splits[split].images)
        assert (first.splits[split].images != other.splits[split].images).any()
    np.testing.assert_array_equal(first.splits["train"].images, larger.splits["train"].images)
    np.testing.assert_array_equal(first.inputs("train"), first.splits["train"].images)
    assert (first.splits["train"].images[:100] != first.splits["val"].images).any()
    turned = load_distribution(parse(SourceSpec, MADE["balls"] | {"layout": 1}))
    assert np.abs(turned.centres - first.distribution.centres).max() > 0.1


@pytest.mark.parametrize("kind", ["uniform", "pair_flip", "asymmetric"])
def test_label_noise_on_a_distribution_joins_its_posterior(tmp_path, kind):
    sources.write_source(parse(SourceSpec, MADE["balls"]), tmp_path)
    drawn = splits.load_data(tmp_path, DatasetSpec("s", 10, 10, 20_000, NoiseSpec(kind, 0.3)), seed=0)
    split = drawn.splits["test"]
    posterior = drawn.targets()["regions.posterior"][split.region]
    np.testing.assert_allclose(posterior, drawn.posterior("test"))
    assert (split.labels != split.clean).mean() == pytest.approx(0.3, abs=0.02)
    hit = posterior[np.arange(len(posterior)), split.labels].mean()
    assert hit == pytest.approx((posterior**2).sum(axis=1).mean(), abs=0.02)


def test_what_images_left_is_removed_where_a_distribution_takes_their_name(tmp_path):
    sources.write_source(SourceSpec("digits"), tmp_path)
    sources.write_source(parse(SourceSpec, MADE["balls"]), tmp_path)
    assert not (tmp_path / "images.npy").exists()
    meta = files.read_json(tmp_path / "meta.json")
    assert (meta["checksums"], meta["size"]) == ({}, 0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"classes": 9}, "classes = 9: expected a multiple of group = 2"),
        ({"classes": 8, "group": 1}, "group = 1"),
        ({"classes": 8, "beta": 1.0}, "beta = 1.0"),
        ({"classes": 8, "radius": 3.0}, "radius = 3.0: expected less than 2.32"),
        ({"classes": 8, "norm": 1.0}, "radius = 1.0: expected less than 0.581"),
        ({"classes": 8, "disc": 64}, "disc = 64: expected a dimension from 1 to 63"),
        ({"classes": 8, "disc": 6, "radius": 5.0, "shape": [1, 3, 3]}, "radius = 5.0: expected less than"),
        ({"classes": 8, "shares": [0.5, 0.6]}, r"shares = \[0.5, 0.6\]: expected 2 shares"),
        ({"classes": 8, "shares": 0.5}, "shares = 0.5: expected a list of 2 shares"),
        ({"classes": 8, "shape": [64]}, r"shape = \[64\]"),
        ({"classes": "8"}, "classes = '8': expected a whole number"),
        ({"classes": 8, "layout": -1}, "layout = -1"),
        ({"classes": 4, "norm": 1e60}, "expected a number from 1e-6 to 1e6"),
        # So close that rounding may move a point from one region to the next.
        ({"classes": 2, "shape": [1, 1, 2], "radius": 0.0531}, r"radius = 0\.0531: expected less than"),
    ],
)
def test_bad_overlap_is_refused(options, told):
    with pytest.raises(SpecError, match=told):
        sources.describe(SourceSpec("overlap", options))


@pytest.mark.parametrize(
    ("loader", "options", "told"),
    [
        ("gaussians", {}, "separation: set either separation or mu"),
        ("gaussians", {"mu": 0.1, "separation": 1.0}, "separation: set either separation or mu"),
        ("gaussians", {"mu": 0.1, "classes": 3}, "classes = 3: expected 2 if mu is set"),
        ("gaussians", {"mu": -1}, "mu = -1: expected a number from 1e-6 to 1e6"),
        ("gaussians", {"classes": 11, "separation": 1.0, "shape": [1, 3, 3]}, "classes = 11: expected at most 10"),
        (
            "image_overlap",
            {"classes": 6, "prototypes": "overlap"},
            "prototypes: overlap is a distribution; name a loader of images",
        ),
        ("image_overlap", {"classes": 6, "prototypes": "mnist6k"}, "prototypes = 'mnist6k': expected one of"),
        ("image_overlap", {"classes": 2000}, "classes = 2000: expected fewer, since .* for only 1250"),
        ("collage", {"classes": 68}, "classes = 68: expected fewer, since .* 102 regions, .* have 100 pairs"),
        (
            "collage",
            {"classes": 6, "images": "gaussians"},
            "images: gaussians is a distribution; name a loader of images",
        ),
        ("collage", {"classes": 4, "of": [3, 3]}, r"of = \[3, 3\]: expected a list of at least two different classes"),
        ("collage", {"classes": 4, "of": [0, 10]}, r"of = \[0, 10\]: expected .* from 0 to 9"),
        ("collage", {"classes": 6, "of": [0, 1]}, "classes = 6: expected fewer, since .* 9 regions, .* have 4 pairs"),
        ("image_overlap", {"classes": 6, "turn": 200}, "turn = 200: expected 0 to 180 degrees"),
        ("image_overlap", {"classes": 6, "growth": 1}, r"growth = 1: expected a fraction in \[0, 1\)"),
        ("image_overlap", {"classes": 6, "shift": 12.0}, r"growth = \[12.0, 5.0, 0.05\]: expected smaller values"),
        ("image_overlap", {"classes": 16, "prototypes": "digits"}, "prototypes further apart"),
    ],
)
def test_bad_gaussians_and_images_are_refused(loader, options, told):
    with pytest.raises(SpecError, match=told):
        sources.describe(SourceSpec(loader, options))

"""Synthetic EBSD: it fits the picture, follows Kurdjumov and Sachs, and has the noise and gradients that were asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from bainite_fast.ebsd import EBSDMap, Grid
from bainite_fast.ebsd._quaternions import conjugate, cubic_angle, multiply
from bainite_fast.ebsd.variants import ks_packets, ks_variants
from bainite_fast.errors import InputError
from bainite_fast.synthetic import Crystallography, EBSDTruth, Measurement, get_preset, make, make_ebsd
from bainite_fast.synthetic.ebsd import BURGERS_UM

SQUARE, HEXAGONAL = Grid.square(150, 170, dx=0.2), Grid.hexagonal(160, 170, dx=0.2)
Maps = dict[str, tuple[EBSDMap, EBSDTruth]]


@pytest.fixture(scope="module")
def maps() -> Maps:
    return {
        "square": make_ebsd(SQUARE, preset="sem", seed=7),
        "hexagonal": make_ebsd(HEXAGONAL, preset="sem", seed=7),
    }


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return cubic_angle(multiply(a, conjugate(b)))


@pytest.mark.parametrize("preset", ["lom", "sem"])
@pytest.mark.parametrize("grid", [Grid.square(60, 70, dx=0.31), Grid.hexagonal(70, 65, dx=0.27)])
def test_lath_bainite_is_where_the_mask_of_the_picture_says(preset: str, grid: Grid) -> None:
    _, truth = make_ebsd(grid, preset=preset, seed=11)
    um = get_preset(preset).um_per_px
    x, y = grid.coordinates()
    column, row = np.floor(x / um).astype(int), np.floor(y / um).astype(int)
    _, mask = make((row.max() + 1, column.max() + 1), preset=preset, seed=11)
    np.testing.assert_array_equal(truth.lath_bainite, mask[row, column] == 1)


def test_the_same_seed_gives_the_same_map_and_another_one_another(maps: Maps) -> None:
    again, truth = make_ebsd(SQUARE, preset="sem", seed=7)
    first, first_truth = maps["square"]
    np.testing.assert_array_equal(again.quaternions, first.quaternions)
    np.testing.assert_array_equal(truth.block, first_truth.block)
    other, _ = make_ebsd(SQUARE, preset="sem", seed=8)
    assert np.mean(other.quaternions == first.quaternions) < 0.1


def test_a_larger_map_shows_the_same_steel(maps: Maps) -> None:
    larger, truth = make_ebsd(Grid.square(160, 190, dx=0.2), preset="sem", seed=7)
    np.testing.assert_array_equal(
        larger.quaternions.reshape(160, 190, 4)[:150, :170], maps["square"][0].quaternions.reshape(150, 170, 4)
    )
    np.testing.assert_array_equal(
        truth.variant.reshape(160, 190)[:150, :170], maps["square"][1].variant.reshape(150, 170)
    )


def test_square_and_hexagonal_maps_show_the_same_steel(maps: Maps) -> None:
    square, hexagonal = maps["square"][1], maps["hexagonal"][1]
    x, y = HEXAGONAL.coordinates()
    # The first row of both has the same points.
    np.testing.assert_array_equal(square.orientation[:170], hexagonal.orientation[:170])
    assert np.mean(hexagonal.lath_bainite) == pytest.approx(np.mean(square.lath_bainite), abs=0.05)


@pytest.mark.parametrize("kind", ["square", "hexagonal"])
def test_blocks_are_variants_of_their_packet_and_parent(maps: Maps, kind: str) -> None:
    _, truth = maps[kind]
    bainite = truth.lath_bainite
    assert 0.2 < bainite.mean() < 0.9
    assert ((truth.variant > 0) | ~bainite).all()
    plane = ks_packets()[truth.variant[bainite] - 1]
    of_packet = np.full(truth.packet.max() + 1, -1)
    of_packet[truth.packet[bainite]] = plane
    np.testing.assert_array_equal(of_packet[truth.packet[bainite]], plane)
    of_block = np.zeros(truth.block.max() + 1, int)
    of_block[truth.block[bainite]] = truth.variant[bainite]
    np.testing.assert_array_equal(of_block[truth.block[bainite]], truth.variant[bainite])
    drawn = multiply(ks_variants()[truth.variant[bainite] - 1], truth.parent_orientation[bainite])
    off = angle(truth.orientation[bainite], drawn)
    assert 1.5 < np.sqrt(np.mean(off**2)) < 5.0
    assert np.quantile(off, 0.99) < 10.5  # closer to its own variant than to any other
    assert len(np.unique(truth.variant[bainite])) > 12


def test_neighbouring_blocks_of_a_packet_differ_in_variant(maps: Maps) -> None:
    _, truth = maps["square"]
    packet, block, variant = (getattr(truth, name).reshape(150, 170) for name in ("packet", "block", "variant"))
    steps = 0
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        border = (packet[a] == packet[b]) & (packet[a] >= 0) & (block[a] != block[b])
        # Where a film is thinner than the step, the neighbour may be a block or two further.
        assert np.mean(variant[a][border] != variant[b][border]) > 0.97
        steps += int(border.sum())
    assert steps > 300


def test_the_noise_is_what_was_asked_for() -> None:
    ebsd, truth = make_ebsd(SQUARE, preset="sem", seed=3, measurement=Measurement(noise=0.8, wrong=0.0))
    error = angle(ebsd.quaternions, truth.orientation)[ebsd.indexed]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(0.8, rel=0.02)


def test_dislocations_bend_the_lattice_as_much_as_their_density_says() -> None:
    model = Crystallography(bainite_gnd=3e14, lath_spread=0.0, gnd_spread=0.0, ks_scatter=0.0)
    _, truth = make_ebsd(Grid.square(400, 400, dx=0.1), preset="sem", seed=2, crystallography=model)
    packet, q = truth.packet.reshape(400, 400), truth.orientation.reshape(400, 400, 4)
    block = truth.block.reshape(400, 400)
    inside = (packet[:, :-1] == packet[:, 1:]) & (block[:, :-1] == block[:, 1:]) & (packet[:, :-1] >= 0)
    turn = np.radians(angle(q[:, :-1], q[:, 1:])[inside]) / 0.1
    assert np.sqrt(np.mean(turn**2)) == pytest.approx(0.5 * BURGERS_UM * 3e14 * 1e-12, rel=0.1)


def test_points_are_lost_mostly_where_something_lies_under_the_beam() -> None:
    scan = Measurement(lost=0.01, lost_at_obstacles=0.5, wrong=0.01)
    ebsd, truth = make_ebsd(SQUARE, preset="lom", seed=4, measurement=scan)
    lost = ~ebsd.indexed
    assert 0.01 < lost.mean() < 0.2
    assert lost[truth.lath_bainite].mean() > 2 * 0.01
    off = angle(ebsd.quaternions, truth.orientation)
    wrong = ebsd.indexed & (off > 10)
    assert wrong.mean() == pytest.approx(0.01, abs=0.004)
    assert ebsd.ci is not None
    assert ebsd.ci[wrong].max() < 0.1 <= ebsd.ci[ebsd.indexed & ~wrong & (off < 5)].min()
    assert (ebsd.ci[lost] == -1).all()


@pytest.mark.parametrize("kind", ["square", "hexagonal"])
def test_embedded_ferrite_is_enclosed_by_bainite(maps: Maps, kind: str) -> None:
    ebsd, truth = maps[kind]
    x, y = ebsd.grid.coordinates()
    assert truth.embedded_ferrite.any()
    assert not (truth.embedded_ferrite & truth.lath_bainite).any()
    # Brute force: every pair of nearest points, by their distance.
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(0.2 * 1.01, output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    pairs = pairs[truth.grain[pairs[:, 0]] != truth.grain[pairs[:, 1]]]
    for grain in np.unique(truth.grain):
        own = truth.grain == grain
        neighbours = truth.lath_bainite[pairs[truth.grain[pairs[:, 0]] == grain, 1]]
        expected = not truth.lath_bainite[own].any() and neighbours.size > 0 and neighbours.mean() >= 0.5
        assert (truth.embedded_ferrite[own] == expected).all()


@pytest.mark.parametrize(
    ("make_it", "complaint"),
    [
        (lambda: Measurement(noise=-0.1), "noise=-0.1"),
        (lambda: Measurement(lost=0.9), "shares"),
        (lambda: Crystallography(block_laths=0.5), "block_laths"),
        (lambda: Crystallography(ferrite_ks_share=1.5), "ferrite_ks_share"),
        (lambda: Crystallography(bainite_gnd=float("nan")), "bainite_gnd"),
        (lambda: make_ebsd(SQUARE, preset="tem"), "no synthetic preset"),
        (lambda: make_ebsd((40, 50)), "is not a Grid"),
        (lambda: make_ebsd(SQUARE, seed=1.5), "seed=1.5"),
        (lambda: Measurement(noise="0.4"), "noise='0.4'"),
        (lambda: Crystallography(ks_scatter=True), "ks_scatter=True"),
    ],
)
def test_bad_settings_are_refused(make_it, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=complaint):
        make_it()

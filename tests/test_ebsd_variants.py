"""The Kurdjumov–Sachs variants: derived here, compared with the table of the reference data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.ebsd._quaternions import (
    conjugate,
    cubic_angle,
    from_rotation_vector,
    multiply,
    rotate,
    symmetry_operators,
)
from bainite_fast.ebsd.variants import (
    BoundaryClass,
    ks_bain_groups,
    ks_deviation,
    ks_packets,
    ks_pair_angles,
    ks_variants,
)
from bainite_fast.errors import InputError


def table() -> dict[str, list[object]]:
    folder = os.environ.get("BAINITE_FAST_DATA")
    if not folder:
        pytest.skip("BAINITE_FAST_DATA is not set: the table of K–S variants is not at hand")
    return json.loads((Path(folder) / "ebsd/reference/KS_variants.json").read_text())


def pairwise(q: np.ndarray) -> np.ndarray:
    return cubic_angle(multiply(q[:, None], conjugate(q)[None, :]))


def test_the_variants_packets_and_bain_groups_are_those_of_the_reference_table() -> None:
    reference = table()
    theirs = np.array(reference["variants_quat"], float)
    ours = ks_variants()
    between = cubic_angle(multiply(ours[:, None], conjugate(theirs)[None, :]))
    match = np.argmin(between, axis=1)
    assert between.min(axis=1).max() < 1e-5
    assert sorted(match) == list(range(24))
    their_packets = np.unique(np.array(reference["packet"])[match], axis=0, return_inverse=True)[1].ravel()
    their_bain = np.array(reference["bain"])[match]
    same = lambda groups: groups[:, None] == groups[None, :]  # noqa: E731
    np.testing.assert_array_equal(same(ks_packets()), same(their_packets))
    np.testing.assert_array_equal(same(ks_bain_groups()), same(their_bain))
    np.testing.assert_allclose(np.sort(ks_pair_angles()), np.sort(np.array(reference["V1_angles"])), atol=1e-6)


def test_the_relationship_itself_holds() -> None:
    """Each variant turns a {111} of the parent into a {011}, and in it a ⟨110⟩ into a ⟨111⟩."""
    planes = np.array([(1, 1, 1), (1, -1, 1), (-1, 1, 1), (1, 1, -1)]) / np.sqrt(3)
    for variant, packet in zip(ks_variants(), ks_packets(), strict=True):
        normal = rotate(variant, planes[packet])
        np.testing.assert_allclose(np.sort(np.abs(normal)), [0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)
        directions = np.array([(1, -1, 0), (1, 0, -1), (0, 1, -1), (1, 1, 0), (1, 0, 1), (0, 1, 1)]) / np.sqrt(2)
        inside = directions[np.abs(directions @ planes[packet]) < 1e-9]
        turned = np.sort(np.abs(rotate(variant, inside)), axis=1)
        assert np.isclose(turned, np.sqrt(1 / 3), atol=1e-12).all(axis=1).any()


def test_angles_of_v1_to_the_others_in_morito_order() -> None:
    expected = [0, 60, 60, 10.53, 60, 49.47, 49.47, 10.53, 50.51, 50.51, 14.88, 57.21]
    expected += [14.88, 50.51, 57.21, 20.61, 51.73, 47.11, 50.51, 57.21, 20.61, 47.11, 57.21, 21.06]
    np.testing.assert_allclose(ks_pair_angles(), expected, atol=0.006)


def test_the_gap_between_bain_groups() -> None:
    angles, bain = pairwise(ks_variants()), ks_bain_groups()
    same = bain[:, None] == bain
    assert angles[same].max() < 21.1
    assert angles[~same].min() > 47.1


@given(st.integers(0, 23), st.integers(0, 23), st.integers(0, 23), st.integers(0, 23), st.integers(0, 2**31))
def test_a_pair_of_variants_is_recognised_whatever_symmetry_and_parent(
    a: int, b: int, s: int, t: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parent = rng.normal(size=4)
    parent /= np.linalg.norm(parent)
    operators, variants = symmetry_operators("m-3m"), ks_variants()
    first = multiply(operators[s], multiply(variants[a], parent))
    second = multiply(operators[t], multiply(variants[b], parent))
    deviation, kind = ks_deviation(multiply(first, conjugate(second))[None])
    if a == b:
        assert deviation[0] > 10.0  # the least misorientation of two variants is 10.53°
        return
    assert deviation[0] < 1e-4
    packets, bain = ks_packets(), ks_bain_groups()
    if packets[a] == packets[b]:
        wanted = BoundaryClass.BLOCK
    else:
        wanted = BoundaryClass.BAIN if bain[a] == bain[b] else BoundaryClass.PACKET
    # 10.53° and 49.47° occur in a packet and between packets; their axes tell most of them apart, not all.
    if wanted != kind[0]:
        alike = cubic_angle(multiply(first, conjugate(second)))
        assert min(abs(alike - 10.529), abs(alike - 49.471)) < 0.01


def test_a_small_turn_is_the_deviation() -> None:
    variants = ks_variants()
    turn = from_rotation_vector(np.radians([0.0, 1.5, 0.0]))
    deviation, kind = ks_deviation(multiply(turn, multiply(variants[1], conjugate(variants[0])))[None])
    assert kind[0] == BoundaryClass.BLOCK
    assert abs(deviation[0] - 1.5) < 1e-6


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        ks_deviation(np.zeros((4, 3)))


def test_the_deviation_is_the_least_over_all_equivalents() -> None:
    rng = np.random.default_rng(4)
    q = rng.normal(size=(40, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    variants, symmetry = ks_variants(), symmetry_operators("m-3m")
    pairs = multiply(variants[1:], conjugate(variants[0]))
    both = np.concatenate([pairs, conjugate(pairs)])
    brute = np.zeros(len(q))
    for operator in symmetry:
        turned = multiply(multiply(operator, q)[:, None], symmetry[None, :])
        brute = np.maximum(brute, np.abs(turned @ both.T).max(axis=(1, 2)))
    np.testing.assert_allclose(ks_deviation(q)[0], np.degrees(2 * np.arccos(np.minimum(brute, 1))), atol=1e-6)

"""Plateau or cliff: an answer per stage, computed, with the numbers that it rests on."""

from __future__ import annotations

import numpy as np

from reports.tables import number
from reports.tuning.landscape import NEIGHBOURS, ROOM, STEEP, Place, Scale

CANNOT_TELL = "cannot tell"
PLATEAU, SHELF = "on a plateau", "flat, but below the best"
HILL, SLOPE = "near the top of a hill", "on a slope below the best"
CLIFF, LOW_CLIFF = "among the best, but at a cliff", "below the best, and at a cliff"
NO_END, LOW_NO_END = "among the best; how far around is not known", "below the best; how far around is not known"


def word(place: Place | None, scale: Scale | None) -> str:
    """What the printed point is on."""
    if place is None or scale is None or np.isnan(place.estimate):
        return CANNOT_TELL
    among = scale.best - place.estimate <= scale.tolerance
    if place.fall >= STEEP * scale.tolerance > 0:
        return CLIFF if among else LOW_CLIFF
    if place.fall > scale.tolerance:
        return HILL if among else SLOPE
    if place.fall_open:
        return NO_END if among else LOW_NO_END
    return PLATEAU if among else SHELF


def sentence(place: Place | None, scale: Scale | None, digits: int) -> str:
    """The answer for one stage; words between backticks are code."""
    if scale is None:
        return "Cannot tell: no trial is complete."
    if place is None:
        return "Cannot tell: no point is printed that the searched parameters could have."
    if np.isnan(place.estimate):
        return _too_few(place, scale, digits)
    said, below = word(place, scale), scale.best - place.estimate
    held = "within" if below <= scale.tolerance else "beyond"
    return (
        f"{said[:1].upper()}{said[1:]}: the estimate at the printed point, {number(place.estimate, digits)} (from the "
        f"{NEIGHBOURS} nearest of {place.near} trials near), is {number(below, digits)} below the best trial, "
        f"{_share(below, scale)}{held} the tolerance of {number(scale.tolerance, digits)}. "
        f"{_around(place, scale, digits)}"
    )


def _share(below: float, scale: Scale) -> str:
    """A difference as a share of what searching gained."""
    if not scale.spread > 0:
        return ""
    return f"which is {below / scale.spread:.0%} of what searching gained over a median random draw and "


def _too_few(place: Place, scale: Scale, digits: int) -> str:
    said = f"Cannot tell: {place.near} of the trials are near the printed point, and an estimate needs {NEIGHBOURS}"
    if not place.near:
        return f"{said}."
    ends = " to ".join(number(one, digits) for one in dict.fromkeys(place.around))
    beyond = scale.best - place.around[1] > scale.tolerance
    return (
        f"{said}. These have {ends}, {'all of them more' if beyond else 'the best of them no more'} than the tolerance "
        f"of {number(scale.tolerance, digits)} below the best trial ({number(scale.best, digits)}); "
        f"{place.better:.0%} of the random draws were better than all of these."
    )


def _around(place: Place, scale: Scale, digits: int) -> str:
    """What moving away costs, and where the best trial is."""
    name, sides = place.parameter, []
    for sign, room, is_open in ((-1, place.down, place.down_open), (1, place.up, place.up_open)):
        ends = ", where trials end" if is_open else ""
        sides.append(f"{np.exp(sign * room):.2f} ({'−' if sign < 0 else '+'}{room:.2f} log units{ends})")
    known = ", as far as trials reach," if place.fall_open else ""
    return (
        f"A factor of {ROOM} either way in `{name}`{known} costs up to {number(place.fall, digits)}; it can be "
        f"multiplied by {sides[0]} to {sides[1]} before more than the tolerance is lost. The best trial has "
        f"{np.exp(place.away):.2f} times the printed `{name}`."
    )

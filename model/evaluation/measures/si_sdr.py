"""Scale-invariant signal-to-distortion ratio (Le Roux et al., "SDR - half-baked or well done?", arXiv 1811.02508)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def si_sdr(estimate: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return 10 log10(|a t|² / |a t - e|²) in dB, with a = <e,t> / <t,t>.

    It says how well `estimate` is `truth` at any volume.

    Both [n], any unit; means are removed. inf for a scaled copy, -inf for an estimate orthogonal to the truth, NaN
    where there is nothing to compare (a silent truth or estimate). Raises ValueError for different lengths.
    """
    e, t = np.asarray(estimate, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if e.ndim != 1 or e.shape != t.shape or e.size == 0:
        raise ValueError(f"estimate {e.shape} and truth {t.shape} must be equally long signals [n]; cut the longer one")
    e, t = e - e.mean(), t - t.mean()
    energy = (t * t).sum()
    if energy == 0 or not e.any():
        return float("nan")
    target = (e * t).sum() / energy * t
    distortion = target - e
    with np.errstate(divide="ignore"):
        return float(10 * (np.log10((target * target).sum()) - np.log10((distortion * distortion).sum())))

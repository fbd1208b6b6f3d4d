r"""The kernels: how a key's weight falls with its distance u from the query, in bandwidths.

================  ===============================  =======================
`gaussian`        :math:`\exp(-u^2 / 2)`           reaches everywhere
`laplacian`       :math:`\exp(-u)`                 reaches everywhere
`epanechnikov`    :math:`1 - u^2`                  0 from u = 1 on
`boxcar`          :math:`1`                        0 beyond u = 1
`triangular`      :math:`1 - u`                    0 from u = 1 on
`cosine`          :math:`\cos(\pi u / 2)`          0 from u = 1 on
================  ===============================  =======================

Constant factors cancel in a weighted mean, so none is given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._answer import Floats

COMPACT: dict[str, Callable[[Floats], Floats]] = {
    "epanechnikov": lambda u: np.maximum(1 - u * u, 0),
    "boxcar": lambda u: np.where(u <= 1, 1.0, 0.0),
    "triangular": lambda u: np.maximum(1 - u, 0),
    "cosine": lambda u: np.where(u < 1, np.cos(np.pi / 2 * np.minimum(u, 1)), 0),
}
"""Those of bounded reach, as weights; the others are exponentials of a score, which `_pairs` computes."""
KERNELS = ("gaussian", "laplacian", *COMPACT)
NORMS = {"euclidean": 2.0, "manhattan": 1.0, "chebyshev": np.inf}
"""The metrics: the p of their p-norm."""

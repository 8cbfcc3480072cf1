"""A lithium-ion cell as two electrodes that age: the physics behind `simulate`.

A cell has analytic half-cell potentials, a lithium inventory and a polarisation. It ages by loss of lithium inventory
(LLI), which sets its capacity, and by loss of negative active material (LAM), which raises its polarisation and so
bends Q(V) long before capacity falls. Both run on the cell's own clock, cycle / life, with a knee.

Half-cell potentials: graphite and LFP after M. Safari, C. Delacourt, J. Electrochem. Soc. 158 (2011) A562; NMC 811
after C.-H. Chen et al., J. Electrochem. Soc. 167 (2020) 080534.

Shape legend: N cells, R rows (cell and cycle), K points of a curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

NOMINAL_AH = 1.1
EOL_AH = 0.8 * NOMINAL_AH

Chemistry = Literal["lfp", "nmc"]


def graphite_v(x: np.ndarray) -> np.ndarray:
    """Graphite against lithium, V, at lithiation x in 0..1."""
    return (
        0.6379
        + 0.5416 * np.exp(-305.5309 * x)
        + 0.0440 * np.tanh(-(x - 0.1958) / 0.1088)
        - 0.1978 * np.tanh((x - 1.0571) / 0.0854)
        - 0.6875 * np.tanh((x + 0.0117) / 0.0529)
        - 0.0175 * np.tanh((x - 0.5692) / 0.0875)
    )


def lfp_v(y: np.ndarray) -> np.ndarray:
    """Lithium iron phosphate against lithium, V, at lithiation y in 0..1."""
    free = np.clip(1 - y, 0, 1)
    return (
        3.4323
        - 0.8428 * np.exp(-80.2493 * free**1.3198)
        - 3.2474e-6 * np.exp(20.2645 * free**3.8003)
        + 3.2482e-6 * np.exp(20.2646 * free**3.7995)
    )


def nmc_v(y: np.ndarray) -> np.ndarray:
    """NMC 811 against lithium, V, at lithiation y in 0.2..1."""
    return (
        -0.8090 * y
        + 4.4875
        - 0.0428 * np.tanh(18.5138 * (y - 0.5542))
        - 17.7326 * np.tanh(15.7890 * (y - 0.3117))
        + 17.5842 * np.tanh(15.9308 * (y - 0.3120))
    )


@dataclass(frozen=True)
class Cells:
    """N cells: what each is made of and how it ages. All arrays (N,).

    life: cycle at which the knee formula reaches `EOL_AH`; capacity_ah: at cycle 1; lam_rate: LAM at end of life;
    knee: share of the loss that comes with the knee; sharpness: exponent of the knee; rise_ah: capacity regained in
    the first weeks; resistance_ohm: at cycle 1.
    """

    life: np.ndarray
    capacity_ah: np.ndarray
    lam_rate: np.ndarray
    knee: np.ndarray
    sharpness: np.ndarray
    rise_ah: np.ndarray
    resistance_ohm: np.ndarray

    @classmethod
    def draw(
        cls, rng: np.random.Generator, n: int, *, life: tuple[float, float], capacity_ah: float
    ) -> Cells:
        """N cells whose lives are log-spread over `life`, most of them in the middle."""
        low, high = np.log(life)
        middle = (low + high) / 2 + (high - low) / 5.5 * np.clip(rng.standard_normal(n), -2.5, 2.5)
        return cls(
            life=np.round(np.exp(middle)),
            capacity_ah=capacity_ah * (1 + 0.007 * rng.standard_normal(n)),
            lam_rate=np.exp(0.20 * rng.standard_normal(n)),
            knee=rng.uniform(0.55, 0.85, n),
            sharpness=rng.uniform(4, 9, n),
            rise_ah=0.004 * rng.random(n),
            resistance_ohm=0.017 * (1 + 0.03 * rng.standard_normal(n)),
        )

    def take(self, index: np.ndarray) -> Cells:
        """One entry per element of `index`: cells as rows."""
        return Cells(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def charge_ah(self, cycle: np.ndarray) -> np.ndarray:
        """(N,) cyclable lithium at `cycle` (N,), Ah: exactly `EOL_AH` at `life`, more before, less after."""
        part = cycle / self.life
        lost = (1 - self.knee) * part**0.9 + self.knee * part**self.sharpness
        rise = self.rise_ah * (1 - np.exp(-cycle / 40)) * (1 - part)
        return self.capacity_ah - (self.capacity_ah - EOL_AH) * lost + rise

    def lam(self, cycle: np.ndarray) -> np.ndarray:
        """(N,) share of the negative electrode lost at `cycle` (N,)."""
        return 0.2 * self.lam_rate * cycle / self.life


def cell_voltage(
    charge_ah: np.ndarray,
    lam: np.ndarray,
    resistance_ohm: np.ndarray,
    depth: np.ndarray,
    *,
    current_a: float,
    chemistry: Chemistry,
) -> np.ndarray:
    """(R, K) cell voltage at depth of discharge `depth` (K,), share of `charge_ah` (R,); current_a > 0 discharges."""
    q = charge_ah[:, None] * depth
    negative_ah, positive_ah = 1.25 * NOMINAL_AH, 1.15 * NOMINAL_AH
    # a little lithium stays behind in graphite, and not all of the lost material was in use
    x = (charge_ah[:, None] * 1.0005 - q) / (negative_ah * (1 - 0.25 * lam[:, None]))
    # tables, because the potentials are smooth and the rows many
    axis = np.linspace(-0.02, 1.2, 20_001)
    anode = np.interp(x, axis, graphite_v(axis))
    start, potential = (0.018, lfp_v) if chemistry == "lfp" else (0.26, nmc_v)
    cathode = np.interp(start + q / positive_ah * (1 - start), axis, potential(np.clip(axis, 0, 1)))
    # fewer sites carry the same current: the loss shows where the electrode runs out of lithium
    crowded = 1.5 * depth**1.2 + (0.4 + 14.0 * lam[:, None]) * depth**2.5 + 0.2 * depth**12
    settling = 1 - 0.5 * np.exp(-q / 0.008)
    return cathode - anode - current_a * resistance_ohm[:, None] * (settling + crowded)

"""A data set of your own: one function that reads it, a look at what is odd about it, and a model.

Run it:  python examples/own_data.py
Yours need not look like the one here: whatever `read` finds, it returns one row per cell and cycle with `cell_id`,
`cycle`, `q_ah` (1000 discharge capacities at the voltages `VOLTAGE_GRID`) and, where it is known, `cycle_life`.
"""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from remem import BatteryRULRegressor
from remem.data.battery.checks import check
from remem.data.battery.schema import VOLTAGE_GRID, conform, curve_matrix, curve_series
from remem.data.battery.simulate import simulate_curves


def read(path: Path) -> pl.DataFrame:
    """A folder of one npz file per cell, in milliampere hours over falling voltage: the lab's own habit."""
    cells = []
    for file in sorted(path.glob("*.npz")):
        cell = np.load(file)
        ah = np.stack([np.interp(-VOLTAGE_GRID, -cell["volt"], row) for row in cell["mah"]]) / 1000
        columns = {"cell_id": file.stem, "cycle": cell["cycle"], "cycle_life": float(cell["life"])}
        cells.append(pl.DataFrame(columns).with_columns(curve_series(ah)))
    table, _ = conform(pl.concat(cells), "curves", source=str(path))
    return table


def make_lab(folder: Path) -> None:
    """Stands for your measurements: coarser in voltage than our grid, with a few broken curves."""
    cells = simulate_curves(45, seed=6, missing=0.1, spikes=3)
    for cell in cells.partition_by("cell_id"):
        values = {"volt": VOLTAGE_GRID[::3], "mah": 1000 * curve_matrix(cell)[:, ::3]}
        np.savez(folder / cell["cell_id"][0], cycle=cell["cycle"], life=cell["cycle_life"][0], **values)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        make_lab(Path(scratch))
        curves = read(Path(scratch))
    print(check(curves, nominal_ah=1.1), "\n")
    new = pl.col("cell_id") > "sim_036"
    model = BatteryRULRegressor(confidence=0.8, folds=5).fit(curves.filter(~new))
    cells = curves.filter(new)
    lo, hi = model.predict_interval(cells)
    lives = cells.unique("cell_id", keep="first", maintain_order=True)
    forecast = pl.DataFrame({"forecast": model.predict(cells), "lo": lo, "hi": hi})
    print(pl.concat([lives.select("cell_id", "cycle_life"), forecast.cast(pl.Int32)], how="horizontal"))
    print(f"R2 on cells that were not trained on: {model.score(cells):.2f}")

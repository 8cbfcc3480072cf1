"""Remaining life after every cycle, one cycle at a time, in constant memory.

Run it:  python examples/battery_stream.py
It trains a small model on generated cells, then lives through a cell that nobody trained on, of which every fifth cycle
was lost. The same on the command line: `remem battery fit --data.task online`, then `remem stream BUNDLE`.
"""

import tempfile
from pathlib import Path

from remem.apps.battery.cli import with_config
from remem.apps.battery.fitting import run
from remem.data.battery.simulate import simulate_cycles
from remem.serving import StreamSession

SMALL = ["--trainer.max_epochs=2", "--model.d_model=32", "--model.calibration_folds=3"]


def train(folder: Path) -> Path:
    """Fit on twenty cells and return the bundle: all that production needs."""
    simulate_cycles(20, seed=1).write_parquet(folder / "cycles.parquet")
    own = [f"--data.path={folder / 'cycles.parquet'}", f"--out={folder / 'run'}"]
    quiet = ["--trainer.enable_progress_bar=false"]
    run(with_config(["fit", "--data.task=online", *own, *SMALL, *quiet]))
    return folder / "run" / "bundle"


def stream(bundle: Path) -> None:
    """Feed a new cell row by row; the session keeps nothing but a state of fixed size."""
    cell = simulate_cycles(1, seed=2, life=(900, 900), missing=0.2)
    end = int(cell["cycle"].max())
    session = StreamSession(bundle)
    print(f"{session.state_bytes} bytes of memory per cell\n")
    print("cycle  remaining  forecast  interval       flags")
    for n, row in enumerate(cell.iter_rows(named=True)):
        answer = session.update(row["cell_id"], row)
        if n % 70 == 69:
            bounds = f"{answer['rul_lo']:.0f} to {answer['rul_hi']:.0f}"
            flags = ", ".join(answer["flags"])
            print(f"{row['cycle']:5d}{end - row['cycle']:11d}{answer['rul']:10.0f}  {bounds:<13}  {flags}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        stream(train(Path(scratch)))

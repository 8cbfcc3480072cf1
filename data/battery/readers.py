"""Files of any known layout -> one of the three tables of `schema`, with a report of what was done on the way.

The layout is recognised by what is in the file, never by its name. A new layout is one function
`frame -> (frame, Report) | None` in `_LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from . import cyclers
from .flags import Report
from .integrate import samples_to_curves, samples_to_cycles
from .schema import (
    GRID_POINTS,
    VOLTAGE_GRID,
    Kind,
    conform,
    curve_matrix,
    curve_series,
    kind_of,
    near,
)

PathLike = str | Path
Layout = Callable[[pl.DataFrame], "tuple[pl.DataFrame, Report] | None"]

FIRST_CSV_CYCLE = 2
"""The csv files of the Severson re-analysis start at cycle 2: the source has no cycle 1."""


_HEAD = 1 << 20
_PREAMBLE = 1000
"""Bytes, and lines of them, in which the header of a text is looked for: Novonix writes its protocol before it."""


@dataclass(frozen=True)
class Reading:
    """A table, which of the three it is ("samples", "cycles", "curves"), and what reading it took.

    order: (rows,) int64, the row of the input that each row of `frame` came from, so that results can be handed back
        in the order of the input: `out[numpy.argsort(order)]`. Counts on through several files.
    """

    frame: pl.DataFrame
    kind: Kind
    report: Report
    order: np.ndarray


def read(
    path: PathLike, *, columns: Mapping[str, str] | None = None, lives: PathLike | None = None
) -> Reading:
    """Read one file, or a folder of the Severson re-analysis (one csv of 1000 rows x 99 columns per cell).

    Knows: the tables of `schema` as parquet or csv; per-cycle tables of HUST, XJTU and Tongji (`row` becomes
    `cycle`); NASA PCoE capacities and discharges; CALCE CS2 cycles and curves; BatteryArchive `cycle_data` and
    `timeseries` csv; raw cycler files (see `cyclers`); csv of the Severson re-analysis.

    Args:
        path: the file or folder.
        columns: other names, as {old: new}, applied before the layout is recognised.
        lives: csv of cycle lives for the Severson layout, one number per cell in the order of the cells. Found by
            itself in the folder (`*lives*.csv`) or in `../cycle_lives/<folder>_cycle_lives.csv`.

    Returns:
        The table in the types of `schema`, its kind, and the report.

    Raises:
        ValueError: the file is missing, empty, cut short, not what it claims to be, of no known layout, or breaks
            the schema; the message names the file, what was found and the remedy.
    """
    path = Path(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ValueError(
            f"{path}: no such file; wanted a data file or folder; got {near(path.name, siblings)}; check the path"
        )
    if path.is_dir():
        return _read_grid_csv(_cell_files(path), lives, path.name)
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); wanted a table; copy or export it again")
    suffix = path.suffix.lower()
    if suffix in cyclers.EXCEL:
        frame = cyclers.read_excel(path)
    elif suffix in cyclers.BINARY:
        frame = cyclers.read_batterydf(path)
    elif _is_parquet(path):
        frame = _scan_parquet(path)
    elif _is_grid_csv(path):
        return _read_grid_csv([path], lives, path.parent.name)
    else:
        frame = _scan_text(path)
    frame = _rename(frame, columns, path)
    frame, report = _recognise(frame, path)
    frame, named = _name_rows(frame, path)
    kind = kind_of(frame.columns)
    if kind is None:  # _recognise has raised already
        raise ValueError(f"{path}: no known layout")
    frame, conformed, order = _conform_ordered(frame, kind, path.name)
    return Reading(frame, kind, report + named + conformed, order)


def _conform_ordered(frame: pl.DataFrame, kind: Kind, source: str) -> tuple[pl.DataFrame, Report, np.ndarray]:
    """`conform`, and the old place of each row."""
    frame, report = conform(frame.with_row_index("_row"), kind, source=source)
    return frame.drop("_row"), report, frame["_row"].cast(pl.Int64).to_numpy()


def read_curves(
    paths: PathLike | Sequence[PathLike],
    *,
    columns: Mapping[str, str] | None = None,
    lives: PathLike | None = None,
) -> Reading:
    """A curves table from one path or several; samples are turned into curves by integrating their current.

    Raises:
        ValueError: as `read`, and where a file holds cycles, or a cell and cycle comes twice.
    """
    return _read_as("curves", paths, columns, lives)


def read_cycles(paths: PathLike | Sequence[PathLike], *, columns: Mapping[str, str] | None = None) -> Reading:
    """A cycles table from one path or several. Samples are integrated; curves give the capacity of their last volt.

    Raises:
        ValueError: as `read`, and where a cell and cycle comes twice.
    """
    return _read_as("cycles", paths, columns, None)


def read_samples(
    paths: PathLike | Sequence[PathLike], *, columns: Mapping[str, str] | None = None
) -> Reading:
    """A samples table from one path or several.

    Raises:
        ValueError: as `read`, and where a file holds cycles or curves.
    """
    return _read_as("samples", paths, columns, None)


def _read_as(
    kind: Kind,
    paths: PathLike | Sequence[PathLike],
    columns: Mapping[str, str] | None,
    lives: PathLike | None,
) -> Reading:
    several = [paths] if isinstance(paths, str | Path) else list(paths)
    if not several:
        raise ValueError(f"read_{kind}: got no paths; give at least one file")
    frames: list[pl.DataFrame] = []
    orders: list[np.ndarray] = []
    report = Report()
    for path in several:
        reading = read(path, columns=columns, lives=lives)
        frame, extra = _convert(reading, kind, Path(path))
        # rows made here (one cycle from many samples) have no row of input: their own order stands
        kept = reading.order if frame.height == len(reading.order) else np.arange(frame.height)
        orders.append(kept + sum(len(order) for order in orders))
        frames.append(frame)
        report = report + reading.report + extra
    if len(frames) == 1:
        return Reading(frames[0], kind, report, orders[0])
    source = ", ".join(Path(p).name for p in several)
    frame, _, again = _conform_ordered(pl.concat(frames, how="diagonal_relaxed"), kind, source)
    return Reading(frame, kind, report, np.concatenate(orders)[again])


def _convert(reading: Reading, kind: Kind, path: Path) -> tuple[pl.DataFrame, Report]:
    if reading.kind == kind:
        return reading.frame, Report()
    if reading.kind == "samples" and kind == "cycles":
        return samples_to_cycles(reading.frame)
    if reading.kind == "samples" and kind == "curves":
        return samples_to_curves(reading.frame)
    if reading.kind == "curves" and kind == "cycles":
        last = curve_matrix(reading.frame)[:, -1]
        frame = reading.frame.drop("q_ah").with_columns(pl.Series("capacity_ah", last).fill_nan(None))
        return conform(frame, "cycles", source=path.name)
    raise ValueError(
        f"{path}: holds a {reading.kind} table (columns {reading.frame.columns[:6]}...); wanted {kind}, which cannot "
        f"be had from it; give a file of {kind} or of samples (cell_id, cycle, test_time_s, voltage_v, current_a)"
    )


# --- opening files -------------------------------------------------------------------------------------------


def _is_parquet(path: Path) -> bool:
    if path.suffix.lower() in (".parquet", ".pq"):
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _scan_parquet(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        tail = file.read(4)
    if head != b"PAR1":
        raise ValueError(
            f"{path}: not a parquet file (it starts with {head!r}, wanted b'PAR1'); export it again or name it .csv"
        )
    if tail != b"PAR1":
        raise ValueError(
            f"{path}: the parquet file is truncated ({path.stat().st_size} bytes, no footer); copy it again and "
            "compare checksums (remem data check)"
        )
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(
            f"{path}: the parquet file is damaged ({_first_line(error)}); copy it again and compare checksums "
            "(remem data check)"
        ) from error


def _scan_text(path: Path) -> pl.DataFrame:
    """A csv, or a cycler's text export: its header may lie below a preamble and its fields be split by , ; or tab."""
    raw = path.read_bytes()
    if b"\x00" in raw[:_HEAD]:
        raise ValueError(
            f"{path}: neither parquet nor text (it starts with {raw[:8]!r}); wanted parquet, csv or a cycler's "
            "export; convert it first"
        )
    lines = raw[:_HEAD].decode("utf-8-sig", "replace").splitlines()[:_PREAMBLE]
    found = next((i for i, line in enumerate(lines) if cyclers.is_header(_fields(line))), None)
    if found is None and (
        lines[0].startswith(("~", "[", "EC-Lab", "BT-Lab")) or path.suffix.lower() == ".mpt"
    ):
        return cyclers.read_batterydf(path)
    header = found or 0
    separator = _separator(lines[header])
    if separator == "\t":  # Maccor ends its rows with a tab that its header does not have
        raw = re.sub(rb"\t+(\r?\n)", rb"\1", raw)
    try:
        return pl.read_csv(
            raw,
            separator=separator,
            skip_rows=header,
            infer_schema_length=None,
            null_values=["", "NA", "null", "None"],
            encoding="utf8-lossy",
            decimal_comma=separator != ","
            and bool(re.search(r"\d,\d", "".join(lines[header + 1 : header + 5]))),
        )
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{path}: cannot be read as csv ({_first_line(error)}); wanted a header row and rows of the same number "
            "of fields; export it again"
        ) from error


def _separator(line: str) -> str:
    return max(",;\t", key=line.count)


def _fields(line: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(_separator(line))]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:160]


def _rename(frame: pl.DataFrame, columns: Mapping[str, str] | None, path: Path) -> pl.DataFrame:
    columns = columns or {}
    for old in columns:
        if old not in frame.columns:
            raise ValueError(
                f"{path}: columns= renames {near(old, frame.columns)}, which the file does not have; got "
                f"{frame.columns}; correct the name (--columns old=new)"
            )
    names = [columns.get(name, name).strip() for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"{path}: after renaming there would be {names.count(name)} columns '{name}'; wanted one; rename "
                f"the other away ({{'{name}': 'other_{name}'}}, --columns {name}=other_{name})"
            )
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


# --- layouts -------------------------------------------------------------------------------------------------


def _recognise(frame: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, Report]:
    for layout in _LAYOUTS:
        found = layout(frame)
        if found is not None:
            return found
    known = ["cell_id", "cycle", "q_ah", "capacity_ah", "test_time_s", "voltage_v", "current_a"]
    close = [near(c, known) for c in frame.columns if "near" in near(c, known)]
    raise ValueError(
        f"{path}: no known layout; got columns {frame.columns[:20]}; wanted curves (cell_id, cycle, q_ah), cycles "
        "(cell_id, cycle, capacity_ah) or samples (cell_id, cycle, test_time_s, voltage_v, current_a); rename with "
        f"columns={{'old': 'new'}} (--columns old=new){'; ' + ', '.join(close) if close else ''}"
    )


def _archive_cycles(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """BatteryArchive `*_cycle_data.csv`: one row per cycle, capacities from the cycler."""
    if not {"Cycle_Index", "Discharge_Capacity (Ah)"} <= set(frame.columns) or "Voltage (V)" in frame.columns:
        return None
    names = {
        "Cycle_Index": "cycle",
        "Discharge_Capacity (Ah)": "capacity_ah",
        "Charge_Capacity (Ah)": "charge_capacity_ah",
        "Discharge_Energy (Wh)": "energy_wh",
        "Charge_Energy (Wh)": "charge_energy_wh",
        "Test_Time (s)": "test_time_s",
        "Min_Voltage (V)": "voltage_min_v",
        "Max_Voltage (V)": "voltage_max_v",
        "Min_Current (A)": "current_min_a",
        "Max_Current (A)": "current_max_a",
    }
    frame = frame.rename(names, strict=False)
    told = "Discharge_Capacity (Ah) of BatteryArchive; give the timeseries file to have it integrated"
    return frame, Report.of([(None, None, "vendor_capacity", frame.height, told)])


def _nasa_capacity(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    if not {"battery_id", "capacity_ah", "cycle"} <= set(frame.columns):
        return None
    told = "capacity of the NASA files (current integrated there down to 2.7 V)"
    return frame.rename({"battery_id": "cell_id"}), Report.of(
        [(None, None, "vendor_capacity", frame.height, told)]
    )


def _nasa_discharge(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    if not {"battery_id", "cycle", "time_s", "voltage_v", "current_a"} <= set(frame.columns):
        return None
    return frame.rename({"battery_id": "cell_id", "time_s": "test_time_s"}), Report()


def _calce_cycles(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    if not {"cell", "cycle", "discharge_capacity_ah", "complete_discharge"} <= set(frame.columns):
        return None
    frame = frame.rename({"cell": "cell_id"})
    cut = frame.filter(~pl.col("complete_discharge"))
    whole = pl.when(pl.col("complete_discharge")).then(pl.col("discharge_capacity_ah"))
    rows = [
        (cell, cycle, "incomplete_discharge", 1, "capacity made null; discharge_capacity_ah keeps the figure")
        for cell, cycle in cut.select("cell_id", "cycle").iter_rows()
    ]
    return frame.with_columns(whole.alias("capacity_ah")), Report.of(rows)


def _calce_curves(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """CALCE samples: the clock restarts in each phase, so phases are laid end to end in the order of a cycle."""
    if not {"cell", "cycle", "phase", "time_s", "voltage_v", "current_a"} <= set(frame.columns):
        return None
    order = {"charge_cc": 1, "charge_cv": 2, "discharge": 3}
    frame = frame.rename({"cell": "cell_id"}).with_columns(
        pl.col("phase").replace_strict(order, default=0, return_dtype=pl.Int32).alias("step_id"),
        pl.col("time_s").cast(pl.Float64),
    )
    frame = frame.sort("cell_id", "cycle", "step_id", maintain_order=True)
    ends = (
        frame.group_by("cell_id", "cycle", "step_id", maintain_order=True)
        .agg(pl.col("time_s").max().alias("_long"))
        .with_columns((pl.col("_long").cum_sum() - pl.col("_long")).over("cell_id", "cycle").alias("_offset"))
    )
    frame = frame.join(ends, on=["cell_id", "cycle", "step_id"], how="left", maintain_order="left")
    frame = frame.with_columns((pl.col("time_s") + pl.col("_offset")).alias("test_time_s")).drop(
        "_long", "_offset", "time_s"
    )
    cycles = ends.select("cell_id", "cycle").n_unique()
    told = f"phases of {cycles} cycles laid end to end; rests between them are not in the file"
    return frame, Report.of([(None, None, "time_restarts", cycles, told)])


def _long_curves(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """One row per cell, cycle and voltage: interpolated onto the grid."""
    columns = set(frame.columns)
    if not {"q_ah", "voltage_v", "cycle"} <= columns or frame["q_ah"].dtype.is_nested():
        return None
    keys = [c for c in ("cell_id", "cycle") if c in columns]
    carried = [c for c in ("cycle_life",) if c in columns]
    heads, curves = [], []
    rows: list[tuple[str | None, int | None, str, int, str]] = []
    wanted = [*keys, *carried, "voltage_v", "q_ah"]
    for group in frame.select(wanted).partition_by(keys, maintain_order=True):
        points = group.drop_nulls(["voltage_v", "q_ah"]).sort("voltage_v")
        if points.height < 2:
            rows.append(
                (
                    None,
                    group["cycle"][0],
                    "missing_value",
                    group.height,
                    "fewer than two points; cycle left out",
                )
            )
            continue
        heads.append(points.select([*keys, *carried]).head(1))
        curves.append(np.interp(VOLTAGE_GRID, points["voltage_v"], points["q_ah"]))
    if not curves:
        return None
    told = f"q_ah at voltage_v interpolated onto the {GRID_POINTS} voltages of the grid"
    out = pl.concat(heads).with_columns(curve_series(np.stack(curves)))
    return out, Report.of([*rows, (None, None, "unit_converted", len(curves), told)])


def _own(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """Tables already in the words of `schema` (HUST, XJTU, Tongji per-cycle tables among them)."""
    kind = kind_of(frame.columns)
    if kind == "samples" and "cycle" not in frame.columns:
        return None  # some cyclers write voltage_v and current_a too
    return (frame, Report()) if kind else None


_LAYOUTS: tuple[Layout, ...] = (
    _archive_cycles,
    _nasa_capacity,
    _nasa_discharge,
    _calce_cycles,
    _calce_curves,
    _long_curves,
    _own,
    cyclers.cycler,
)


def _name_rows(frame: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, Report]:
    """Fill in `cell_id` and `cycle` where a file has none: from its name, from `row`, from the order of rows."""
    rows: list[tuple[str | None, int | None, str, int, str]] = []
    if "cell_id" not in frame.columns:
        if near_cell := [
            c for c in frame.columns if c.lower() in ("cell", "cellid", "battery", "battery_id", "barcode")
        ]:
            raise ValueError(
                f"{path}: has no column 'cell_id' but {near_cell}; wanted the name of each row's cell; rename with "
                f"columns={{'{near_cell[0]}': 'cell_id'}} (--columns {near_cell[0]}=cell_id)"
            )
        name = re.sub(r"_(cycle_data|timeseries)$", "", path.stem)
        frame = frame.with_columns(pl.lit(name).alias("cell_id"))
        rows.append((name, None, "cell_from_file_name", frame.height, f"no cell_id in {path.name}"))
    if "cycle" not in frame.columns and kind_of(frame.columns) != "samples":
        if "row" in frame.columns:
            frame, told = (
                frame.rename({"row": "cycle"}),
                "column row is the order of cycles, not always their number",
            )
        else:
            order = (pl.int_range(pl.len()) + 1).over("cell_id").alias("cycle")
            frame, told = frame.with_columns(order), "no column cycle; rows of a cell numbered from 1"
        rows.append((None, None, "cycle_from_order", frame.height, told))
    return frame, Report.of(rows)


# --- csv of the Severson re-analysis -------------------------------------------------------------------------


def _natural(path: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", path.stem)
    return (int(digits[-1]) if digits else 0, path.stem)


def _cell_files(folder: Path) -> list[Path]:
    files = sorted((p for p in folder.glob("*.csv") if "lives" not in p.stem), key=_natural)
    if not files:
        raise ValueError(
            f"{folder}: a folder without csv files; wanted one csv of 1000 rows x 99 columns per cell"
        )
    return files


def _is_grid_csv(path: Path) -> bool:
    """Numbers in the first line, at least two of them, and no header."""
    with path.open("rb") as file:
        line = file.readline().decode("utf-8", "replace").strip()
    fields = line.split(",")
    try:
        [float(field) for field in fields]
    except ValueError:
        return False
    return len(fields) > 1


def _read_grid_csv(files: list[Path], lives: PathLike | None, folder: str) -> Reading:
    numbers = _read_lives(files[0].parent, lives, len(files))
    frames = []
    for i, path in enumerate(files):
        try:
            table = pl.read_csv(path, has_header=False, infer_schema_length=None)
            matrix = table.cast(pl.Float64).to_numpy().T
        except pl.exceptions.PolarsError as error:
            raise ValueError(
                f"{path}: not a table of numbers ({_first_line(error)}); wanted {GRID_POINTS} rows (voltages) of one "
                "column per cycle and no header"
            ) from error
        if matrix.shape[1] != GRID_POINTS:
            raise ValueError(
                f"{path}: got {matrix.shape[1]} rows x {matrix.shape[0]} columns; wanted {GRID_POINTS} rows (3.6 V to "
                "2.0 V) x one column per cycle from cycle 2; the file may be cut short: copy it again"
            )
        cycles = np.arange(FIRST_CSV_CYCLE, FIRST_CSV_CYCLE + len(matrix))
        frame = pl.DataFrame({"cell_id": f"{folder}_{_natural(path)[0] or i + 1:02d}", "cycle": cycles})
        frame = frame.with_columns(curve_series(matrix))
        if numbers is not None:
            frame = frame.with_columns(pl.lit(numbers[i], pl.Float32).alias("cycle_life"))
        frames.append(frame)
    frame, report, order = _conform_ordered(pl.concat(frames), "curves", folder)
    named = Report.of(
        [(None, None, "cell_from_file_name", len(files), f"cells of {folder} named by their file")]
    )
    return Reading(frame, "curves", named + report, order)


def _read_lives(folder: Path, lives: PathLike | None, cells: int) -> list[float] | None:
    if lives is not None:
        path = Path(lives)
    else:
        beside = folder.parent / "cycle_lives" / f"{folder.name}_cycle_lives.csv"
        found = [*sorted(folder.glob("*lives*.csv")), *([beside] if beside.exists() else [])]
        if not found or cells == 1:
            return None
        path = found[0]
    if not path.exists():
        raise ValueError(f"{path}: no such file; wanted a csv of cycle lives; check lives=")
    words = [w for w in re.split(r"[\s,;]+", path.read_text()) if w]
    try:
        numbers = [float(w) for w in words]
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; wanted one cycle life per cell and nothing else; remove the header"
        ) from error
    if len(numbers) != cells:
        raise ValueError(
            f"{path}: got {len(numbers)} cycle lives for {cells} cells; wanted one per cell, in the order of the cells"
        )
    return numbers

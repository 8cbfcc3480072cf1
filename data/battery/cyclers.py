"""Raw files of battery cyclers -> samples.

Text and Excel exports of Arbin, Neware, Maccor, BioLogic, Basytec, Digatron, Landt and Novonix, BatteryArchive time
series and the Battery Data Format are recognised by their column names. Other files (Neware .nda, MATLAB, texts whose
header is not found) are parsed by the optional package batterydf; its columns are then treated alike. Only its parsers
are used: its conversion of units multiplies hours by 3600 twice (version 0.1.0).

Makers' own capacity and energy columns are not read: they reset per step, per cycle or never. Charge is integrated
from the current, see `integrate`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import polars as pl

from .flags import Report

Row = tuple[str | None, int | None, str, int, str]

EXCEL = (".xlsx", ".xlsm")
BINARY = (".nda", ".ndax", ".mat", ".mpr", ".res", ".xls", ".feather")
"""Suffixes left to batterydf without looking inside."""

_MILLI, _MINUTE, _HOUR = 1e-3, 60.0, 3600.0
# names with all but letters and digits removed, best first, and the factor to our unit
_TEST_TIME: dict[str, float] = {
    "testtimes": 1, "testtimesecond": 1, "totaltimes": 1, "testtimesec": 1, "testsec": 1, "programdurations": 1,
    "testtimems": _MILLI, "testtimemin": _MINUTE, "testmin": _MINUTE, "totaltimemin": _MINUTE,
    "testtimeh": _HOUR, "testtimehr": _HOUR, "testhr": _HOUR, "totaltimeh": _HOUR, "runtimeh": _HOUR,
    "testtime": 1, "totaltime": 1, "progtime": 1,
}  # fmt: skip
_STEP_TIME: dict[str, float] = {
    "steptimes": 1, "steptimesec": 1, "stepsec": 1, "tsteps": 1, "steptimemin": _MINUTE, "stepmin": _MINUTE,
    "steptimeh": _HOUR, "tsteph": _HOUR, "steptime": 1,
}  # fmt: skip
_TIME: dict[str, float] = {"times": 1, "timemin": _MINUTE, "timeh": _HOUR, "time": 1}
"""The clock of the test where the file has another for its steps (BioLogic, Basytec), else of a step (Neware)."""
_VOLTAGE: dict[str, float] = {
    "voltagev": 1, "voltagevolt": 1, "volts": 1, "voltage": 1, "ecellv": 1, "ewev": 1, "potentialv": 1, "uv": 1,
    "voltagemv": _MILLI, "umv": _MILLI,
}  # fmt: skip
_CURRENT: dict[str, float] = {
    "currenta": 1, "currentampere": 1, "amps": 1, "current": 1, "ia": 1, "currentma": _MILLI, "ima": _MILLI,
}  # fmt: skip
_CYCLE: dict[str, float] = dict.fromkeys(
    ("cycleindex", "cyclecount", "cyclecount1", "cyclenumber", "cycleno", "cycle", "cyc", "cyclec", "cyclep",
     "cyccount"), 1
)  # fmt: skip
_STEP: dict[str, float] = dict.fromkeys(
    ("stepindex", "stepcount", "stepcount1", "stepindex1", "stepnumber", "stepno", "stepid", "step", "ns"), 1
)
_TEMPERATURE: dict[str, float] = dict.fromkeys(
    ("celltemperaturec", "auxtemperature1c", "surfacetemperaturet1degc", "temperaturec", "temp1", "temp1c", "t1c",
     "ambienttemperaturedegc", "ambienttemperaturecelsius", "temperaturedegc", "environmenttemperaturec"), 1
)  # fmt: skip
_STATE: dict[str, float] = dict.fromkeys(("state", "md", "status", "steptype"), 1)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find(columns: Sequence[str], aliases: dict[str, float]) -> tuple[str, float] | None:
    """The first of `aliases` among `columns`, and its factor."""
    plain = {_plain(c): c for c in reversed(columns)}
    return next(((plain[a], factor) for a, factor in aliases.items() if a in plain), None)


def _clock(columns: Sequence[str]) -> tuple[str, float, bool] | None:
    """The time column, its factor to seconds, and whether it may restart with each step."""
    step = _find(columns, _STEP_TIME)
    if whole := _find(columns, _TEST_TIME) or (step and _find(columns, _TIME)):
        return *whole, False
    part = _find(columns, _TIME) or step
    return (*part, True) if part else None


def is_header(fields: Sequence[str]) -> bool:
    """Whether these column names are those of a cycler's records: a time, a voltage and a current.

    Arbin's tables of statistics have all three too, but a row per cycle.
    """
    if "vmaxoncyclev" in map(_plain, fields):
        return False
    return bool(_clock(fields) and _find(fields, _VOLTAGE) and _find(fields, _CURRENT))


def cycler(frame: pl.DataFrame) -> tuple[pl.DataFrame, Report] | None:
    """Samples from the columns of a cycler's export; None where there is no time, voltage and current.

    Units are taken from the names (s, min, h, ms; A, mA; V, mV). A current without sign takes it from the state
    column. Where there is only a step's own clock, steps are laid end to end.
    """
    clock = _clock(frame.columns)
    if clock is None or not is_header(frame.columns):
        return None
    out, rows = _measurements(frame, clock[:2])
    if "cycle" not in out:
        out["cycle"] = pl.Series([1] * frame.height, dtype=pl.Int32)
        told = "no cycle number in the file; all samples say cycle 1 (repairs.repair_cycle_count counts them)"
        rows.append((None, None, "constant_cycle_count", frame.height, told))
    if state := _find(frame.columns, _STATE):
        out["current_a"], signed = _sign(out["current_a"], frame[state[0]])
        if signed:
            told = f"{signed} currents made negative: {state[0]} says discharge and the file gives magnitudes"
            rows.append((None, None, "sign_flipped", signed, told))
    samples = pl.DataFrame([column.alias(name) for name, column in out.items()])
    kept = samples.filter(~pl.all_horizontal(pl.col("test_time_s", "voltage_v", "current_a").is_null()))
    if dropped := samples.height - kept.height:
        rows.append((None, None, "empty_row", dropped, "rows without time, voltage and current"))
    if clock[2]:
        kept, restarts = _end_to_end(kept)
        if restarts:
            told = "the file has only the clock of each step; steps were laid end to end"
            rows.append((None, None, "time_restarts", restarts, told))
    return kept, Report.of(rows)


def _measurements(frame: pl.DataFrame, clock: tuple[str, float]) -> tuple[dict[str, pl.Series], list[Row]]:
    """The columns that are known, under our names and in our units, and the conversions made."""
    rows: list[Row] = []
    out: dict[str, pl.Series] = {}
    if "cell_id" in frame.columns:
        out["cell_id"] = frame["cell_id"]
    for name, aliases in (("cycle", _CYCLE), ("step_id", _STEP)):
        if found := _find(frame.columns, aliases):
            out[name] = frame[found[0]]
    sources = {
        "test_time_s": clock,
        "voltage_v": _find(frame.columns, _VOLTAGE),
        "current_a": _find(frame.columns, _CURRENT),
        "temperature_c": _find(frame.columns, _TEMPERATURE),
    }
    for name, source in sources.items():
        if source is not None:
            column, factor = source
            out[name], how = _number(frame[column], factor)
            if how:
                rows.append((None, None, "unit_converted", frame.height, f"{column} -> {name}: {how}"))
    return out, rows


def _number(column: pl.Series, factor: float) -> tuple[pl.Series, str | None]:
    """The column as numbers in our unit, and what was done to it."""
    if column.dtype == pl.Duration:
        return column.dt.total_milliseconds() * _MILLI, "duration to seconds"
    if column.dtype == pl.String:
        clock = column.str.strip_chars().str.extract_groups(r"^(?:(\d+)d\s+)?(\d+):(\d+):(\d+(?:\.\d+)?)$")
        if clock.struct.field("4").is_not_null().any():  # Maccor "0d 00:01:30.25", Neware "00:01:30"
            days, hours, minutes, seconds = (clock.struct.field(str(i)).cast(pl.Float64) for i in range(1, 5))
            days = days.fill_null(0)
            return ((days * 24 + hours) * 60 + minutes) * 60 + seconds, "d h:m:s to seconds"
        numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
        if numbers.null_count() > column.null_count():
            return column, None  # schema.conform names the first bad value
        column = numbers
    return column.cast(pl.Float64) * factor, None if factor == 1 else f"times {factor:g}"


def _sign(current: pl.Series, state: pl.Series) -> tuple[pl.Series, int]:
    """Current negated where `state` says discharge and no current is negative; and how many were."""
    if state.dtype != pl.String or not current.dtype.is_numeric() or (current < 0).any():
        return current, 0
    words = state.str.to_lowercase().str.strip_chars()
    out = words.str.starts_with("d") | words.str.contains("dchg") | words.str.contains("disch")
    turned = (out & (current > 0)).fill_null(False)
    frame = pl.DataFrame([current.alias("i"), turned.alias("d")])
    return frame.select(pl.when("d").then(-pl.col("i")).otherwise("i").alias("i"))["i"], int(turned.sum())


def _end_to_end(samples: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """One running clock out of step clocks: where time falls, the time so far is added."""
    if not samples["test_time_s"].dtype.is_numeric():
        return samples, 0  # schema.conform names the first bad value
    time = pl.col("test_time_s")
    fell = (time < time.shift(1)).fill_null(False)
    before = pl.when(fell).then(time.shift(1)).otherwise(0.0).cum_sum()
    return samples.with_columns(time + before), int(samples.select(fell.sum()).item())


def read_excel(path: Path) -> pl.DataFrame:
    """The sheets of a workbook whose header is a cycler's, one below the other (Arbin splits long tests).

    Raises:
        ValueError: the workbook cannot be read, openpyxl is missing, or no sheet is a cycler's.
    """
    try:
        sheets = pl.read_excel(path, sheet_id=0, engine="openpyxl", raise_if_empty=False)
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Excel needs openpyxl; install it with pip install 'remem[cyclers]'"
        ) from error
    except Exception as error:  # openpyxl raises whatever its zip and xml layers do
        raise ValueError(
            f"{path}: not a readable Excel workbook ({error}); export it again or as csv"
        ) from error
    found = {name: sheet for name, sheet in sheets.items() if is_header(sheet.columns)}
    if not found:
        raise ValueError(
            f"{path}: none of the sheets {list(sheets)} has a cycler's header; wanted columns such as Test_Time(s), "
            "Voltage(V), Current(A); export the channel's records"
        )
    return pl.concat(found.values(), how="diagonal_relaxed")


def read_batterydf(path: Path) -> pl.DataFrame:
    """Any cycler file that the optional package batterydf parses, in the names of its maker.

    Raises:
        ValueError: batterydf is missing or cannot read the file.
    """
    try:
        bdf = import_module("bdf")
    except ImportError as error:
        raise ValueError(
            f"{path}: this kind of cycler file is read by the optional package batterydf; install it with "
            "pip install 'remem[cyclers]', or export the test as csv"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns on columns that are not read here
            table = bdf.read(path, normalize=False, validate=False)
    except Exception as error:  # its parsers raise whatever pandas does
        first = str(error).strip().split("\n", 1)[0][:160]
        raise ValueError(
            f"{path}: batterydf cannot read this file ({first}); export the test as csv with time, voltage and "
            "current columns"
        ) from error
    columns = {str(name): table.iloc[:, i].astype(object) for i, name in enumerate(table.columns)}
    return pl.DataFrame(
        {name: c.where(c.notna(), None).tolist() for name, c in columns.items()}, strict=False
    )

"""The text of TSPLIB files taken apart: keywords with their values, sections with their numbers.

Lenient where meaning is plain: any case, any spacing, colon or none, numbers broken over lines anywhere, no EOF, gzip.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from ..battery.opening import refuse_nothing

KEYWORDS = (
    "NAME",
    "TYPE",
    "COMMENT",
    "DIMENSION",
    "CAPACITY",
    "EDGE_WEIGHT_TYPE",
    "EDGE_WEIGHT_FORMAT",
    "EDGE_DATA_FORMAT",
    "NODE_COORD_TYPE",
    "DISPLAY_DATA_TYPE",
)

Lines = list[tuple[int, list[str]]]
"""Number of the line in the file, from 1, and its words."""


@dataclass(frozen=True)
class Parts:
    """keywords: {name: value}, COMMENTs joined by line ends; sections: {name: lines}; notes: what was put up with."""

    path: Path
    keywords: dict[str, str]
    sections: dict[str, Lines]
    notes: list[str] = field(default_factory=list)

    def whole(self, keyword: str) -> int | None:
        """The whole number of a keyword, None where it is missing."""
        text = self.keywords.get(keyword)
        if text is None:
            return None
        try:
            value = float(text)
            if value != int(value) or value < 1:
                raise ValueError
        except (ValueError, OverflowError):
            raise ValueError(f"{self.path}: {keyword} is {text!r}; wanted a whole number from 1") from None
        return int(value)

    def numbers(self, section: str) -> np.ndarray:
        """(k,) float64 of a section, line ends disregarded.

        Raises:
            ValueError: a word that is no number, NaN or infinite; the message names its line.
        """
        lines = self.sections[section]
        try:
            values = np.array(list(chain.from_iterable(words for _, words in lines)), np.float64)
        except ValueError:
            number, word = next((at, w) for at, words in lines for w in words if not _is_number(w))
            raise ValueError(f"{self.path}: line {number}: {word!r} in {section}; wanted numbers") from None
        if not np.isfinite(values).all():
            number, word = next((at, w) for at, words in lines for w in words if not np.isfinite(float(w)))
            raise ValueError(f"{self.path}: line {number}: {word} in {section}; wanted finite numbers")
        return values


def read_parts(path: str | Path) -> Parts:
    """Keywords and sections of a file of TSPLIB's form.

    Raises:
        ValueError: missing, empty, not text, or a line that is neither keyword nor number.
    """
    path = Path(path)
    refuse_nothing(path)
    if path.is_dir():
        raise ValueError(f"{path}: a folder; wanted a file")
    parts = Parts(path, {}, {})
    section: Lines | None = None
    ended = False
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if section is not None and _is_number(words[0]):
            section.append((number, words))
            continue
        key, colon, value = line.partition(":")
        if not colon or len(key.split()) != 1:
            key, value = words[0], line.strip()[len(words[0]) :]
        key, value = key.strip().upper(), value.strip().lstrip(":").strip()
        if key == "EOF":
            ended = True
            break
        if key.endswith("_SECTION"):
            if key in parts.sections:
                raise ValueError(
                    f"{path}: line {number}: a second {key}; wanted one; take it apart into two files"
                )
            section = parts.sections[key] = [(number, value.split())] if value else []
        elif key in KEYWORDS or colon:
            section = None
            _keep(parts, key, value, number)
        else:
            inside = f" in {list(parts.sections)[-1]}" if section is not None else ""
            raise ValueError(
                f"{path}: line {number}: {line.strip()[:60]!r}{inside} is neither a keyword of TSPLIB nor a number; "
                "wanted NAME, TYPE, DIMENSION, EDGE_WEIGHT_TYPE and sections"
            )
    if not ended:
        parts.notes.append("no EOF at the end")
    if not parts.sections:
        raise ValueError(
            f"{path}: no section of data; wanted a TSPLIB file, with NODE_COORD_SECTION or the like"
        )
    return parts


def _keep(parts: Parts, key: str, value: str, number: int) -> None:
    if key == "COMMENT" and key in parts.keywords:
        parts.keywords[key] += "\n" + value
        return
    if key in parts.keywords and parts.keywords[key] != value:
        raise ValueError(
            f"{parts.path}: line {number}: {key} is {value!r}, and {parts.keywords[key]!r} before; wanted one of them"
        )
    if key not in KEYWORDS:
        parts.notes.append(f"keyword {key} is not TSPLIB's, not used")
    parts.keywords[key] = value


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise ValueError(f"{path}: damaged gzip ({error}); copy it again") from error
    if b"\0" in data[:4096]:
        raise ValueError(f"{path}: not text; wanted a TSPLIB file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # names of old files


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

"""`remem stream BUNDLE`: JSON lines in, JSON lines out."""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ...serving.battery.stream import StreamSession
from ...serving.opening import open_stream
from ...serving.tracing.session import TracingSession


def main(argv: Sequence[str]) -> int:
    """Answer every line of stdin with one line on stdout; exit 1 where any line could not be used."""
    parser = argparse.ArgumentParser(
        prog="remem stream",
        description="One observation after the other, in constant memory. Each line of stdin is one JSON object. "
        "Battery: `cell_id`, `cycle` and the features of that cycle, answered with the remaining life. Tracing: "
        "`student_id`, `question_id`, `correct` and, where there are, `concepts` and `timestamp`, answered with the "
        "probability of a right answer before it was given and the mastery of its concepts after it; without "
        '`correct` the question is only asked. A line that cannot be used is answered by {"error": ...}.',
    )
    parser.add_argument(
        "bundle", metavar="BUNDLE", help="folder of an online battery bundle or a tracing bundle"
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="go on from FILE, and keep all states there at the end or when interrupted",
    )
    options = parser.parse_args(argv)

    session = open_stream(options.bundle, options.state)
    kind = "students" if isinstance(session, TracingSession) else "cells"
    print(f"ready: {len(session)} {kind} known, {session.state_bytes} bytes each", file=sys.stderr)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a byte that is no text spoils its own line only
    before = signal.signal(signal.SIGTERM, _interrupt)
    refused = 0
    try:
        for number, line in enumerate(sys.stdin, 1):
            if line.strip():
                answer = _answer(session, line, number)
                refused += "error" in answer
                print(json.dumps(answer), flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
        if options.state:
            session.save(options.state)
            print(f"kept {len(session)} {kind} in {options.state}", file=sys.stderr)
    if refused:
        print(f"{refused} lines could not be used", file=sys.stderr)
    return 1 if refused else 0


def _answer(session: StreamSession | TracingSession, line: str, number: int) -> dict[str, Any]:
    try:
        observation = _parsed(line)
        if isinstance(session, TracingSession):
            return _traced(session, observation)
        if not isinstance(observation, dict) or "cell_id" not in observation:
            raise ValueError('wanted an object with "cell_id", "cycle" and the features of the cycle')
        return session.update(observation["cell_id"], observation)
    except ValueError as error:
        return {"error": str(error), "line": number}


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # not JSON, nested without end
        raise ValueError(f"not JSON ({error}); wanted one object in one line") from error


def _traced(session: TracingSession, observation: object) -> dict[str, Any]:
    if not isinstance(observation, dict) or "student_id" not in observation:
        raise ValueError('wanted an object with "student_id", "question_id" or "concepts", and "correct"')
    if observation.keys().isdisjoint({"question_id", "concepts"}):
        raise ValueError(
            f'student {observation["student_id"]}: wanted "question_id" or "concepts" of what was asked'
        )
    names = ("question_id", "correct", "concepts", "timestamp")
    return session.update(observation["student_id"], *(observation.get(name) for name in names))


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt

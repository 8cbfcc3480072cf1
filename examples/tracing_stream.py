"""Answers of students as they come in: forecast, mastery, the next question, in constant memory.

Run it:  python examples/tracing_stream.py
It fits a model on simulated students, then follows one whom nobody trained on. The same on the command line:
`remem tracing fit`, then `remem stream BUNDLE --state students.npz`.
"""

import tempfile
from pathlib import Path

import polars as pl

from remem import KnowledgeTracer
from remem.data.tracing.simulate import simulate_log
from remem.serving import TracingSession


def train(folder: Path) -> tuple[Path, pl.DataFrame]:
    """Fit on all students but the last, and return the bundle, all that production needs, and the last one's log."""
    log = simulate_log(150, 80, 10, seed=1).drop("p_true", "fold")
    last = log["student_id"][-1]
    tracer = KnowledgeTracer(monotone=True).fit(log.filter(pl.col("student_id") != last))
    return tracer.export(folder / "bundle"), log.filter(pl.col("student_id") == last)


def follow(bundle: Path, answers: pl.DataFrame) -> None:
    """Take answers one at a time; the session keeps nothing of a student but a state of fixed size."""
    session = TracingSession(bundle, monotone=True)
    print(f"{session.state_bytes} bytes of memory per student\n")
    print("question  forecast  right  mastery after")
    for row in answers.iter_rows(named=True):
        told = session.update(**row)
        mastery = "  ".join(f"{concept} {p:.0%}" for concept, p in told["mastery"].items())
        print(f"{row['question_id']:>8}{told['p_correct']:10.0%}{row['correct']:7d}  {mastery}")
    student = answers["student_id"][0]
    print("\nabout as hard as it should be, for a success of 70 %:")
    for question in session.recommend(student, k=3, target=0.7):
        print(
            f"  {question['question_id']} on {', '.join(question['concepts'])}: {question['p_correct']:.0%}"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        follow(*train(Path(scratch)))

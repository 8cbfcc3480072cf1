"""From a csv of answers to a picture of what one student knows.

Run it:  python examples/tracing_heatmap.py [answers.csv]
Columns: student_id, question_id, concepts (several joined by ;), correct, timestamp. Without a file, one is made up.
"""

import sys

import polars as pl

from remem import KnowledgeTracer
from remem.apps.tracing.plots import mastery_heatmap
from remem.data.tracing.opening import open_log
from remem.data.tracing.simulate import simulate_log

path = sys.argv[1] if len(sys.argv) > 1 else "answers.csv"
if len(sys.argv) < 2:
    made_up = simulate_log(150, 80, 10).drop("p_true", "fold")
    made_up.with_columns(pl.col("concepts").list.join(";")).write_csv(path)

log = open_log(path).frame
model = KnowledgeTracer().fit(log)
student = log.filter(pl.col("student_id") == log["student_id"][0])
picture = mastery_heatmap(model.mastery_history(student), student)
picture.savefig("mastery.png")
print(f"mastery.png: what student {student['student_id'][0]} knew after each of {student.height} answers")

"""Learn how drivers drive from the routes that they drove, and plan new ones their way.

Run it:  python examples/own_routes.py
The city here is made up: a river with a one-way bridge at either end, which no map of points shows. Yours is a table
with a row for each route: instance, x, y (lists; or latitude, longitude) and tour, the order of the stops.
"""

import time

import polars as pl

from remem import TSPSolver
from remem.data.geometry.routes import observed_routes

routes = observed_routes("river", 260, (12, 20), seed=1)
table = pl.DataFrame(
    {
        "instance": [f"day {i}" for i in range(len(routes))],
        "x": [route.xy[:, 0].tolist() for route in routes],
        "y": [route.xy[:, 1].tolist() for route in routes],
        "tour": [route.tour.tolist() for route in routes],
    }
)
past, new = table[:200], table[200:]

began = time.process_time()
model = TSPSolver(max_epochs=6).fit(past, past["tour"].to_list())
print(f"learned from {past.height} routes in {time.process_time() - began:.0f} CPU seconds")

agreement = {
    "planned by distance": TSPSolver().score(new, new["tour"].to_list()),
    "planned as they drive": model.score(new, new["tour"].to_list()),
}
for name, share in agreement.items():
    print(f"{name:22} {share:.0%} of the steps of new routes")

answer = model.solve(new)[0]
print(f"{answer.name}: {answer.length:.1f} km on the map, {answer.gap:.0%} above the lower bound of any tour")
print(model.export("routes"), "- for: remem predict routes stops.parquet -o tours.parquet")

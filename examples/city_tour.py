"""A round trip through cities with a proof that none is shorter, as a line for any map and as a picture.

Run it:  python examples/city_tour.py [stops.csv]
Columns: latitude and longitude in degrees. Without a file, German cities.
"""

import sys

import numpy as np

from remem import TSPSolver
from remem.apps.geometry.plots import plot_tour
from remem.data.geometry.geojson import write_geojson
from remem.data.geometry.tables import read_coordinates

CITIES = {
    "Berlin": (52.52, 13.40),
    "Hamburg": (53.55, 9.99),
    "Munich": (48.14, 11.58),
    "Cologne": (50.94, 6.96),
    "Frankfurt": (50.11, 8.68),
    "Stuttgart": (48.78, 9.18),
    "Leipzig": (51.34, 12.37),
    "Dresden": (51.05, 13.74),
    "Hanover": (52.37, 9.73),
    "Nuremberg": (49.45, 11.08),
    "Bremen": (53.08, 8.80),
    "Freiburg": (47.99, 7.85),
    "Rostock": (54.09, 12.10),
    "Erfurt": (50.98, 11.03),
}

if len(sys.argv) > 1:
    places = read_coordinates(sys.argv[1])[0].xy
    names = [str(i) for i in range(len(places))]
else:
    places, names = np.array(list(CITIES.values())), list(CITIES)

solver = TSPSolver(metric="haversine", start=0)
answer = solver.solve(places)
print(" - ".join(names[i] for i in answer.tour), "- and back")
print(f"{answer.length:.0f} km; no round trip is shorter than {answer.lower_bound:.0f} km")
print(
    "proved to be the shortest" if answer.proved_optimal else f"at most {answer.gap:.2%} above the shortest"
)

write_geojson("tour.geojson", [(places[[*answer.tour, answer.tour[0]]], {"km": answer.length})])
plot_tour(places, answer.tour, globe=True, title=f"{answer.length:.0f} km").savefig("tour.png")
print("tour.geojson, tour.png")

one_way = solver.set_params(closed=False, end=len(places) - 1).solve(places)
print(f"one way from {names[0]} to {names[-1]}: {one_way.length:.0f} km")

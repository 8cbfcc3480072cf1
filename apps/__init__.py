"""Lightning modules, estimators and commands of the three applications. Imports core and data."""

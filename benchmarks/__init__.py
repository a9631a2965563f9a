"""One file per claim. ``python -m benchmarks`` lists them, ``python -m benchmarks.NAME --json`` runs one."""

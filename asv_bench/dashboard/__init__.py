"""The performance dashboard: runs the benchmarks, keeps and publishes their results."""

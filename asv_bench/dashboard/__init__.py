"""The performance dashboard: runs the benchmarks, keeps their results, and publishes them as pages."""

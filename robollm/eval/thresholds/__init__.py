"""A bundle's decision values, chosen on a run's records: `robollm bundle calibrate`."""

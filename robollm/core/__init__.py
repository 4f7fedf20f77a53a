"""Pure logic: NumPy in, frozen record out. No files, clock, threads or logging."""

"""Files on disk and message layouts, read and written in one place."""

"""The factory: from a family and a count to a zoo on disk, resumable, by all cores."""

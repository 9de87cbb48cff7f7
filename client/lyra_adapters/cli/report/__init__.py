"""The report of a version: what it learnt, what it still gets wrong, what it broke. As a page, an image, or lines."""

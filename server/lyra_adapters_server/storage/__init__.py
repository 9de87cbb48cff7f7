"""The tables and the one place that speaks SQL."""

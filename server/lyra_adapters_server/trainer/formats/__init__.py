"""The forms of an adapter for other engines: what each takes, made from the published PEFT files."""

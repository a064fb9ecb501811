"""The machine that a run is made on: how much of it others took, and whether it answered in time."""

"""The gate: a suite of experiments as one answer, which a team lets block its merges."""

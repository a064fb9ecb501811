"""A compact playback backend: from the press of Play to chunks from an OCA."""

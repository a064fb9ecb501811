"""The load: Locust as a subprocess, and what runs inside it."""

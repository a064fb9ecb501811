"""Proxies: the real Toxiproxy, the embedded one, and their control."""

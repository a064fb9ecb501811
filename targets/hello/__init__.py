"""The smallest target: a page that asks one other service for a greeting, and what it takes to test it."""

"""``python -m benchmarks``: every measurement that takes less than a few minutes."""

from __future__ import annotations

from benchmarks import overhead, sustained, target

if __name__ == "__main__":
    target.main()
    overhead.main()
    sustained.main()

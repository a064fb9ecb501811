"""``python -m benchmarks``: every measurement that takes less than a few minutes."""

from __future__ import annotations

from benchmarks import isolation, overhead, proxy, sustained, target, target_cost

if __name__ == "__main__":
    isolation.main()
    target_cost.main()
    proxy.main()
    target.main()
    overhead.main()
    sustained.main()

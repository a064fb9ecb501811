"""``python -m benchmarks``: every measurement that takes less than a few minutes."""

from __future__ import annotations

from benchmarks import (
    control_group,
    detection_power,
    isolation,
    kills,
    overhead,
    proxy,
    proxy_soak,
    recommendation,
    report,
    scaling,
    sustained,
    target,
    target_cost,
)

if __name__ == "__main__":
    isolation.main()
    target_cost.main()
    proxy.main()
    proxy_soak.main(["--alone"])
    target.main()
    overhead.main()
    sustained.main()
    scaling.main()
    recommendation.main()
    report.main()
    kills.main()
    detection_power.main()
    control_group.main()

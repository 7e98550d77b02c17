#!/usr/bin/env python3
"""Runs a command under CodeCarbon, by processor time, and prints what it took as JSON.

usage: codecarbon_of.py WATTS COMMAND...

WATTS is the power of the processor at full load. CodeCarbon counts this process and its children.
"""

import json
import subprocess
import sys

from codecarbon import OfflineEmissionsTracker


def main() -> int:
    watts, command = float(sys.argv[1]), sys.argv[2:]
    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA",
        tracking_mode="process",
        force_mode_cpu_load=True,
        force_cpu_power=watts,
        measure_power_secs=1,
        save_to_file=False,
        log_level="error",
    )
    tracker.start()
    done = subprocess.run(command, stdout=sys.stderr)
    tracker.stop()
    data = tracker.final_emissions_data
    found = {"cpu_kwh": data.cpu_energy, "memory_kwh": data.ram_energy, "kwh": data.energy_consumed}
    print(json.dumps(found | {"kg_co2e": data.emissions, "seconds": data.duration}))
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python3
"""Writes trainer/src/energy/grid.csv: grams of CO2e a kilowatt-hour of electricity, by country.

The figures are Our World in Data's, after Ember and the Energy Institute (CC BY 4.0), as CodeCarbon (MIT) carries them.

Usage: pip download --no-deps codecarbon==3.3.2 && scripts/make_grid.py codecarbon-3.3.2-py3-none-any.whl
"""

import json
import sys
import zipfile
from pathlib import Path

MIX = "codecarbon/data/private_infra/global_energy_mix.json"
TO = Path(__file__).parent.parent / "trainer/src/energy/grid.csv"


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        countries = json.loads(wheel.read(MIX))
    lines = [f"{code},{of['carbon_intensity']},{of['year']}" for code, of in sorted(countries.items())]
    TO.write_text("\n".join(["country,grams_per_kwh,year", *lines]) + "\n")


if __name__ == "__main__":
    main()

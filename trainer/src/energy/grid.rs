//! What electricity emits, by country.

use serde::{Deserialize, Serialize};

/// Grams of CO2e a kilowatt-hour, by country and the year of the figure; made by `scripts/make_grid.py`.
const TABLE: &str = include_str!("grid.csv");

/// The electricity of a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// What a kilowatt-hour emits, in grams of CO2e.
    pub grams_per_kwh: f64,
    /// Who says so.
    pub source: String,
}

impl Grid {
    /// The mean of a country, named by the three letters of ISO 3166-1, such as `FRA`.
    ///
    /// # Errors
    /// With the nearest code when there is no such country.
    pub fn of_country(code: &str) -> Result<Self, String> {
        let found = rows().find(|(country, _, _)| *country == code);
        let Some((country, grams, year)) = found else {
            let nearest = rows().map(|(country, _, _)| country).min_by(|a, b| {
                let likeness = |country: &str| strsim::jaro_winkler(country, &code.to_uppercase());
                likeness(b).total_cmp(&likeness(a))
            });
            return Err(format!("the three letters of a country, such as {}", nearest.unwrap_or("FRA")));
        };
        let source = format!("mean of {country} in {year}, Our World in Data after Ember and the Energy Institute");
        Ok(Self { grams_per_kwh: grams, source })
    }
}

/// The table: country, grams, year.
fn rows() -> impl Iterator<Item = (&'static str, f64, &'static str)> {
    TABLE.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(',');
        Some((fields.next()?, fields.next()?.parse().ok()?, fields.next()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_country() {
        assert_eq!(rows().count(), TABLE.lines().count() - 1);
        for (country, grams, year) in rows() {
            assert!(country.len() == 3 && country.bytes().all(|byte| byte.is_ascii_uppercase()), "{country}");
            assert!((0.0..2000.0).contains(&grams), "{country}: {grams}");
            assert!((2000..2030).contains(&year.parse().unwrap()), "{country}: {year}");
        }
    }

    #[test]
    fn a_country_is_found_by_its_code() {
        let france = Grid::of_country("FRA").unwrap();
        assert_eq!(france.grams_per_kwh.to_bits(), 56.039_f64.to_bits());
        assert!(france.source.starts_with("mean of FRA in 2023, "), "{}", france.source);
        for wrong in ["fra", "FR", "France"] {
            assert_eq!(Grid::of_country(wrong).unwrap_err(), "the three letters of a country, such as FRA");
        }
    }
}

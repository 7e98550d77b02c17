//! Which licences of sources are accepted, and what they ask in return.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, ScreenError};

/// The licence of a source by its SPDX name, or as its source calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Licence(String);

/// What a licence asks of those who use the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "four duties, each of its own")]
pub struct Owed {
    /// The author, or the licence's notice, has to be named.
    pub attribution: bool,
    /// What is made of the data has to have the same licence.
    pub share_alike: bool,
    /// No use for money.
    pub non_commercial: bool,
    /// Nothing may be made of the data, which training does.
    pub no_derivatives: bool,
}

impl Display for Owed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.attribution, "attribution"),
            (self.share_alike, "the same licence for what is made of it"),
            (self.non_commercial, "no commercial use"),
            (self.no_derivatives, "nothing may be made of it"),
        ];
        let owed: Vec<_> = parts.iter().filter(|(is_owed, _)| *is_owed).map(|(_, text)| *text).collect();
        f.write_str(if owed.is_empty() { "nothing" } else { "" })?;
        f.write_str(&owed.join(", "))
    }
}

impl Licence {
    /// A licence by any of its usual names: "Apache 2.0" is `Apache-2.0`, "Licence Ouverte 2.0" is `etalab-2.0`.
    pub fn new(name: &str) -> Self {
        let plain: String = name.trim().to_lowercase().replace(['_', ' ', '/', ','], "-");
        let plain = plain.trim_end_matches("-license").trim_end_matches("-licence").trim_start_matches("the-");
        let known = match plain {
            "apache" | "apache-2" | "apache-2.0" | "apache2" | "apache-license-2.0" | "apache-license-version-2.0" => {
                "Apache-2.0"
            }
            "mit" | "expat" => "MIT",
            "bsd" | "bsd-3" | "bsd-3-clause" | "new-bsd" => "BSD-3-Clause",
            "bsd-2" | "bsd-2-clause" => "BSD-2-Clause",
            "cc0" | "cc0-1.0" | "cc-zero" => "CC0-1.0",
            "public-domain" | "pd" | "publicdomain" => "public-domain",
            "etalab"
            | "etalab-2.0"
            | "licence-ouverte"
            | "licence-ouverte-2.0"
            | "open-licence"
            | "open-licence-2.0"
            | "lov2" => "etalab-2.0",
            "odbl" | "odbl-1.0" => "ODbL-1.0",
            "odc-by" | "odc-by-1.0" => "ODC-By-1.0",
            "gpl-3.0" | "gpl-3" | "gplv3" => "GPL-3.0-only",
            "unlicense" => "Unlicense",
            other if other.starts_with("cc-") => return Self(other.to_uppercase()),
            other if other.starts_with("by-") => return Self(format!("CC-{}", other.to_uppercase())),
            _ => return Self(name.trim().to_owned()),
        };
        Self(known.to_owned())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// What it asks. A licence that is not known is taken to ask for attribution.
    ///
    /// Source: the licences' own texts; names as in the SPDX licence list.
    pub fn owed(&self) -> Owed {
        let name = self.0.to_uppercase();
        let part = |part: &str| name.split('-').any(|found| found == part);
        let is_free =
            matches!(name.as_str(), "CC0-1.0" | "PUBLIC-DOMAIN" | "UNLICENSE" | "PDDL-1.0" | "0BSD" | "MIT-0");
        Owed {
            attribution: !is_free,
            share_alike: part("SA")
                || name.starts_with("GPL")
                || name.starts_with("AGPL")
                || name.starts_with("LGPL")
                || name.starts_with("ODBL"),
            non_commercial: part("NC"),
            no_derivatives: part("ND"),
        }
    }

    /// Whether a rule names it: by any of its names, or by a beginning, as `CC-BY-*` does.
    fn fits(&self, rule: &str) -> bool {
        match rule.trim().strip_suffix('*') {
            Some(beginning) => self.0.to_uppercase().starts_with(&beginning.trim().to_uppercase()),
            None => Self::new(rule) == *self,
        }
    }
}

/// The licences that sources may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LicenceRules {
    /// The licences accepted, by SPDX name or a beginning such as `CC-BY-*`; empty accepts all that are not forbidden.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// The licences refused, written in the same way; they win over `allowed`.
    #[serde(default)]
    pub forbidden: Vec<String>,
    /// Whether licences that ask for attribution are accepted. What is owed is told with the data's notes.
    #[serde(default = "accepted")]
    pub attribution: bool,
}

fn accepted() -> bool {
    true
}

impl LicenceRules {
    /// Checks the licence of one source, and says what it asks.
    ///
    /// # Errors
    /// [`ScreenError::NoLicence`] when none is named; [`ScreenError::Licence`] when it is not accepted.
    pub fn check(&self, path: &Path, licence: Option<&str>) -> Result<(Licence, Owed), DataError> {
        let allowed =
            if self.allowed.is_empty() { "any that is not forbidden".to_owned() } else { self.allowed.join(", ") };
        let Some(name) = licence.filter(|name| !name.trim().is_empty()) else {
            return Err(DataError::Screen(ScreenError::NoLicence { path: path.to_owned(), allowed }));
        };
        let licence = Licence::new(name);
        let refused = |expected: String| {
            DataError::Screen(ScreenError::Licence {
                path: path.to_owned(),
                licence: licence.name().to_owned(),
                expected,
            })
        };
        if self.forbidden.iter().any(|rule| licence.fits(rule)) {
            return Err(refused(format!("none of the forbidden {}", self.forbidden.join(", "))));
        }
        if !self.allowed.is_empty() && !self.allowed.iter().any(|rule| licence.fits(rule)) {
            return Err(refused(format!("one of {allowed}")));
        }
        let owed = licence.owed();
        if owed.attribution && !self.attribution {
            return Err(refused("one that asks for no attribution".to_owned()));
        }
        if owed.no_derivatives {
            return Err(refused("one that allows something to be made of the data".to_owned()));
        }
        Ok((licence, owed))
    }

    /// Checks the licence of one source; gives a line where it asks something.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn owed(&self, path: &Path, licence: Option<&str>) -> Result<Option<String>, DataError> {
        let (licence, asks) = self.check(path, licence)?;
        let line = || format!("{}: {} asks for {asks}", path.display(), licence.name());
        Ok((asks != Owed::default()).then(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: &[&str], forbidden: &[&str]) -> LicenceRules {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        LicenceRules { allowed: list(allowed), forbidden: list(forbidden), attribution: true }
    }

    #[test]
    fn licences_are_known_by_their_usual_names() {
        for (name, spdx) in [
            ("apache 2.0", "Apache-2.0"),
            ("Licence Ouverte", "etalab-2.0"),
            ("cc by-sa 4.0", "CC-BY-SA-4.0"),
            ("MIT License", "MIT"),
            ("X-1", "X-1"),
        ] {
            assert_eq!(Licence::new(name).name(), spdx);
        }
        assert_eq!(
            Licence::new("CC-BY-NC-SA-4.0").owed().to_string(),
            "attribution, the same licence for what is made of it, no commercial use"
        );
        assert_eq!(Licence::new("CC0").owed().to_string(), "nothing");
    }

    #[test]
    fn rules_accept_and_refuse_with_their_reasons() {
        let path = Path::new("a.jsonl");
        let only = rules(&["MIT", "CC-BY-*"], &["CC-BY-NC-*"]);
        only.check(path, Some("cc-by-sa-4.0")).unwrap();
        let error = |rules: &LicenceRules, licence| rules.check(path, licence).unwrap_err().to_string();
        assert_eq!(
            error(&only, Some("GPL-3.0")),
            "a.jsonl: got the licence GPL-3.0-only, expected one of MIT, CC-BY-*; leave the source out, or change data.screen.licences"
        );
        assert!(error(&only, Some("CC-BY-NC-4.0")).contains("expected none of the forbidden CC-BY-NC-*"));
        assert!(error(&only, None).starts_with("a.jsonl: the recipe names no licence, expected one of MIT, CC-BY-*"));
        assert!(error(&rules(&[], &[]), Some("CC-BY-ND-4.0")).contains("allows something to be made"));
        let none = LicenceRules { attribution: false, ..rules(&[], &[]) };
        assert!(error(&none, Some("MIT")).contains("asks for no attribution"));
        none.check(path, Some("CC0-1.0")).unwrap();
    }
}

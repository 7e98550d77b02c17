//! What screening looks for.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of personal data or secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An international bank account number, its check digits right.
    Iban,
    /// A French social security number (numéro d'inscription au répertoire), its key right.
    Nir,
    /// A French establishment number, its check digits right.
    Siret,
    /// A value-added tax number, its check digits right.
    Vat,
    /// A French company number, its check digit right.
    Siren,
    /// A payment card number, its check digit right.
    Card,
    /// A vehicle identification number.
    Vin,
    /// An e-mail address.
    Email,
    /// A key, token or password.
    Secret,
    /// A US social security number.
    UsSsn,
    /// A date of birth, known by what stands before it.
    DateOfBirth,
    /// A passport number, known by what stands before it.
    Passport,
    /// A driving licence number, known by what stands before it.
    DrivingLicence,
    /// The licence plate of a vehicle.
    LicencePlate,
    /// An address of the Internet Protocol, version 4 or 6.
    IpAddress,
    /// A telephone number.
    Phone,
    /// A postal address.
    Address,
    /// The name of a person.
    Person,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::Iban,
        Self::Nir,
        Self::Siret,
        Self::Vat,
        Self::Siren,
        Self::Card,
        Self::Vin,
        Self::Email,
        Self::Secret,
        Self::UsSsn,
        Self::DateOfBirth,
        Self::Passport,
        Self::DrivingLicence,
        Self::LicencePlate,
        Self::IpAddress,
        Self::Phone,
        Self::Address,
        Self::Person,
    ];

    /// The name used in recipes and on the command line, for example `licence-plate`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iban => "iban",
            Self::Nir => "nir",
            Self::Siret => "siret",
            Self::Vat => "vat",
            Self::Siren => "siren",
            Self::Card => "card",
            Self::Vin => "vin",
            Self::Email => "email",
            Self::Secret => "secret",
            Self::UsSsn => "us-ssn",
            Self::DateOfBirth => "date-of-birth",
            Self::Passport => "passport",
            Self::DrivingLicence => "driving-licence",
            Self::LicencePlate => "licence-plate",
            Self::IpAddress => "ip-address",
            Self::Phone => "phone",
            Self::Address => "address",
            Self::Person => "person",
        }
    }

    /// What a masked value is replaced with, for example `[LICENCE_PLATE]`.
    pub fn mask(self) -> String {
        format!("[{}]", self.name().to_uppercase().replace('-', "_"))
    }

    /// Whether a finding of this kind has check digits that were verified.
    pub fn is_checked(self) -> bool {
        matches!(self, Self::Iban | Self::Nir | Self::Siret | Self::Vat | Self::Siren | Self::Card)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            let hint = crate::error::did_you_mean(crate::error::closest(text, names.iter().copied()));
            format!("got the kind {text:?}{hint} expected one of {}", names.join(", "))
                .replace("? expected", "? Expected")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_one_that_is_written_in_recipes() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        }
        assert_eq!(Kind::LicencePlate.mask(), "[LICENCE_PLATE]");
        assert!("emial".parse::<Kind>().unwrap_err().starts_with("got the kind \"emial\", did you mean \"email\"?"));
    }
}

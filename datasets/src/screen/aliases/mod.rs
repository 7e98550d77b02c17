//! Aliases: for each kind, another value of the same form that is as valid as the original.
//!
//! An alias follows from the key and the value alone. Numbers are brought to their bare digits first, so that one
//! number has one alias however it is grouped; names word by word, so that the parts of a name have one alias each.

mod forms;
mod names;
mod numbers;

use super::Kind;
use super::draw::Draw;
use forms::{date, email, ip, phone, plate, secret};
use names::{address, person};
use numbers::{card, iban, nir, siren, siret, vat, vin};

/// Letters of French plates and of vehicle identification numbers.
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPRSTVWXYZ";

/// The alias of `value`. It is never the value itself.
pub(crate) fn alias(key: &[u8], kind: Kind, value: &str) -> String {
    let bare: String = value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect();
    match kind {
        Kind::Person => person(key, value),
        Kind::Address => address(key, value),
        Kind::Phone => phone(key, value),
        _ => {
            let canonical = if kind == Kind::Email { value.to_lowercase() } else { bare.clone() };
            let mut draw = Draw::new(key, kind, &canonical);
            // A draw that gives the original is as likely as guessing it; then the next one is taken.
            for _ in 0..16 {
                let alias = one(key, kind, value, &bare, &mut draw);
                if alias != value {
                    return alias;
                }
            }
            kind.mask()
        }
    }
}

fn one(key: &[u8], kind: Kind, value: &str, bare: &str, draw: &mut Draw) -> String {
    let bytes = bare.as_bytes();
    let digits: Vec<u8> = bytes.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    match kind {
        Kind::Iban => fill(value, &iban(bytes, draw)),
        Kind::Nir => fill(value, &nir(bytes, draw)),
        Kind::Siren => fill(value, &text(&siren(key, &digits))),
        Kind::Siret => fill(value, &text(&siret(key, &digits, draw))),
        Kind::Vat => fill(value, &vat(key, bytes, &digits, draw)),
        Kind::Card => fill(value, &text(&card(&digits, draw))),
        Kind::UsSsn => {
            let (area, group, serial) = (100 + draw.below(565), 1 + draw.below(99), 1 + draw.below(9999));
            fill(value, format!("{area:03}{group:02}{serial:04}").as_bytes())
        }
        Kind::Vin => fill(value, &vin(bytes, draw)),
        Kind::LicencePlate => plate(value, draw),
        Kind::Passport | Kind::DrivingLicence => same_classes(value, 0, LETTERS, draw),
        Kind::Secret => secret(value, draw),
        Kind::Email => email(draw),
        Kind::IpAddress => ip(value, draw),
        Kind::DateOfBirth => date(value, draw),
        Kind::Person | Kind::Address | Kind::Phone => unreachable!("they are made word by word or digit by digit"),
    }
}

/// Puts characters in the place of the letters and digits of `form`, in its case and with its separators.
fn fill(form: &str, with: &[u8]) -> String {
    let mut with = with.iter();
    form.chars()
        .map(|c| match c.is_ascii_alphanumeric().then(|| with.next()).flatten() {
            Some(byte) if c.is_lowercase() => char::from(byte.to_ascii_lowercase()),
            Some(byte) => char::from(*byte),
            None => c,
        })
        .collect()
}

/// Digits as characters.
fn text(digits: &[u8]) -> Vec<u8> {
    digits.iter().map(|digit| b'0' + digit).collect()
}

/// A character of the same class: digits for digits, letters for letters.
fn same_class(byte: u8, letters: &[u8], draw: &mut Draw) -> u8 {
    match byte {
        b'0'..=b'9' => b'0' + draw.digit(0),
        b'A'..=b'Z' => draw.one_of(letters),
        b'a'..=b'z' => draw.one_of(letters).to_ascii_lowercase(),
        other => other,
    }
}

/// Each letter and digit after the first `kept` bytes replaced by one of its class.
fn same_classes(value: &str, kept: usize, letters: &[u8], draw: &mut Draw) -> String {
    value
        .char_indices()
        .map(|(at, c)| match u8::try_from(c) {
            Ok(byte) if at >= kept && c.is_ascii() => char::from(same_class(byte, letters, draw)),
            _ => c,
        })
        .collect()
}

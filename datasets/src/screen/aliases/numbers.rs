//! Aliases of numbers that carry check digits, with check digits that are right again.

use super::{LETTERS, same_class, text};
use crate::screen::draw::Draw;
use crate::screen::numbers::is_vat;
use crate::screen::{Kind, check};

pub(super) fn iban(bare: &[u8], draw: &mut Draw) -> Vec<u8> {
    let country = &bare[..2];
    let mut account: Vec<u8> = bare[4..].iter().map(|byte| same_class(*byte, LETTERS, draw)).collect();
    if matches!(country, b"FR" | b"MC") && account.len() == 23 {
        let key = check::rib_key(&account[..21]);
        account[21..].copy_from_slice(&text(&key));
    }
    let key = check::iban_key(country, &account);
    [country, &text(&key), &account].concat()
}

pub(super) fn nir(bare: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut digits = vec![1 + u8::try_from(draw.below(2)).expect("below two"), draw.digit(0), draw.digit(0)];
    let (month, department) = (1 + draw.below(12), 21 + draw.below(75));
    let two =
        |number: usize| [u8::try_from(number / 10).expect("a digit"), u8::try_from(number % 10).expect("a digit")];
    digits.extend(two(month));
    let corsica = bare[6].is_ascii_alphabetic();
    digits.extend(match bare[6] {
        b'A' => [1, 9],
        b'B' => [1, 8],
        _ => two(department),
    });
    digits.extend((0..6).map(|_| draw.digit(0)));
    let key = check::nir_key(&digits);
    digits.extend(key);
    let mut written = text(&digits);
    if corsica {
        written[5..7].copy_from_slice(&[b'2', bare[6]]);
    }
    written
}

/// The alias of a SIREN, which the SIRET and the VAT number of the same company share.
pub(super) fn siren(key: &[u8], digits: &[u8]) -> Vec<u8> {
    let original = String::from_utf8_lossy(&text(digits)).into_owned();
    let mut draw = Draw::new(key, Kind::Siren, &original);
    loop {
        let mut alias: Vec<u8> = (0..9).map(|place| draw.digit(u8::from(place == 0))).collect();
        check::set_luhn(&mut alias);
        if alias != digits {
            return alias;
        }
    }
}

pub(super) fn siret(key: &[u8], digits: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut alias = siren(key, &digits[..9]);
    alias.extend([0, 0, draw.digit(0), draw.digit(0), 0]);
    check::set_luhn(&mut alias);
    alias
}

pub(super) fn vat(key: &[u8], bare: &[u8], digits: &[u8], draw: &mut Draw) -> Vec<u8> {
    let country = [bare[0], bare[1]];
    if country == *b"FR" {
        let siren = siren(key, &digits[2..]);
        return [&country[..], &text(&check::vat_key(&siren)), &text(&siren)].concat();
    }
    loop {
        let mut number: Vec<u8> = digits.iter().map(|_| draw.digit(1)).collect();
        if country == *b"BE" {
            number[0] = digits[0];
        }
        let last = number.len() - 2;
        // The check digits are the last one or two: one of a hundred is right.
        for tail in 0..100_u8 {
            (number[last], number[last + 1]) = (tail / 10, tail % 10);
            if is_vat(country, &number) && number != digits {
                return [&country[..], &text(&number)].concat();
            }
        }
    }
}

pub(super) fn card(digits: &[u8], draw: &mut Draw) -> Vec<u8> {
    // The first four say which network it is.
    let mut alias: Vec<u8> =
        digits.iter().enumerate().map(|(at, digit)| if at < 4 { *digit } else { draw.digit(0) }).collect();
    check::set_luhn(&mut alias);
    alias
}

pub(super) fn vin(bare: &[u8], draw: &mut Draw) -> Vec<u8> {
    // The first three say who made it.
    let mut alias: Vec<u8> = bare
        .iter()
        .enumerate()
        .map(|(at, byte)| if at < 3 { *byte } else { same_class(*byte, LETTERS, draw) })
        .collect();
    if alias[..3].iter().any(u8::is_ascii_alphabetic) {
        alias[8] = check::vin_key(&alias);
    }
    alias
}

//! Check digits: verified when a number is looked for, computed when an alias is made.
//!
//! Digits are values of 0 to 9, not characters.

/// The remainder by 97 of a number that is given as its decimal digits.
pub(super) fn mod_97(digits: impl IntoIterator<Item = u8>) -> u64 {
    digits.into_iter().fold(0, |rest, digit| (rest * 10 + u64::from(digit)) % 97)
}

/// The sum of Luhn's method over all digits, the last one counted once.
///
/// Source: ISO/IEC 7812-1, annex B.
fn luhn_sum(digits: &[u8]) -> u32 {
    let doubled = |digit: u8| u32::from(if digit > 4 { 2 * digit - 9 } else { 2 * digit });
    digits.iter().rev().enumerate().map(|(i, digit)| if i % 2 == 1 { doubled(*digit) } else { u32::from(*digit) }).sum()
}

/// Whether the last digit is the check digit of Luhn's method.
pub(super) fn luhn(digits: &[u8]) -> bool {
    luhn_sum(digits).is_multiple_of(10)
}

/// Sets the last digit so that [`luhn`] holds.
pub(super) fn set_luhn(digits: &mut [u8]) {
    if let Some(last) = digits.last_mut() {
        *last = 0;
    }
    let rest = luhn_sum(digits) % 10;
    if let Some(last) = digits.last_mut() {
        *last = u8::try_from((10 - rest) % 10).expect("below ten");
    }
}

/// Whether nine digits are a SIREN.
pub(super) fn siren(digits: &[u8]) -> bool {
    digits.len() == 9 && luhn(digits) && digits.iter().any(|digit| *digit != 0)
}

/// Whether fourteen digits are a SIRET. The establishments of La Poste are numbered so that the sum of the digits is a
/// multiple of five, since there were not enough numbers with Luhn's digit.
pub(super) fn siret(digits: &[u8]) -> bool {
    const LA_POSTE: [u8; 9] = [3, 5, 6, 0, 0, 0, 0, 0, 0];
    if digits.len() != 14 || !siren(&digits[..9]) {
        return false;
    }
    let sum: u32 = digits.iter().map(|digit| u32::from(*digit)).sum();
    luhn(digits) || (digits[..9] == LA_POSTE && sum.is_multiple_of(5))
}

/// The two digits of the key of a French VAT number.
pub(super) fn vat_key(siren: &[u8]) -> [u8; 2] {
    two((12 + 3 * mod_97(siren.iter().copied())) % 97)
}

/// The two digits of the key of a NIR, of the 13 digits before it (Corsica's 2A is 19, and 2B is 18).
pub(super) fn nir_key(digits: &[u8]) -> [u8; 2] {
    two(97 - mod_97(digits.iter().copied()))
}

/// The two check digits of an IBAN, of its country and what follows the check digits.
///
/// Source: ISO 13616-1, with the arithmetic of ISO/IEC 7064 MOD 97-10.
pub(super) fn iban_key(country: &[u8], account: &[u8]) -> [u8; 2] {
    let letters = account.iter().chain(country).flat_map(|byte| alphanumeric(*byte));
    two(98 - mod_97(letters.chain([0, 0])))
}

/// A digit as itself, a letter as the two digits of 10 for A to 35 for Z.
fn alphanumeric(byte: u8) -> impl Iterator<Item = u8> {
    let value = match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => digit - b'0',
        letter @ b'A'..=b'Z' => letter - b'A' + 10,
        _ => 0,
    };
    (value > 9).then_some(value / 10).into_iter().chain([value % 10])
}

/// The key of a French bank account (RIB), of its 21 characters before it.
pub(super) fn rib_key(account: &[u8]) -> [u8; 2] {
    // Letters count as the digit under which they stand on a telephone of the time: A and J are 1, B, K and S are 2.
    let digit = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u64::from(digit - b'0'),
        letter @ b'A'..=b'R' => u64::from((letter - b'A') % 9 + 1),
        letter @ b'S'..=b'Z' => u64::from(letter - b'S' + 2),
        _ => 0,
    };
    let part = |bytes: &[u8]| bytes.iter().fold(0, |rest, byte| (rest * 10 + digit(*byte)) % 97);
    let (bank, branch, number) = (part(&account[..5]), part(&account[5..10]), part(&account[10..21]));
    two(97 - (89 * bank + 15 * branch + 3 * number) % 97)
}

/// The check character of a vehicle identification number, which stands at its ninth place in North America.
///
/// Source: 49 CFR 565.15.
pub(super) fn vin_key(vin: &[u8]) -> u8 {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    let value = |byte: u8| match byte.to_ascii_uppercase() {
        digit @ b'0'..=b'9' => u32::from(digit - b'0'),
        letter @ b'A'..=b'H' => u32::from(letter - b'A' + 1),
        letter @ b'J'..=b'R' => u32::from(letter - b'J' + 1),
        letter @ b'S'..=b'Z' => u32::from(letter - b'S' + 2),
        _ => 0,
    };
    let sum: u32 = vin.iter().zip(WEIGHTS).map(|(byte, weight)| value(*byte) * weight).sum();
    match sum % 11 {
        10 => b'X',
        rest => b'0' + u8::try_from(rest).expect("below ten"),
    }
}

/// A number below 100 as two digits.
fn two(number: u64) -> [u8; 2] {
    let number = u8::try_from(number % 100).expect("below a hundred");
    [number / 10, number % 10]
}

/// How many characters an IBAN of this country has; `None` when the country has none.
///
/// Source: SWIFT, IBAN Registry, release 99.
pub(super) fn iban_length(country: [u8; 2]) -> Option<usize> {
    const LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 \
        DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 \
        IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 \
        OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 \
        UA29 VA22 VG24 XK20 YE30";
    LENGTHS
        .split_ascii_whitespace()
        .find(|entry| entry.as_bytes()[..2] == country)
        .and_then(|entry| entry[2..].parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
    }

    /// The numbers are the published examples of the registries, or of public companies.
    #[test]
    fn published_numbers_are_right_and_their_neighbours_are_not() {
        assert!(luhn(&digits("4111 1111 1111 1111")) && !luhn(&digits("4111 1111 1111 1112")));
        assert!(siren(&digits("552 100 554")) && siren(&digits("356 000 000")) && !siren(&digits("552 100 555")));
        assert!(siret(&digits("732 829 320 00074")) && !siret(&digits("732 829 320 00075")));
        assert!(siret(&digits("356 000 000 49837")), "an establishment of La Poste");
        assert_eq!(vat_key(&digits("404833048")), [8, 3]);
        assert_eq!(nir_key(&digits("2 55 08 14 168 025")), [3, 8]);
        assert_eq!(iban_key(b"GB", b"NWBK60161331926819"), [2, 9]);
        assert_eq!(iban_key(b"FR", b"20041010050500013M02606"), [1, 4]);
        assert_eq!(rib_key(b"20041010050500013M026"), [0, 6]);
        assert_eq!(vin_key(b"1M8GDM9AXKP042788"), b'X');
        assert_eq!(iban_length(*b"FR"), Some(27));
        assert_eq!(iban_length(*b"US"), None);
        let mut card = digits("4111 1111 1111 1110");
        set_luhn(&mut card);
        assert_eq!(card, digits("4111 1111 1111 1111"));
    }
}

//! Numbers that are known by their form, most of them by their check digits too.
//!
//! A number is read from the first digit of a group on, over the separators that people write in numbers, and each
//! rule looks at as many digits of it as it wants. So a number is found whichever way it is grouped, and never as a
//! part of a longer word.

use super::check;
use super::context::Context;
use super::{Finding, Kind};

/// The most digits that are read as one number.
const MOST_DIGITS: usize = 24;

/// Digits with the places they were read at.
pub(super) struct Digits {
    pub(super) values: Vec<u8>,
    /// The byte at which each digit stands.
    pub(super) places: Vec<usize>,
    /// How many digits are in each group, groups being parted by separators.
    groups: Vec<usize>,
    /// The separators between the groups.
    separators: Vec<char>,
}

impl Digits {
    /// Reads the digits from the byte `start` on, single separators between them.
    pub(super) fn read(text: &str, start: usize) -> Self {
        let mut digits = Self { values: Vec::new(), places: Vec::new(), groups: vec![0], separators: Vec::new() };
        let mut chars = text[start..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if let Some(value) = c.to_digit(10) {
                if digits.values.len() == MOST_DIGITS {
                    break;
                }
                digits.values.push(u8::try_from(value).expect("below ten"));
                digits.places.push(start + at);
                if let Some(last) = digits.groups.last_mut() {
                    *last += 1;
                }
            } else if is_separator(c) && chars.peek().is_some_and(|(_, next)| next.is_ascii_digit()) {
                digits.groups.push(0);
                digits.separators.push(c);
            } else {
                break;
            }
        }
        digits
    }

    /// The groups that the first `count` digits make, when they end where a group ends.
    fn groups_of(&self, count: usize) -> Option<(&[usize], &[char])> {
        let mut sum = 0;
        for (i, group) in self.groups.iter().enumerate() {
            sum += group;
            if sum == count {
                return Some((&self.groups[..=i], &self.separators[..i]));
            }
        }
        None
    }

    /// The byte after the first `count` digits.
    fn end(&self, count: usize) -> usize {
        self.places[count - 1] + 1
    }
}

/// Whether people write this character inside numbers.
pub(super) fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '.' | '-' | '\u{2010}' | '\u{2011}' | '/')
}

/// Finds numbers of all kinds.
pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for (start, byte) in text.bytes().enumerate() {
        if !byte.is_ascii_digit() {
            continue;
        }
        if start > 0 && is_word(text, start) {
            continue;
        }
        let digits = Digits::read(text, start);
        at(text, start, &digits, found);
    }
}

/// Whether what stands before the byte `at` makes it a part of a longer word or number.
pub(super) fn is_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

fn ends(text: &str, end: usize) -> bool {
    !text[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// Applies each rule to the number that begins at `start`.
fn at(text: &str, start: usize, digits: &Digits, found: &mut Vec<Finding>) {
    let values = &digits.values;
    let mut push = |kind, count: usize| found.push(Finding { kind, range: start..digits.end(count) });
    let whole = |count: usize| {
        (values.len() >= count).then(|| digits.groups_of(count)).flatten().filter(|_| ends(text, digits.end(count)))
    };
    let speaks_of_cards = values.len() >= 12 && Context::before(text, start).speaks_of_cards();
    for count in (12..=19).rev() {
        if let Some((groups, separators)) = whole(count)
            && card_groups(groups, separators)
            && check::luhn(&values[..count])
            // Where a card is spoken of, the networks' ranges need not be known; elsewhere the short ones are too common.
            && (speaks_of_cards || (count > 13 && is_card(&values[..count])))
        {
            push(Kind::Card, count);
            if speaks_of_cards {
                return;
            }
            break;
        }
    }
    if let Some(end) = nir_end(text, start) {
        found.push(Finding { kind: Kind::Nir, range: start..end });
        return;
    }
    let mut push = |kind, count: usize| found.push(Finding { kind, range: start..digits.end(count) });
    if whole(14).is_some() && check::siret(&values[..14]) {
        push(Kind::Siret, 14);
    }
    if whole(9).is_some() && check::siren(&values[..9]) && Context::before(text, start).speaks_of_companies() {
        push(Kind::Siren, 9);
    }
    if let Some((groups, separators)) = whole(9)
        && groups == [3, 2, 4]
        && separators[0] == separators[1]
        && (separators[0] == '-' || Context::before(text, start).speaks_of_social_security())
        && is_ssn(&values[..9])
    {
        push(Kind::UsSsn, 9);
    } else if let Some((&[9], _)) = whole(9)
        && Context::before(text, start).speaks_of_social_security()
        && is_ssn(&values[..9])
    {
        push(Kind::UsSsn, 9);
    }
}

/// The end of the NIR that begins at `start`: sex, year, month, department, commune, order, key.
fn nir_end(text: &str, start: usize) -> Option<usize> {
    if !matches!(text.as_bytes()[start], b'1'..=b'4' | b'7' | b'8') {
        return None;
    }
    let (mut values, mut end, mut corsica) = (Vec::with_capacity(15), start, None);
    let mut chars = text[start..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        end = start + at + c.len_utf8();
        if let Some(value) = c.to_digit(10) {
            values.push(u8::try_from(value).expect("below ten"));
        } else if values.len() == 6 && values[5] == 2 && matches!(c, 'A' | 'B' | 'a' | 'b') {
            corsica = Some(if c.eq_ignore_ascii_case(&'a') { 9 } else { 8 });
            values.push(0);
        } else if !(is_separator(c) && chars.peek().is_some_and(|(_, next)| next.is_ascii_digit())) {
            return None;
        }
        if values.len() == 15 {
            break;
        }
    }
    if values.len() != 15 || !ends(text, end) {
        return None;
    }
    let month = values[3] * 10 + values[4];
    if !matches!(month, 1..=12 | 20..=42 | 50..=99) {
        return None;
    }
    if let Some(last) = corsica {
        // 2A counts as 19, and 2B as 18.
        (values[5], values[6]) = (1, last);
    }
    (check::nir_key(&values[..13]) == values[13..]).then_some(end)
}

/// Whether a network of payment cards gives out numbers of this beginning and length.
fn is_card(digits: &[u8]) -> bool {
    let first = |count: usize| digits[..count].iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    let (two, three, four) = (first(2), first(3), first(4));
    let lengths: &[usize] = match (two, three, four) {
        (40..=49, ..) => &[13, 16, 19],
        (34 | 37, ..) => &[15],
        (51..=55, ..) | (_, _, 2221..=2720) => &[16],
        (_, 300..=305, _) | (36 | 38 | 39, ..) => &[14, 16, 17, 18, 19],
        (_, _, 1800 | 2131) => &[15],
        (_, _, 3528..=3589 | 6011) | (_, 644..=649, _) | (62 | 65 | 81, ..) => &[16, 17, 18, 19],
        (50 | 56..=58 | 60 | 61 | 63 | 66..=69, ..) => &[12, 13, 14, 15, 16, 17, 18, 19],
        _ => return false,
    };
    lengths.contains(&digits.len())
}

/// Whether a card number is grouped as on cards: not at all, or in groups of at least three with one separator.
fn card_groups(groups: &[usize], separators: &[char]) -> bool {
    separators.iter().all(|separator| *separator == separators[0] && !matches!(separator, '.' | '/'))
        && (groups.len() == 1 || groups.iter().all(|group| (3..=7).contains(group)))
}

/// Whether the US gives out this number.
///
/// Source: Social Security Administration, number randomisation of 2011.
fn is_ssn(digits: &[u8]) -> bool {
    let area = u32::from(digits[0]) * 100 + u32::from(digits[1]) * 10 + u32::from(digits[2]);
    area != 0 && area != 666 && area < 900 && digits[3..5] != [0, 0] && digits[5..9] != [0, 0, 0, 0]
}

/// Finds IBANs and VAT numbers: two letters, two characters, and what the country says.
pub(super) fn find_lettered(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    for start in 0..bytes.len().saturating_sub(9) {
        if !(bytes[start].is_ascii_alphabetic() && bytes[start + 1].is_ascii_alphabetic()) || is_word(text, start) {
            continue;
        }
        let country = [bytes[start].to_ascii_uppercase(), bytes[start + 1].to_ascii_uppercase()];
        let checked = check::iban_length(country).and_then(|length| iban_end(text, start, length));
        if let Some(end) = checked.or_else(|| named_iban_end(text, start)) {
            found.push(Finding { kind: Kind::Iban, range: start..end });
        } else if let Some(end) = vat_end(text, start, country) {
            found.push(Finding { kind: Kind::Vat, range: start..end });
        }
    }
}

/// The end of `length` letters and digits with single separators between them.
pub(super) fn alphanumerics(text: &str, start: usize, length: usize) -> Option<(Vec<u8>, usize)> {
    let mut read = Vec::with_capacity(length);
    let mut chars = text[start..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_ascii_alphanumeric() {
            read.push(c.to_ascii_uppercase() as u8);
            if read.len() == length {
                let end = start + at + 1;
                return ends(text, end).then_some((read, end));
            }
        } else if !(is_separator(c) && chars.peek().is_some_and(|(_, next)| next.is_ascii_alphanumeric())) {
            return None;
        }
    }
    None
}

fn iban_end(text: &str, start: usize, length: usize) -> Option<usize> {
    let after = text.as_bytes().get(start + 2..)?.iter().find(|byte| **byte != b' ')?;
    if !after.is_ascii_digit() {
        return None;
    }
    let (read, end) = alphanumerics(text, start, length)?;
    if !read[2..4].iter().all(u8::is_ascii_digit) {
        return None;
    }
    (check::iban_key(&read[..2], &read[4..]) == [read[2] - b'0', read[3] - b'0']).then_some(end)
}

/// The end of what is called an IBAN, though its check digits or its length are wrong: a digit that was mistyped or misread
/// leaves it personal data.
fn named_iban_end(text: &str, start: usize) -> Option<usize> {
    const NAME: &str = "iban";
    /// Characters between the name and the number, such as a colon, a space and a quotation mark.
    const APART: usize = 6;
    /// From the shortest to the longest that the standard has (ISO 13616).
    const LENGTHS: std::ops::RangeInclusive<usize> = 15..=34;
    if !text.as_bytes().get(start + 2..start + 4)?.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let before = text[..start].trim_end_matches(|c: char| !c.is_alphanumeric());
    let name = before.len().checked_sub(NAME.len())?;
    let is_named = before.get(name..)?.eq_ignore_ascii_case(NAME) && !is_word(text, name);
    if !is_named || start - before.len() > APART {
        return None;
    }
    let (mut at, mut end, mut length) = (start, start, 0);
    loop {
        let rest = &text[at..];
        let group = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        // As in British and Dutch ones, after the check digits.
        let is_bank = length == 4 && group.len() == 4 && group.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_bank && !group.bytes().any(|byte| byte.is_ascii_digit()) {
            break;
        }
        length += group.len();
        end = at + group.len();
        let Some(separator) = text[end..].chars().next().filter(|c| is_separator(*c)) else { break };
        at = end + separator.len_utf8();
    }
    (LENGTHS.contains(&length) && ends(text, end)).then_some(end)
}

/// The end of a VAT number of a country whose check digits are known here: France, Belgium, Germany, Italy, Luxembourg.
///
/// Source: European Commission, VIES, structure of VAT numbers.
fn vat_end(text: &str, start: usize, country: [u8; 2]) -> Option<usize> {
    let length = match &country {
        b"FR" | b"IT" => 13,
        b"BE" => 12,
        b"DE" => 11,
        b"LU" => 10,
        _ => return None,
    };
    let (read, end) = alphanumerics(text, start, length)?;
    let number: Vec<u8> = read[2..].iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    (number.len() == length - 2 && is_vat(country, &number)).then_some(end)
}

/// Whether the digits after the country are a VAT number.
pub(super) fn is_vat(country: [u8; 2], number: &[u8]) -> bool {
    let low = |digits: &[u8]| digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(*digit));
    match &country {
        b"FR" => check::vat_key(&number[2..]) == number[..2],
        b"BE" => number[0] < 2 && 97 - low(&number[..8]) % 97 == low(&number[8..]),
        b"DE" => {
            // ISO/IEC 7064 MOD 11,10.
            let product = number[..8].iter().fold(10, |product: u32, digit| {
                let sum = (u32::from(*digit) + product) % 10;
                (if sum == 0 { 10 } else { sum }) * 2 % 11
            });
            number[0] != 0 && (11 - product) % 10 == u32::from(number[8])
        }
        b"IT" => number.iter().any(|digit| *digit != 0) && check::luhn(number),
        b"LU" => low(&number[..6]) % 89 == low(&number[6..]),
        _ => false,
    }
}

//! Aliases: for each kind, another value of the same form that is as valid as the original.
//!
//! An alias follows from the key and the value alone. Numbers are brought to their bare digits first, so that one
//! number has one alias however it is grouped; names word by word, so that the parts of a name have one alias each.

use std::net::IpAddr;

use super::check;
use super::dates::{DATE, MONTHS};
use super::draw::Draw;
use super::names::{NAMES, POOLS, folded};
use super::numbers::is_vat;
use super::{Kind, persons};

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

fn iban(bare: &[u8], draw: &mut Draw) -> Vec<u8> {
    let country = &bare[..2];
    let mut account: Vec<u8> = bare[4..].iter().map(|byte| same_class(*byte, LETTERS, draw)).collect();
    if matches!(country, b"FR" | b"MC") && account.len() == 23 {
        let key = check::rib_key(&account[..21]);
        account[21..].copy_from_slice(&text(&key));
    }
    let key = check::iban_key(country, &account);
    [country, &text(&key), &account].concat()
}

fn nir(bare: &[u8], draw: &mut Draw) -> Vec<u8> {
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
fn siren(key: &[u8], digits: &[u8]) -> Vec<u8> {
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

fn siret(key: &[u8], digits: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut alias = siren(key, &digits[..9]);
    alias.extend([0, 0, draw.digit(0), draw.digit(0), 0]);
    check::set_luhn(&mut alias);
    alias
}

fn vat(key: &[u8], bare: &[u8], digits: &[u8], draw: &mut Draw) -> Vec<u8> {
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

fn card(digits: &[u8], draw: &mut Draw) -> Vec<u8> {
    // The first four say which network it is.
    let mut alias: Vec<u8> =
        digits.iter().enumerate().map(|(at, digit)| if at < 4 { *digit } else { draw.digit(0) }).collect();
    check::set_luhn(&mut alias);
    alias
}

fn vin(bare: &[u8], draw: &mut Draw) -> Vec<u8> {
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

fn plate(value: &str, draw: &mut Draw) -> String {
    let department = value.starts_with(|c: char| c.is_ascii_digit());
    let kept = value.len()
        - if department { value.bytes().rev().take_while(u8::is_ascii_alphanumeric).count().min(2) } else { 0 };
    let mut first = true;
    let letters = LETTERS;
    value
        .char_indices()
        .map(|(at, c)| {
            let least = u8::from(std::mem::take(&mut first));
            match c {
                _ if at >= kept => c,
                '0'..='9' => char::from(b'0' + draw.digit(least)),
                'A'..='Z' => char::from(draw.one_of(letters)),
                _ => c,
            }
        })
        .collect()
}

fn secret(value: &str, draw: &mut Draw) -> String {
    const PREFIXES: [&str; 22] = [
        "github_pat_",
        "sk_live_",
        "sk_test_",
        "rk_live_",
        "rk_test_",
        "dop_v1_",
        "glpat-",
        "shpat_",
        "pypi-",
        "ya29.",
        "AKIA",
        "ASIA",
        "AIDA",
        "AROA",
        "AIza",
        "npm_",
        "eyJ",
        "hf_",
        "SG.",
        "sk-",
        "gh",
        "xox",
    ];
    if value.starts_with("-----") {
        return value
            .split_inclusive('\n')
            .map(|line| if line.starts_with("-----") { line.to_owned() } else { same_classes(line, 0, LETTERS, draw) })
            .collect();
    }
    let prefix = PREFIXES.iter().find(|prefix| value.starts_with(**prefix)).map_or(0, |prefix| match *prefix {
        "gh" => 4,
        "xox" => 5,
        other => other.len(),
    });
    let hexadecimal = value[prefix.min(value.len())..].bytes().all(|byte| byte.is_ascii_hexdigit());
    let letters: &[u8] = if hexadecimal { b"ABCDEF" } else { LETTERS };
    same_classes(value, prefix, letters, draw)
}

fn email(draw: &mut Draw) -> String {
    let (given, family) = (POOLS.given[draw.below(POOLS.given.len())], POOLS.family[draw.below(POOLS.family.len())]);
    let (number, domain) = (draw.below(1000), ["org", "net", "com"][draw.below(3)]);
    format!("{given}.{family}{number}@example.{domain}")
}

/// An address that is never routed: 10.0.0.0/8, or the documentation's prefix of version 6.
fn ip(value: &str, draw: &mut Draw) -> String {
    match value.parse() {
        Ok(IpAddr::V6(_)) => {
            let groups: Vec<String> = (0..6).map(|_| format!("{:x}", draw.below(0x1_0000))).collect();
            format!("2001:db8:{}", groups.join(":"))
        }
        _ => format!("10.{}.{}.{}", draw.below(256), draw.below(256), 1 + draw.below(254)),
    }
}

/// A date at most two years away, written in the same way.
fn date(value: &str, draw: &mut Draw) -> String {
    let Some(parts) = DATE.captures(value) else {
        return Kind::DateOfBirth.mask();
    };
    let (mut out, mut at) = (String::new(), 0);
    // Days of 13 to 28 keep day and month apart in numbers.
    let (day, month, shift) = (13 + draw.below(16), 1 + draw.below(12), draw.below(4));
    let first = |names: &[&str]| names.iter().find_map(|name| parts.name(name));
    let mut pieces = Vec::new();
    if let Some(year) = first(&["y1", "y2", "y3", "y4"]) {
        let old: usize = year.as_str().parse().unwrap_or_default();
        let new = match (year.len(), shift) {
            (2, shift) => (old + [98, 99, 1, 2][shift]) % 100,
            (_, shift) => (old + [0, 1, 3, 4][shift]).saturating_sub(2).max(1900),
        };
        pieces.push((year.range(), format!("{new:0width$}", width = year.len())));
    }
    let padded = |number: usize, like: &str| if like.len() == 2 { format!("{number:02}") } else { number.to_string() };
    let month_first = parts.name("m2").is_some_and(|month| month.as_str().parse().is_ok_and(|number: u8| number > 12));
    if let Some(found) = first(&["d1", "d2", "d3", "d4"]) {
        let number = if month_first { month } else { day };
        pieces.push((found.range(), padded(number, found.as_str())));
    }
    if let Some(found) = first(&["m1", "m2"]) {
        let number = if month_first { day } else { month };
        pieces.push((found.range(), padded(number, found.as_str())));
    } else if let Some(found) = first(&["m3", "m4"]) {
        let old = folded(found.as_str()).into_owned();
        let french = MONTHS[0].iter().any(|name| {
            folded(name).starts_with(old.get(..3).unwrap_or(&old)) && found.as_str().starts_with(char::is_lowercase)
        });
        pieces.push((found.range(), MONTHS[usize::from(!french)][month - 1].to_owned()));
    }
    pieces.sort_by_key(|(range, _)| range.start);
    for (range, new) in pieces {
        out.push_str(&value[at..range.start]);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(&value[at..]);
    out
}

/// Digit by digit: the beginning, which says country and kind, is kept. A French number has one alias, be it written
/// with 0 or with +33.
fn phone(key: &[u8], value: &str) -> String {
    let digits: Vec<u8> = value.bytes().filter(u8::is_ascii_digit).collect();
    let bare = String::from_utf8_lossy(&digits).into_owned();
    let written_plus = value.starts_with('+');
    let national = match () {
        () if written_plus && bare.starts_with("33") => Some(bare[2..].trim_start_matches('0')),
        () if bare.starts_with("0033") => Some(bare[4..].trim_start_matches('0')),
        () if bare.len() == 10 && bare.starts_with('0') => Some(&bare[1..]),
        () => None,
    };
    let (canonical, kept) = match national {
        // The digit after the 0 says where it is, or that it is a mobile.
        Some(national) if national.len() == 9 => (national, bare.len() - 8),
        _ => (bare.as_str(), 3.min(bare.len().saturating_sub(4))),
    };
    let mut draw = Draw::new(key, Kind::Phone, canonical);
    loop {
        let mut at = 0;
        let alias: String = value
            .chars()
            .map(|c| {
                if !c.is_ascii_digit() {
                    return c;
                }
                at += 1;
                // A digit after the area code is never 0 or 1 in North America.
                if at <= kept { c } else { char::from(b'0' + draw.digit(if at == kept + 1 { 2 } else { 0 })) }
            })
            .collect();
        if alias != value {
            return alias;
        }
    }
}

/// Word by word: titles, particles and punctuation stay.
fn person(key: &[u8], value: &str) -> String {
    let pieces = pieces(value);
    let last = pieces.iter().rposition(|piece| piece.starts_with(char::is_alphabetic));
    let mut only_titles = true;
    let renamed = pieces.iter().enumerate().map(|(at, piece)| {
        if !piece.starts_with(char::is_alphabetic) {
            return (*piece).to_owned();
        }
        let is_last = Some(at) == last;
        only_titles &= persons::is_title_word(piece);
        if !is_last && (only_titles || persons::is_particle(piece)) {
            return (*piece).to_owned();
        }
        name(key, piece)
    });
    renamed.collect()
}

/// The alias of one word of a name, in the same case.
fn name(key: &[u8], word: &str) -> String {
    let canonical = folded(word).into_owned();
    let mut draw = Draw::new(key, Kind::Person, &canonical);
    if word.chars().count() == 1 {
        return char::from(draw.one_of(b"BCDEFGHJKLNPRSTV")).to_string();
    }
    let known = NAMES.look_up(word);
    let pool = match (known.given, known.family) {
        (true, false) => &POOLS.given,
        (false, true) => &POOLS.family,
        // What is in no list is either: its alias is one that is both.
        _ => &POOLS.both,
    };
    let at = draw.below(pool.len());
    let alias = if pool[at] == canonical { pool[(at + 1) % pool.len()] } else { pool[at] };
    in_case_of(word, alias)
}

fn in_case_of(word: &str, alias: &str) -> String {
    let mut letters = word.chars();
    let first_is_capital = letters.next().is_some_and(char::is_uppercase);
    let rest_is_capital = word.chars().count() > 1 && letters.all(|c| !c.is_lowercase());
    match (first_is_capital, rest_is_capital) {
        (true, true) => alias.to_uppercase(),
        (true, false) => alias[..1].to_uppercase() + &alias[1..],
        _ => alias.to_owned(),
    }
}

/// Numbers and names of streets and towns are replaced; the words for streets, flats and states stay.
fn address(key: &[u8], value: &str) -> String {
    let mut draw = Draw::new(key, Kind::Address, &folded(value));
    let mut out = String::with_capacity(value.len());
    for piece in pieces(value) {
        let kept = piece.chars().count() < 3
            || !piece.starts_with(char::is_uppercase)
            || persons::is_particle(piece)
            || is_way(piece);
        if piece.starts_with(|c: char| c.is_ascii_digit()) {
            for (at, c) in piece.chars().enumerate() {
                out.push(if c.is_ascii_digit() { char::from(b'0' + draw.digit(u8::from(at == 0))) } else { c });
            }
        } else if kept || !piece.starts_with(char::is_alphabetic) {
            out.push_str(piece);
        } else {
            out.push_str(&in_case_of(piece, POOLS.family[draw.below(POOLS.family.len())]));
        }
    }
    out
}

/// Whether a word says what kind of place an address is.
fn is_way(word: &str) -> bool {
    const WAYS: &str = " rue avenue boulevard bld blvd chemin place allee impasse route quai cours square passage faubourg villa \
        sentier residence lotissement hameau ruelle esplanade promenade venelle traverse voie cite montee clos cedex street ave road drive lane \
        court terrace way highway hwy parkway pkwy circle cir close crescent grove gardens row mews trail alley plaza \
        turnpike broadway apt apartment suite ste unit flat floor box post office psc cmr apo fpo dpo usns uss uscgc usnv saint sainte north \
        south east west ";
    WAYS.contains(&format!(" {} ", folded(word)))
}

/// Runs of letters, of digits, and of anything else.
fn pieces(value: &str) -> Vec<&str> {
    let class = |c: char| {
        if c.is_alphabetic() {
            0
        } else if c.is_ascii_digit() {
            1
        } else {
            2
        }
    };
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut chars = value.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if chars.peek().is_none_or(|(_, next)| class(*next) != class(c)) {
            let end = at + c.len_utf8();
            pieces.push(&value[start..end]);
            start = end;
        }
    }
    pieces
}

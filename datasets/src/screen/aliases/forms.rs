//! Aliases of what is known by its form alone: plates, secrets, addresses of the net, dates and telephone numbers.

use std::net::IpAddr;

use super::{LETTERS, same_classes};
use crate::screen::Kind;
use crate::screen::dates::{DATE, MONTHS};
use crate::screen::draw::Draw;
use crate::screen::names::{POOLS, folded};

pub(super) fn plate(value: &str, draw: &mut Draw) -> String {
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

pub(super) fn secret(value: &str, draw: &mut Draw) -> String {
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

pub(super) fn email(draw: &mut Draw) -> String {
    let (given, family) = (POOLS.given[draw.below(POOLS.given.len())], POOLS.family[draw.below(POOLS.family.len())]);
    let (number, domain) = (draw.below(1000), ["org", "net", "com"][draw.below(3)]);
    format!("{given}.{family}{number}@example.{domain}")
}

/// An address that is never routed: 10.0.0.0/8, or the documentation's prefix of version 6.
pub(super) fn ip(value: &str, draw: &mut Draw) -> String {
    match value.parse() {
        Ok(IpAddr::V6(_)) => {
            let groups: Vec<String> = (0..6).map(|_| format!("{:x}", draw.below(0x1_0000))).collect();
            format!("2001:db8:{}", groups.join(":"))
        }
        _ => format!("10.{}.{}.{}", draw.below(256), draw.below(256), 1 + draw.below(254)),
    }
}

/// A date at most two years away, written in the same way.
pub(super) fn date(value: &str, draw: &mut Draw) -> String {
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
pub(super) fn phone(key: &[u8], value: &str) -> String {
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

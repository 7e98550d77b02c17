//! Dates of birth: a date, and before it words that say whose.

use std::sync::LazyLock;

use regex::Regex;

use super::context::{Context, pattern};
use super::{Finding, Kind};

/// The names of the months, each language in the order of the year.
pub(crate) const MONTHS: [[&str; 12]; 2] = [
    [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
];

/// A date: in numbers, or with the month's name in French or English.
pub(super) static DATE: LazyLock<Regex> = LazyLock::new(|| {
    let months = "janvier|janv|février|fevrier|févr|mars|avril|avr|mai|juin|juillet|juil|août|aout|septembre|sept|octobre\
        |oct|novembre|nov|décembre|decembre|déc|january|jan|february|feb|march|mar|april|apr|may|june|jun|july|jul\
        |august|aug|september|sep|october|november|december|dec";
    pattern(&format!(
        r"(?ix)\b(?: (?P<y1>(?:18|19|20)\d\d)(?P<s1>[-/.])(?P<m1>0?[1-9]|1[0-2])[-/.](?P<d1>0?[1-9]|[12]\d|3[01])
        | (?P<d2>0?[1-9]|[12]\d|3[01])(?P<s2>\ ?[-/.]\ ?)(?P<m2>0?[1-9]|[12]\d|3[01])\ ?[-/.]\ ?(?P<y2>(?:18|19|20)\d\d|\d\d)
        | (?P<d3>0?[1-9]|[12]\d|3[01])(?:er|st|nd|rd|th)?\ (?:of\ )?(?P<m3>{months})\.?,?\ (?P<y3>(?:18|19|20)\d\d)
        | (?P<m4>{months})\.?\ (?P<d4>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?,?\ (?P<y4>(?:18|19|20)\d\d) )\b"
    ))
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for date in DATE.find_iter(text) {
        if Context::before(text, date.start()).announces_a_birth() {
            found.push(Finding { kind: Kind::DateOfBirth, range: date.range() });
        }
    }
}

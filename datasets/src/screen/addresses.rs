//! Postal addresses of France and of English-speaking countries: a number, the kind of street, its name, a postal code
//! and a town, as far as they are there.

use std::sync::LazyLock;

use regex::Regex;

use super::context::pattern;
use super::{Finding, Kind};

/// Words for streets in French; they stand before the name.
const WAYS: &str = "rue|avenue|av\\.|boulevard|bd|bld|blvd|chemin|place|allée|allee|impasse|route|quai|cours|square|passage|\
    faubourg|villa|sentier|résidence|lotissement|hameau|ruelle|esplanade|promenade|venelle|rond-point|traverse|voie|cité|montée|clos";

/// A French address.
static FRENCH: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"(?:(?:(?i:de\ la|de\ l|des|du|de|la|le|les|l|d|et|en|sur|sous|aux?|lès)(?:['’]\ ?|[\ -]))*(?:\p{Lu}[\p{L}\p{M}.'’-]*|\d{1,2}(?:er|ème)?(?:\ \p{L}+)?))";
    let town = r"\p{Lu}[\p{L}\p{M}'’-]*(?:[\ -](?:(?i:de|la|le|les|sur|sous|en|lès|du|des|et|aux?|l['’]|d['’])[\ -]?)*\p{Lu}[\p{L}\p{M}'’-]*){0,4}(?:\ (?i:cedex)(?:\ \d{1,2})?)?";
    pattern(&format!(
        r"(?x)(?:\b\d{{1,4}}(?:\ ?(?i:bis|ter|quater)|\ ?[A-D]\b)?\s?,?\ ?)?\b(?i:{WAYS})\ {name}(?:[\ -]{name}){{0,5}}
        (?:(?:\s?[,;\n–-]\ ?|\ )(?:(?i:bât|bat|appt?|esc|étage|résidence)[\w.\ -]{{0,20}}[,\n]\ ?)?(?:F-?)?(?P<code>\d{{2}}\ ?\d{{3}})\ {town})?"
    ))
});

/// A street of an English-speaking country: the number, the name, the kind of street.
static ENGLISH: LazyLock<Regex> = LazyLock::new(|| {
    let ways = "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Terrace|Way|Highway|Hwy|\
        Parkway|Pkwy|Circle|Cir|Square|Sq|Close|Crescent|Grove|Gardens|Row|Mews|Trail|Alley|Plaza|Turnpike|Broadway";
    pattern(&format!(
        r"(?x)\b(?:\d{{1,6}}[A-Za-z]?(?:-\d{{1,4}})?,?\ (?:[NSEW]\.?\ |North\ |South\ |East\ |West\ )?
              (?:\d{{1,5}}\ )?(?:(?:\p{{Lu}}[\p{{L}}\p{{M}}.'’-]*|\d{{1,3}}(?:st|nd|rd|th))\ ){{1,4}}(?:{ways})\b\.?(?:\ (?:NE|NW|SE|SW|N|S|E|W)\b)?
              | (?:P\.?\ ?O\.?\ ?Box|Post\ Office\ Box)\ \d{{1,6}}
              | (?:(?:PSC|Unit|CMR)\ \d{{1,5}},?\ Box\ \d{{1,5}}|US[A-Z]{{1,4}}\ \p{{L}}+)\s(?:APO|FPO|DPO)\ A[AEP]\ \d{{5}})
        (?:,?\s{{1,2}}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|\#)\.?\ ?\#?\w{{1,6}})?
        (?:\s?,?\s{{1,3}}(?:(?:\p{{Lu}}[\p{{L}}\p{{M}}.'’-]*[\ ]?){{1,4}}\s?,?\s{{1,3}})?
           (?: (?:[A-Z]{{2}}\.?|(?:\p{{Lu}}[\p{{L}}\p{{M}}.'’-]*[\ ]?){{1,3}}),?\s{{1,2}}\d{{5}}(?:-\d{{4}})?\b | [A-Z]{{1,2}}\d[A-Z\d]?\ ?\d[A-Z]{{2}}\b ))?"
    ))
});

/// The other order of many countries, behind a word that says what it is: a name and a number, whatever follows.
static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?ix)\b(?:address|adresse|lives?\ (?:at|on)|living\ at|located\ (?:at|on)|residing\ at|demeurant|domicilié(?:\(e\)|e)?|habite|return\ to)
        (?:\ (?:is|est|postale|of\ [\w-]+(?:\ [\w-]+)?\ is))?\s?:?\s+(?:to\ |au\ |à\ )?
        (?P<value>(?-i: (?:\d{1,6}\ )?\d{1,6}\ (?:\p{L}[\p{L}\p{M}.'’-]*\ ){1,4}\d{1,5}[A-Za-z]?\b (?:\ (?:Apt|Suite)\.?\ \w{1,6})?
            | (?:\d{1,6}\ )?(?:\p{Lu}[\p{L}\p{M}.'’-]*\ ){1,4}\d{1,5}[A-Za-z]?\b
            | \d{1,6}\ (?:\d{1,6}\ )?\p{Lu}[\p{L}\p{M}.'’-]*(?:\ \p{Lu}[\p{L}\p{M}.'’-]*){0,4}(?:\ (?:Apt|Suite)\.?\ \w{1,6})? )
            (?: (?:\s?,?\s{1,3}\p{Lu}[\p{L}\p{M}.'’-]*(?:\ \p{L}[\p{L}\p{M}.'’-]*){0,3}){1,3}\s?,?\s{0,3}\d{4,6}\b )?)",
    )
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for part in FRENCH.captures_iter(text) {
        let whole = part.get_match();
        // "rue de la Paix" alone names a street, not where somebody lives.
        if whole.as_str().starts_with(|c: char| c.is_ascii_digit()) || part.name("code").is_some() {
            found.push(Finding { kind: Kind::Address, range: whole.range() });
        }
    }
    for part in ENGLISH.find_iter(text) {
        found.push(Finding { kind: Kind::Address, range: part.range() });
    }
    for part in ANNOUNCED.captures_iter(text) {
        if let Some(value) = part.name("value") {
            found.push(Finding { kind: Kind::Address, range: value.range() });
        }
    }
}

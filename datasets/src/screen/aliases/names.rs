//! Aliases of the names of persons and of postal addresses, word by word.

use crate::screen::draw::Draw;
use crate::screen::names::{NAMES, POOLS, folded};
use crate::screen::{Kind, persons};

/// Word by word: titles, particles and punctuation stay.
pub(super) fn person(key: &[u8], value: &str) -> String {
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
pub(super) fn address(key: &[u8], value: &str) -> String {
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

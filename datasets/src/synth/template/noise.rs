//! Noise in a document, as when paper is read by a machine. It works on the text with its marks and carries them along, so
//! that an answer stays what stands between them.

use super::config::{Mode, NoiseConfig};
use super::marks::is_mark;
use crate::screen::{Draw, folded};

/// What machines take for one another.
const CONFUSED: [(&str, &str); 24] = [
    ("rn", "m"),
    ("m", "rn"),
    ("cl", "d"),
    ("vv", "w"),
    ("ri", "n"),
    ("li", "h"),
    ("O", "0"),
    ("0", "O"),
    ("o", "0"),
    ("l", "1"),
    ("l", "I"),
    ("I", "l"),
    ("1", "l"),
    ("1", "I"),
    ("i", "1"),
    ("S", "5"),
    ("5", "S"),
    ("B", "8"),
    ("8", "B"),
    ("Z", "2"),
    ("2", "Z"),
    ("G", "6"),
    ("e", "c"),
    ("u", "n"),
];

/// Spoils a marked text, or lets it be; the streams are drawn from by the key of a mode.
pub(super) fn spoil(text: String, config: &NoiseConfig, stream: impl Fn(&str) -> Draw) -> String {
    if stream("").share() >= config.share {
        return text;
    }
    let mut chars: Vec<char> = text.chars().collect();
    for (name, mode) in config.modes() {
        let mut draw = stream(name);
        if draw.share() >= mode.share {
            continue;
        }
        let places = Places::of(&chars, mode);
        chars = match name {
            "accents" => accents(&chars, &places, &mut draw),
            "upper_case" => upper_case(&chars, &places, &mut draw),
            "confusions" => confusions(&chars, &places, &mut draw),
            "spaces" => spaces(&chars, &places, &mut draw),
            _ => line_breaks(&chars, &places, &mut draw),
        };
    }
    chars.into_iter().collect()
}

/// Where a mode may change something.
struct Places {
    rate: f64,
    /// For each character, whether it is a seen one which the mode may change.
    free: Vec<bool>,
    /// For each character, whether it is a seen one outside of values.
    outside: Vec<bool>,
}

impl Places {
    fn of(chars: &[char], mode: Mode) -> Self {
        let mut depth = 0_usize;
        let outside: Vec<bool> = chars
            .iter()
            .map(|c| {
                match c {
                    '\u{e000}' => depth += 1,
                    '\u{e002}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                depth == 0 && !is_mark(*c)
            })
            .collect();
        let free = chars.iter().zip(&outside).map(|(c, outside)| *outside || (mode.values && !is_mark(*c))).collect();
        Self { rate: mode.rate, free, outside }
    }

    fn hit(&self, draw: &mut Draw) -> bool {
        draw.share() < self.rate
    }
}

fn accents(chars: &[char], places: &Places, draw: &mut Draw) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    for (c, free) in chars.iter().zip(&places.free) {
        if *free && c.is_alphabetic() && !c.is_ascii() && places.hit(draw) {
            let letter = c.to_string();
            let plain = folded(&letter).into_owned();
            out.extend(if c.is_uppercase() { plain.to_uppercase() } else { plain }.chars());
        } else {
            out.push(*c);
        }
    }
    out
}

fn upper_case(chars: &[char], places: &Places, draw: &mut Draw) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    let mut hit = places.hit(draw);
    for (c, free) in chars.iter().zip(&places.free) {
        if *c == '\n' {
            hit = places.hit(draw);
        }
        if *free && hit { out.extend(c.to_uppercase()) } else { out.push(*c) }
    }
    out
}

fn confusions(chars: &[char], places: &Places, draw: &mut Draw) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let fits =
            |from: &str| from.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c) && places.free[at + i]);
        let found: Vec<&(&str, &str)> = CONFUSED.iter().filter(|(from, _)| fits(from)).collect();
        if !found.is_empty() && places.hit(draw) {
            let (from, to) = found[draw.below(found.len())];
            out.extend(to.chars());
            at += from.chars().count();
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

fn spaces(chars: &[char], places: &Places, draw: &mut Draw) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    for (c, outside) in chars.iter().zip(&places.outside) {
        match *c {
            ' ' if *outside && places.hit(draw) => out.extend(std::iter::repeat_n(' ', 2 * draw.below(2))),
            c => out.push(c),
        }
    }
    out
}

fn line_breaks(chars: &[char], places: &Places, draw: &mut Draw) -> Vec<char> {
    let broken = |(c, outside): (&char, &bool)| if *c == ' ' && *outside && places.hit(draw) { '\n' } else { *c };
    chars.iter().zip(&places.outside).map(broken).collect()
}

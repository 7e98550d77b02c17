//! The lists of names, and the folding that makes "Élodie" and "ELODIE" one name.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

const GIVEN: &str = include_str!("names/given.txt");
const FAMILY: &str = include_str!("names/family.txt");
const WORDS: &str = include_str!("names/words.txt");

/// What the lists say of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// It is a given name.
    pub(super) given: bool,
    /// It is a family name.
    pub(super) family: bool,
    /// It is an ordinary word or a place too.
    pub(super) word: bool,
}

/// The three lists.
pub(super) struct Names {
    given: HashSet<&'static str>,
    family: HashSet<&'static str>,
    words: HashSet<&'static str>,
}

/// The lists that are part of the program.
pub(super) static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    given: GIVEN.lines().collect(),
    family: FAMILY.lines().collect(),
    words: WORDS.lines().collect(),
});

impl Names {
    /// Looks a word up. Of a compound such as "Jean-Luc" each part has to be in a list.
    pub(super) fn look_up(&self, word: &str) -> Known {
        let mut known = Known { given: true, family: true, word: true };
        for piece in word.split('-') {
            let piece: String = folded(piece).chars().filter(char::is_ascii_alphabetic).collect();
            let piece = piece.as_str();
            known.given &= self.given.contains(piece);
            known.family &= self.family.contains(piece);
            known.word &= self.words.contains(piece);
        }
        known
    }
}

/// The names of a list that aliases are drawn from: the given names, those that are family names only, and those that
/// are both. None of them is an ordinary word.
pub(crate) struct Pools {
    pub(crate) given: Vec<&'static str>,
    pub(crate) family: Vec<&'static str>,
    pub(super) both: Vec<&'static str>,
}

pub(crate) static POOLS: LazyLock<Pools> = LazyLock::new(|| {
    let names = &*NAMES;
    let fits = |name: &&str| {
        (4..=10).contains(&name.len()) && !names.words.contains(name) && !super::persons::is_reserved(name)
    };
    let (both, given): (Vec<_>, Vec<_>) = GIVEN.lines().filter(fits).partition(|name| names.family.contains(name));
    let family = FAMILY.lines().filter(fits).filter(|name| !names.given.contains(name)).collect();
    Pools { given, family, both }
});

/// In lower case, without the accents of Latin letters.
pub(crate) fn folded(word: &str) -> Cow<'_, str> {
    if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Cow::Borrowed(word);
    }
    let mut out = String::with_capacity(word.len());
    for c in word.chars().flat_map(char::to_lowercase) {
        match c {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => out.push('a'),
            'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => out.push('c'),
            'ď' | 'đ' | 'ð' => out.push('d'),
            'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => out.push('e'),
            'ĝ' | 'ğ' | 'ġ' | 'ģ' => out.push('g'),
            'ĥ' | 'ħ' => out.push('h'),
            'ì' | 'í' | 'î' | 'ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => out.push('i'),
            'ĵ' => out.push('j'),
            'ķ' => out.push('k'),
            'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => out.push('l'),
            'ñ' | 'ń' | 'ņ' | 'ň' => out.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => out.push('o'),
            'ŕ' | 'ŗ' | 'ř' => out.push('r'),
            'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => out.push('s'),
            'ţ' | 'ť' | 'ŧ' | 'ț' => out.push('t'),
            'ù' | 'ú' | 'û' | 'ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => out.push('u'),
            'ŵ' => out.push('w'),
            'ý' | 'ÿ' | 'ŷ' => out.push('y'),
            'ź' | 'ż' | 'ž' => out.push('z'),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'ß' => out.push_str("ss"),
            'þ' => out.push_str("th"),
            // A combining accent.
            '\u{300}'..='\u{36f}' => {}
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_and_case_do_not_matter_and_compounds_are_known_by_their_parts() {
        for name in ["Élodie", "ELODIE", "E\u{301}lodie", "Jean-Luc", "Marie-Hélène"] {
            assert!(NAMES.look_up(name).given, "{name}");
        }
        assert!(NAMES.look_up("Lefebvre").family);
        assert!(NAMES.look_up("Will").word && !NAMES.look_up("Xyzzy").given);
        assert!(POOLS.given.len() > 1000 && POOLS.family.len() > 1000 && POOLS.both.len() > 500);
    }
}

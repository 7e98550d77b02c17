//! Parts of a passage that can be answers: dates, figures with their units, names, quotations, groups of nouns.
//!
//! Rules over the text, for French and English; a teacher that is asked for a question to a given answer cannot invent
//! one. Source of the order, answer before question: Lewis et al. 2021, <https://arxiv.org/abs/2102.07033>.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// The longest answer, in characters.
const LONGEST: usize = 80;

/// One kind of answer each; the first that matches at a place wins.
static KINDS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let months = "janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre\
                  |January|February|March|April|May|June|July|August|September|October|November|December";
    let letters = "[a-zà-öø-ÿœ'’-]";
    let capital = r"[A-ZÀ-ÖØ-ÞŒ][\w’'-]+";
    [
        format!(r"\b(?:\d{{1,2}}(?:er)? )?(?:{months})(?: \d{{1,2}},)? \d{{4}}\b"),
        r"\b(?:1[0-9]{3}|20[0-9]{2})\b".to_owned(),
        r"\b\d{1,3}(?:[   .,]?\d{3})*(?:,\d+)?[   ]?(?:%|€|euros?|dollars?|km|kg|m²|mètres?|ans?|années?|mois|jours?|heures?|minutes?|points?|years?|months?|days?|hours?|miles?)(?:\b|$)".to_owned(),
        r"«[   ]?([^«»\n]{3,60}?)[   ]?»".to_owned(),
        format!(r"{capital}(?: (?:de|du|des|la|le|les|of|the|d[’'])?[ ]?{capital})+"),
        format!(r"\b(?:(?:une?|le|la|les|the|an?) |l[’']){letters}{{4,}}(?: (?:(?:de|du|des|à|of)(?: la| the)? |d[’']|de l[’']){letters}{{4,}}){{0,2}}\b"),
    ]
    .iter()
    .map(|pattern| Regex::new(pattern).expect("a sound pattern"))
    .collect()
});

/// Words that a group of nouns does not end with: it would be cut in the middle.
const NOT_LAST: [&str; 34] = [
    "votre",
    "notre",
    "leur",
    "leurs",
    "cette",
    "quelle",
    "quel",
    "quelque",
    "quelques",
    "chaque",
    "tout",
    "tous",
    "toute",
    "toutes",
    "plusieurs",
    "certains",
    "certaines",
    "autre",
    "autres",
    "même",
    "mêmes",
    "plus",
    "moins",
    "dont",
    "sans",
    "your",
    "their",
    "this",
    "that",
    "these",
    "those",
    "which",
    "other",
    "same",
];

/// The candidates of a passage by their kinds, as byte ranges; none overlaps another.
pub(super) fn candidates(passage: &str) -> Vec<Vec<Range<usize>>> {
    let mut taken: Vec<Range<usize>> = Vec::new();
    let mut kinds = Vec::new();
    for kind in KINDS.iter() {
        let mut found = Vec::new();
        for captures in kind.captures_iter(passage) {
            // Of a quotation what stands inside.
            let Some(part) = captures.iter().flatten().last() else { continue };
            let range = part.range();
            let is_free = taken.iter().all(|other| range.end <= other.start || other.end <= range.start);
            let last = part.as_str().rsplit([' ', '\'', '’']).next().unwrap_or_default().to_lowercase();
            if is_free && part.as_str().chars().count() <= LONGEST && !NOT_LAST.contains(&last.as_str()) {
                taken.push(range.clone());
                found.push(range);
            }
        }
        kinds.push(found);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(passage: &str) -> Vec<&str> {
        candidates(passage).into_iter().flatten().map(|range| &passage[range]).collect()
    }

    #[test]
    fn dates_figures_names_quotations_and_nouns_are_found() {
        let found =
            texts("Né le 12 mars 1847 à Lyon, Jean de La Tour vendit 3 500 km de câble en 1902 et fonda « Le Fil ».");
        for expected in ["12 mars 1847", "3 500 km", "1902", "Le Fil", "Jean de La Tour"] {
            assert!(found.contains(&expected), "{expected}: {found:?}");
        }
        let found = texts("On May 3, 1921 the mayor opened the bridge of iron, 120 days late.");
        for expected in ["May 3, 1921", "120 days", "the bridge of iron"] {
            assert!(found.contains(&expected), "{expected}: {found:?}");
        }
        assert!(texts("").is_empty());
        // No article is seen in the beginning of a word, and no group ends before its noun.
        assert_eq!(texts("avant acquis, assez de lettres, dans le cadre de votre demande"), Vec::<&str>::new());
        assert_eq!(texts("l'avis d'imposition et la carte d’identité"), ["l'avis d'imposition", "la carte d’identité"]);
    }
}

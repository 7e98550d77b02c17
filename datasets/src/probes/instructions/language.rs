//! In which language a text is written.
//!
//! whatlang tells 70 languages by their script and their trigrams. Swahili, which it does not know, is told by its most
//! frequent words.

use whatlang::Lang;

/// Letters below which a text is too short to tell its language.
const FEWEST_LETTERS: usize = 12;

/// The ISO 639-1 codes of the languages that can be told.
const CODES: [(Lang, &str); 70] = [
    (Lang::Epo, "eo"),
    (Lang::Eng, "en"),
    (Lang::Rus, "ru"),
    (Lang::Cmn, "zh"),
    (Lang::Spa, "es"),
    (Lang::Por, "pt"),
    (Lang::Ita, "it"),
    (Lang::Ben, "bn"),
    (Lang::Fra, "fr"),
    (Lang::Deu, "de"),
    (Lang::Ukr, "uk"),
    (Lang::Kat, "ka"),
    (Lang::Ara, "ar"),
    (Lang::Hin, "hi"),
    (Lang::Jpn, "ja"),
    (Lang::Heb, "he"),
    (Lang::Yid, "yi"),
    (Lang::Pol, "pl"),
    (Lang::Amh, "am"),
    (Lang::Jav, "jv"),
    (Lang::Kor, "ko"),
    (Lang::Nob, "no"),
    (Lang::Dan, "da"),
    (Lang::Swe, "sv"),
    (Lang::Fin, "fi"),
    (Lang::Tur, "tr"),
    (Lang::Nld, "nl"),
    (Lang::Hun, "hu"),
    (Lang::Ces, "cs"),
    (Lang::Ell, "el"),
    (Lang::Bul, "bg"),
    (Lang::Bel, "be"),
    (Lang::Mar, "mr"),
    (Lang::Kan, "kn"),
    (Lang::Ron, "ro"),
    (Lang::Slv, "sl"),
    (Lang::Hrv, "hr"),
    (Lang::Srp, "sr"),
    (Lang::Mkd, "mk"),
    (Lang::Lit, "lt"),
    (Lang::Lav, "lv"),
    (Lang::Est, "et"),
    (Lang::Tam, "ta"),
    (Lang::Vie, "vi"),
    (Lang::Urd, "ur"),
    (Lang::Tha, "th"),
    (Lang::Guj, "gu"),
    (Lang::Uzb, "uz"),
    (Lang::Pan, "pa"),
    (Lang::Aze, "az"),
    (Lang::Ind, "id"),
    (Lang::Tel, "te"),
    (Lang::Pes, "fa"),
    (Lang::Mal, "ml"),
    (Lang::Ori, "or"),
    (Lang::Mya, "my"),
    (Lang::Nep, "ne"),
    (Lang::Sin, "si"),
    (Lang::Khm, "km"),
    (Lang::Tuk, "tk"),
    (Lang::Aka, "ak"),
    (Lang::Zul, "zu"),
    (Lang::Sna, "sn"),
    (Lang::Afr, "af"),
    (Lang::Lat, "la"),
    (Lang::Slk, "sk"),
    (Lang::Cat, "ca"),
    (Lang::Tgl, "tl"),
    (Lang::Hye, "hy"),
    (Lang::Cym, "cy"),
];

const SWAHILI: &str = "sw";

/// Frequent words of Swahili that are no words of the languages that share its letters, or rare ones.
const SWAHILI_WORDS: [&str; 40] = [
    "ya", "wa", "kwa", "ni", "za", "cha", "vya", "katika", "kwamba", "hii", "hiyo", "huu", "huo", "hizi", "hao",
    "yake", "wake", "zake", "yangu", "wangu", "yao", "wao", "lakini", "pia", "sana", "ili", "baada", "kabla", "kama",
    "kuwa", "kutoka", "ambayo", "ambao", "watu", "mtu", "mimi", "wewe", "yeye", "sisi", "moja",
];

/// The language of a text by its ISO 639-1 code, such as `fr`; none when it is too short or the language is not sure.
pub fn language_of(text: &str) -> Option<&'static str> {
    if text.chars().filter(|character| character.is_alphabetic()).count() < FEWEST_LETTERS {
        return None;
    }
    if is_swahili(text) {
        return Some(SWAHILI);
    }
    whatlang::detect(text).filter(whatlang::Info::is_reliable).and_then(|info| code(info.lang()))
}

/// Whether the most probable language of a text is the one with this code; also true of a text without letters.
pub(super) fn may_be(text: &str, code_asked: &str) -> bool {
    let found = if is_swahili(text) { Some(SWAHILI) } else { whatlang::detect_lang(text).and_then(code) };
    found.is_none_or(|found| found == code_asked)
}

/// A code as it is given here, if its language can be told. Chinese has one code for all its scripts.
pub(crate) fn known(asked: &str) -> Option<&'static str> {
    let asked = asked.trim().to_lowercase();
    let asked = match asked.as_str() {
        "zh-cn" | "zh-tw" => "zh",
        "nb" => "no",
        other => other,
    };
    CODES.iter().map(|(_, code)| *code).chain([SWAHILI]).find(|code| *code == asked)
}

fn code(language: Lang) -> Option<&'static str> {
    CODES.iter().find(|(known, _)| *known == language).map(|(_, code)| *code)
}

/// Whether at least a sixth of the words, and three different ones, are frequent words of Swahili.
fn is_swahili(text: &str) -> bool {
    let text = text.to_lowercase();
    let words: Vec<&str> =
        text.split(|character: char| !character.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    let frequent = words.iter().filter(|word| SWAHILI_WORDS.contains(word)).count();
    let different = SWAHILI_WORDS.iter().filter(|word| words.contains(word)).count();
    different >= 3 && frequent * 6 >= words.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_told_and_scraps_are_not() {
        for (code, text) in [
            ("en", "The lighthouse stands at the end of the breakwater, and nobody has lived there for years."),
            ("fr", "Le phare se dresse au bout de la jetée, et plus personne n'y habite depuis des années."),
            ("de", "Der Leuchtturm steht am Ende des Wellenbrechers, und seit Jahren wohnt dort niemand mehr."),
            ("es", "El faro está al final del rompeolas, y hace años que nadie vive allí con su familia."),
            ("ru", "Маяк стоит на конце волнореза, и уже много лет там никто не живёт."),
            ("zh", "灯塔矗立在防波堤的尽头，多年来没有人住在那里。"),
            ("sw", "Mnara wa taa uko mwisho wa gati, na hakuna mtu aliyeishi huko kwa miaka mingi."),
        ] {
            assert_eq!(language_of(text), Some(code), "{text}");
            assert!(may_be(text, code));
        }
        for scrap in ["", "42", "Paris", "def f(x): return x", "?!", "OK."] {
            assert_eq!(language_of(scrap), None, "{scrap}");
        }
        assert!(may_be("1, 2, 3", "th"));
    }

    #[test]
    fn every_language_has_a_code_and_a_code_one_language() {
        for language in Lang::all() {
            assert!(code(*language).is_some(), "{language}");
        }
        let mut codes: Vec<_> = CODES.iter().map(|(_, code)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
        assert_eq!((known("FR"), known("zh-tw"), known("nb"), known("xx")), (Some("fr"), Some("zh"), Some("no"), None));
    }
}

//! Instructions whose keeping a program can check: the 25 kinds of IFEval, one file for each family of them.
//!
//! [`Instruction::is_followed`] is IFEval's strict accuracy; its loose one counts an instruction as followed when any of
//! [`loose_variants`] follows it. Where IFEval draws an argument that is missing or out of range at random, that is an
//! error here, and keywords, which it takes as regular expressions, are plain text.
//!
//! Source: Zhou et al. 2023, <https://arxiv.org/abs/2311.07911> (IFEval), as lm-evaluation-harness 0.4.13 scores it.

mod arguments;
mod case;
mod content;
mod format;
mod keywords;
mod language;
mod length;
mod sentences;

use serde_json::{Map, Value};

use self::arguments::{Arguments, Bound};
use self::content::Postscript;
use crate::error::{InstructionError, closest, did_you_mean};
use crate::source::shorten;

pub(crate) use language::known as known_language;
pub use language::language_of;

/// One instruction with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    id: &'static str,
    check: Check,
}

/// What must hold of a response.
#[derive(Clone, Debug, PartialEq)]
enum Check {
    CapitalWords(Bound),
    EnglishCapital,
    EnglishLowercase,
    RepeatPrompt(String),
    TwoResponses,
    Placeholders(usize),
    Postscript(Postscript),
    Constrained,
    Json,
    Sections { splitter: String, at_least: usize },
    Bullets(usize),
    Highlights(usize),
    Title,
    Keywords(Vec<String>),
    Forbidden(Vec<String>),
    Keyword(String, Bound),
    Letter(char, Bound),
    Language(&'static str),
    NthParagraph { paragraphs: usize, nth: usize, first_word: String },
    Paragraphs(usize),
    Sentences(Bound),
    Words(Bound),
    NoComma,
    End(String),
    Quotation,
}

type Reader = fn(&Arguments<'_>) -> Result<Check, InstructionError>;

/// The instructions by IFEval's names, in their order, and how each reads its arguments.
const INSTRUCTIONS: [(&str, Reader); 25] = [
    ("change_case:capital_word_frequency", |a| {
        Ok(Check::CapitalWords(a.bound("capital_relation", "capital_frequency")?))
    }),
    ("change_case:english_capital", |_| Ok(Check::EnglishCapital)),
    ("change_case:english_lowercase", |_| Ok(Check::EnglishLowercase)),
    ("combination:repeat_prompt", |a| Ok(Check::RepeatPrompt(a.text("prompt_to_repeat")?))),
    ("combination:two_responses", |_| Ok(Check::TwoResponses)),
    ("detectable_content:number_placeholders", |a| Ok(Check::Placeholders(a.count("num_placeholders")?))),
    ("detectable_content:postscript", |a| Ok(Check::Postscript(Postscript::new(&a.text("postscript_marker")?)))),
    ("detectable_format:constrained_response", |_| Ok(Check::Constrained)),
    ("detectable_format:json_format", |_| Ok(Check::Json)),
    ("detectable_format:multiple_sections", |a| {
        Ok(Check::Sections { splitter: a.text("section_spliter")?, at_least: a.count("num_sections")? })
    }),
    ("detectable_format:number_bullet_lists", |a| Ok(Check::Bullets(a.count("num_bullets")?))),
    ("detectable_format:number_highlighted_sections", |a| Ok(Check::Highlights(a.count("num_highlights")?))),
    ("detectable_format:title", |_| Ok(Check::Title)),
    ("keywords:existence", |a| Ok(Check::Keywords(a.texts("keywords")?))),
    ("keywords:forbidden_words", |a| Ok(Check::Forbidden(a.texts("forbidden_words")?))),
    ("keywords:frequency", |a| Ok(Check::Keyword(a.text("keyword")?, a.bound("relation", "frequency")?))),
    ("keywords:letter_frequency", |a| {
        Ok(Check::Letter(a.letter("letter")?, a.bound("let_relation", "let_frequency")?))
    }),
    ("language:response_language", |a| Ok(Check::Language(a.language("language")?))),
    ("length_constraints:nth_paragraph_first_word", |a| {
        let paragraphs = a.count("num_paragraphs")?;
        let nth = a.count_in("nth_paragraph", 1..=paragraphs, "a paragraph from 1 to num_paragraphs")?;
        Ok(Check::NthParagraph { paragraphs, nth, first_word: a.text("first_word")?.to_lowercase() })
    }),
    ("length_constraints:number_paragraphs", |a| Ok(Check::Paragraphs(a.count("num_paragraphs")?))),
    ("length_constraints:number_sentences", |a| Ok(Check::Sentences(a.bound("relation", "num_sentences")?))),
    ("length_constraints:number_words", |a| Ok(Check::Words(a.bound("relation", "num_words")?))),
    ("punctuation:no_comma", |_| Ok(Check::NoComma)),
    ("startend:end_checker", |a| Ok(Check::End(a.text("end_phrase")?))),
    ("startend:quotation", |_| Ok(Check::Quotation)),
];

impl Instruction {
    /// The instruction named `id`, an entry of IFEval's `instruction_id_list`, with its entry of `kwargs`; arguments
    /// that it does not take are ignored, and a null counts as absent.
    ///
    /// # Errors
    /// When no instruction has this name, or an argument is missing or is not what it takes.
    pub fn new(id: &str, kwargs: &Map<String, Value>) -> Result<Self, InstructionError> {
        let Some((id, read)) = INSTRUCTIONS.into_iter().find(|(known, _)| *known == id) else {
            let names = INSTRUCTIONS.iter().map(|(name, _)| *name);
            return Err(InstructionError::Unknown { id: shorten(id), hint: did_you_mean(closest(id, names)) });
        };
        Ok(Self { id, check: read(&Arguments { id, kwargs })? })
    }

    /// Its name, such as `punctuation:no_comma`.
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// Whether a response does what is asked; an empty one does not.
    pub fn is_followed(&self, response: &str) -> bool {
        !response.trim().is_empty() && self.check.holds(response)
    }
}

impl Check {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::CapitalWords(bound) => bound.holds(case::capital_words(text)),
            Self::EnglishCapital => case::is_upper(text) && language::may_be(text, "en"),
            Self::EnglishLowercase => case::is_lower(text) && language::may_be(text, "en"),
            Self::RepeatPrompt(prompt) => content::starts_with(text, prompt),
            Self::TwoResponses => content::has_two_responses(text),
            Self::Placeholders(least) => content::placeholders(text) >= *least,
            Self::Postscript(marker) => marker.is_in(text),
            Self::Constrained => format::is_constrained(text),
            Self::Json => format::is_json(text),
            Self::Sections { splitter, at_least } => format::sections(text, splitter) >= *at_least,
            Self::Bullets(count) => format::bullets(text) == *count,
            Self::Highlights(least) => format::highlights(text) >= *least,
            Self::Title => format::has_title(text),
            Self::Keywords(words) => words.iter().all(|word| keywords::count(text, word) > 0),
            Self::Forbidden(words) => words.iter().all(|word| !keywords::has_word(text, word)),
            Self::Keyword(word, bound) => bound.holds(keywords::count(text, word)),
            Self::Letter(letter, bound) => bound.holds(keywords::count_letter(text, *letter)),
            Self::Language(code) => language::may_be(text, code),
            Self::NthParagraph { paragraphs, nth, first_word } => {
                length::nth_paragraph_starts(text, *paragraphs, *nth, first_word)
            }
            Self::Paragraphs(count) => length::paragraphs(text) == Some(*count),
            Self::Sentences(bound) => bound.holds(sentences::count(text)),
            Self::Words(bound) => bound.holds(length::words(text)),
            Self::NoComma => !text.contains(','),
            Self::End(phrase) => content::ends_with(text, phrase),
            Self::Quotation => content::is_quoted(text),
        }
    }
}

/// The forms of a response that IFEval's loose accuracy looks at: as it is, without its first line, its last, or both,
/// which often are "Sure, here it is:" and the like, and each of these without asterisks.
pub fn loose_variants(response: &str) -> Vec<String> {
    let lines: Vec<&str> = response.split('\n').collect();
    let join = |lines: Option<&[&str]>| lines.unwrap_or_default().join("\n").trim().to_owned();
    let variants = [
        response.to_owned(),
        join(lines.get(1..)),
        join(lines.get(..lines.len() - 1)),
        join(lines.get(1..lines.len() - 1)),
    ];
    let without_asterisks = variants.iter().map(|variant| variant.replace('*', "")).collect::<Vec<_>>();
    variants.into_iter().chain(without_asterisks).collect()
}

#[cfg(test)]
mod tests;

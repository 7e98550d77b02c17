//! Probe items that also stand in the training data: a score on them measures memory, not ability.
//!
//! An item is contaminated when 13 of its words in a row stand in a training text, or all of its words when they are 8
//! to 12; fewer are in many texts by chance, so shorter items are skipped. A word is a run of letters and digits in
//! lower case, so punctuation, layout and case do not hide a copy. Words that are not set apart, as in Chinese or Thai,
//! count as one: items in such languages are mostly skipped.
//!
//! Source: Brown et al. 2020, <https://arxiv.org/abs/2005.14165>, appendix C.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::DataError;
use crate::hub::Hub;
use crate::probes::{Generation, LogLikelihood, ProbeItem, Question};
use crate::source::Located;

/// So many words in a row are taken from an item of at least as many.
const LONGEST: usize = 13;
/// Items of fewer words are skipped.
const SHORTEST: usize = 8;
/// Words that more items than this share are the wording of the task, such as "The following are multiple choice
/// questions", and not of an item.
const MOST_SHARED: usize = 10;

/// An item whose text stands in the training data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contaminated {
    /// The index of the item.
    pub item: usize,
    /// The first place in the training data.
    pub origin: Origin,
    /// The words that they share there, 8 to 13, as the training data writes them.
    pub words: String,
}

/// The items that are looked for, and the places where they were found.
///
/// Holds hashes of the items' words, and of the texts only the words that were found.
#[derive(Clone, Debug, Default)]
pub struct Decontamination {
    grams: Vec<NGrams>,
    found: Vec<Option<(Origin, String)>>,
    skipped: usize,
}

impl Decontamination {
    /// Looks for these items.
    pub fn new(items: &[ProbeItem]) -> Self {
        Self::of_texts(&items.iter().map(Self::text_of).collect::<Vec<_>>())
    }

    /// What of an item is looked for.
    pub(crate) fn text_of(item: &ProbeItem) -> String {
        item_text(&item.question)
    }

    /// Looks for these texts, as if each were what an item asks.
    pub(crate) fn of_texts(texts: &[String]) -> Self {
        let words: Vec<Vec<Word>> = texts.iter().map(|text| words(text)).collect();
        let skipped = words.iter().filter(|words| words.len() < SHORTEST).count();
        let grams = (SHORTEST..=LONGEST).map(|n| NGrams::new(n, &words)).filter(|grams| !grams.items.is_empty());
        Self { grams: grams.collect(), found: vec![None; texts.len()], skipped }
    }

    /// How many items have too few words to be told from chance.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Looks at the next text of the training data, which stands at `origin`.
    pub fn look(&mut self, text: &str, origin: &Origin) {
        let hits = self.hits(text);
        self.record(hits, origin);
    }

    /// The items found so far, in their order, each with the first text that has it.
    pub fn found(&self) -> Vec<Contaminated> {
        let found = self.found.iter().enumerate();
        let found = found.filter_map(|(item, place)| place.as_ref().map(|(origin, words)| (item, origin, words)));
        found.map(|(item, origin, words)| Contaminated { item, origin: origin.clone(), words: words.clone() }).collect()
    }

    /// The items that were not found before and stand in a text, with the words that show it.
    pub(crate) fn hits(&self, text: &str) -> Vec<(usize, String)> {
        let words = words(text);
        let mut hits: Vec<(usize, String)> = Vec::new();
        for grams in &self.grams {
            for (start, hash) in windows(&words, grams.n) {
                for &item in grams.items.get(&hash).into_iter().flatten() {
                    if self.found[item].is_none() && hits.iter().all(|(hit, _)| *hit != item) {
                        let shared = &text[words[start].start..words[start + grams.n - 1].end];
                        hits.push((item, shared.to_owned()));
                    }
                }
            }
        }
        hits
    }

    fn record(&mut self, hits: Vec<(usize, String)>, origin: &Origin) {
        for (item, words) in hits {
            self.found[item].get_or_insert_with(|| (origin.clone(), words));
        }
    }
}

/// The items that also stand in the sources, in their order. A text is all messages of a conversation, one after the
/// other, so that a question and its answer may stand in two of them.
///
/// The sources are read as a stream. A relative path starts at `root`, the folder of the recipe; a hub file comes from
/// `hub`. The result does not depend on the number of threads.
///
/// # Errors
/// As [`load_with`](crate::load_with), for the first source that cannot be read.
pub fn contaminated(
    items: &[ProbeItem],
    sources: &[SourceConfig],
    root: &Path,
    hub: &Hub,
) -> Result<Vec<Contaminated>, DataError> {
    let mut search = Decontamination::new(items);
    for source in sources {
        let located = Located::new(source, root, hub)?;
        let mut stream = located.stream()?;
        loop {
            let batch = stream.next_batch(|conversation| {
                let hits = search.hits(&conversation_text(&conversation));
                Ok((hits, conversation.origin))
            })?;
            if batch.is_empty() {
                break;
            }
            for (hits, origin) in batch {
                search.record(hits, &origin);
            }
        }
    }
    Ok(search.found())
}

fn conversation_text(conversation: &Conversation) -> String {
    let contents: Vec<_> = conversation.messages.iter().map(|message| message.content.as_str()).collect();
    contents.join("\n")
}

/// What of an item gives it away: what is asked, and the right answer where it is scored as text.
fn item_text(question: &Question) -> String {
    match question {
        Question::LogLikelihood(LogLikelihood::MultipleChoice { query, choices, gold }) => {
            format!("{query} {}", choices[*gold])
        }
        Question::LogLikelihood(LogLikelihood::Partial { contexts, continuation, gold }) => {
            format!("{} {continuation}", contexts[*gold])
        }
        Question::LogLikelihood(LogLikelihood::Pair { good, .. }) => good.clone(),
        Question::LogLikelihood(LogLikelihood::Cloze { context, target }) => format!("{context} {target}"),
        Question::Generation(Generation { prompt, .. }) => prompt.clone(),
        Question::LogLikelihood(LogLikelihood::Text { text }) => text.clone(),
    }
}

/// Runs of `n` words, and the items that have each.
#[derive(Clone, Debug)]
struct NGrams {
    n: usize,
    items: HashMap<u64, Vec<usize>>,
}

impl NGrams {
    /// The runs of `n` words of those items that are told by so many: by 13, or by all that they have.
    fn new(n: usize, words: &[Vec<Word>]) -> Self {
        let mut all: HashMap<u64, Vec<usize>> = HashMap::new();
        let told = |words: &[Word]| if n == LONGEST { words.len() >= n } else { words.len() == n };
        let told: Vec<(usize, &Vec<Word>)> = words.iter().enumerate().filter(|(_, words)| told(words)).collect();
        for &(item, words) in &told {
            for (_, hash) in windows(words, n) {
                let items = all.entry(hash).or_default();
                if items.last() != Some(&item) {
                    items.push(item);
                }
            }
        }
        let mut items: HashMap<u64, Vec<usize>> = HashMap::new();
        for &(item, words) in &told {
            let hashes = || windows(words, n).map(|(_, hash)| hash);
            let own = |hash: &u64| all[hash].len() <= MOST_SHARED;
            // An item that is nothing but shared words is told by them.
            let any_own = hashes().any(|hash| own(&hash));
            for hash in hashes().filter(|hash| !any_own || own(hash)) {
                let items = items.entry(hash).or_default();
                if items.last() != Some(&item) {
                    items.push(item);
                }
            }
        }
        Self { n, items }
    }
}

/// A word by its hash, and its place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    hash: u64,
    start: usize,
    end: usize,
}

/// The runs of letters and digits in a text, in lower case.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    // Its keys are fixed, so the words have the same hashes in every run.
    let mut word: Option<(DefaultHasher, usize)> = None;
    for (at, character) in text.char_indices() {
        if character.is_alphanumeric() {
            let (hasher, _) = word.get_or_insert_with(|| (DefaultHasher::new(), at));
            for lower in character.to_lowercase() {
                hasher.write_u32(lower.into());
            }
        } else if let Some((hasher, start)) = word.take() {
            words.push(Word { hash: hasher.finish(), start, end: at });
        }
    }
    if let Some((hasher, start)) = word {
        words.push(Word { hash: hasher.finish(), start, end: text.len() });
    }
    words
}

/// The hash of each run of `n` words with the index of its first, as a polynomial of the words' hashes modulo 2⁶⁴, so
/// that each follows from the one before.
fn windows(words: &[Word], n: usize) -> impl Iterator<Item = (usize, u64)> {
    // 2⁶⁴ divided by the golden ratio: odd, with bits spread evenly.
    const BASE: u64 = 0x9E37_79B9_7F4A_7C15;
    let append = |hash: u64, word: &Word| hash.wrapping_mul(BASE).wrapping_add(word.hash);
    let leaving = (0..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
    let first = words.get(..n).map(|first| first.iter().fold(0, append));
    let rest = words.iter().zip(words.get(n..).unwrap_or_default());
    let rest = rest.scan(first.unwrap_or_default(), move |hash, (left, entered)| {
        *hash = append(*hash, entered).wrapping_sub(left.hash.wrapping_mul(leaving));
        Some(*hash)
    });
    first.into_iter().chain(rest).enumerate()
}

#[cfg(test)]
mod tests;

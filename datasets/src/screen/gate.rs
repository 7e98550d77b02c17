//! The gate of a recipe: what is done with personal data before anything else sees a conversation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Finding, Kind, LicenceRules, Pseudonymiser, Screener, replace};
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::{DataError, ScreenError};

/// What is done with what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Count it, and change nothing.
    #[default]
    Report,
    /// Replace it with its kind, for example `[EMAIL]`.
    Mask,
    /// Replace it with an alias of the same form, the same for the same value everywhere.
    Pseudonymise,
    /// Stop at the first.
    Refuse,
}

impl Action {
    /// The name used in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Mask => "mask",
            Self::Pseudonymise => "pseudonymise",
            Self::Refuse => "refuse",
        }
    }
}

/// The `data.screen` part of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScreenConfig {
    /// What is done with personal data and secrets: `report`, `mask`, `pseudonymise` or `refuse`.
    #[serde(default)]
    pub action: Action,
    /// The kinds that are looked for.
    #[serde(default = "all_kinds")]
    pub kinds: Vec<Kind>,
    /// The file with the key of `pseudonymise`; null takes the environment variable `GREFFON_SCREEN_KEY`. Relative to
    /// the recipe.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The licences that the sources may have. With these rules every source names its licence.
    #[serde(default)]
    pub licences: Option<LicenceRules>,
}

fn all_kinds() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

impl Default for ScreenConfig {
    fn default() -> Self {
        Self { action: Action::default(), kinds: all_kinds(), key: None, licences: None }
    }
}

/// How often each kind was found.
pub type Screened = BTreeMap<Kind, u64>;

/// Parts two messages while they are searched as one text. No text holds it, and it is no white space, so nothing is
/// found across it; patterns that take anything but white space leave it out by name.
const BETWEEN: char = '\u{1f}';

/// A screener with what is done with what it finds.
#[derive(Clone, Debug)]
pub struct Screening {
    screener: Screener,
    action: Action,
    pseudonymiser: Option<Pseudonymiser>,
}

impl Screening {
    /// As a recipe says, its key read.
    ///
    /// # Errors
    /// [`DataError::Screen`] or [`DataError::Read`] when the action needs a key that cannot be had.
    pub fn new(config: &ScreenConfig) -> Result<Self, DataError> {
        let pseudonymiser = match config.action {
            Action::Pseudonymise => Some(Pseudonymiser::from_file_or_env(config.key.as_deref())?),
            _ => None,
        };
        Ok(Self { screener: Screener::new(&config.kinds), action: config.action, pseudonymiser })
    }

    /// What the tokens of screened data depend on beside the texts.
    pub(crate) fn fingerprint(&self, kinds: &[Kind]) -> String {
        let key = self.pseudonymiser.as_ref().map(Pseudonymiser::fingerprint).unwrap_or_default();
        let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        format!("{} {} {key}", self.action.name(), kinds.join(","))
    }

    /// Searches texts that belong together, so that what one of them introduces is found in all; calls `found` with the
    /// number of the text and what was found in it, and gives the texts that replace those that change.
    pub fn texts(&self, texts: &[&str], mut found: impl FnMut(usize, &Finding)) -> Vec<Option<String>> {
        let mut joined = String::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
        let mut starts = Vec::with_capacity(texts.len());
        for text in texts {
            starts.push(joined.len());
            joined.push_str(text);
            joined.push(BETWEEN);
        }
        let mut parts: Vec<Vec<Finding>> = vec![Vec::new(); texts.len()];
        for finding in self.screener.find(&joined) {
            let number = starts.partition_point(|start| *start <= finding.range.start) - 1;
            let (start, length) = (starts[number], texts[number].len());
            // A text that holds the separator itself is searched as two; nothing reaches over the end.
            if finding.range.end - start <= length {
                let range = finding.range.start - start..finding.range.end - start;
                parts[number].push(Finding { kind: finding.kind, range });
            }
        }
        parts
            .into_iter()
            .enumerate()
            .map(|(number, findings)| {
                for finding in &findings {
                    found(number, finding);
                }
                (!findings.is_empty()).then(|| self.replaced(texts[number], &findings)).flatten()
            })
            .collect()
    }

    fn replaced(&self, text: &str, findings: &[Finding]) -> Option<String> {
        match (self.action, &self.pseudonymiser) {
            (Action::Mask, _) => Some(replace(text, findings, |kind, _| kind.mask())),
            (Action::Pseudonymise, Some(with)) => Some(replace(text, findings, |kind, value| with.alias(kind, value))),
            _ => None,
        }
    }

    /// Refuses a text of which something was found, where that is the action.
    ///
    /// # Errors
    /// [`ScreenError::Refused`].
    pub(crate) fn let_in(&self, counts: &Screened, origin: impl FnOnce() -> Origin) -> Result<(), DataError> {
        match counts.first_key_value() {
            Some((kind, count)) if self.action == Action::Refuse => {
                let (kind, count) = (*kind, usize::try_from(*count).unwrap_or(usize::MAX));
                Err(ScreenError::Refused { origin: origin(), kind, count }.into())
            }
            _ => Ok(()),
        }
    }

    /// Screens one conversation with its accepted answers, and changes it as the action says.
    ///
    /// # Errors
    /// [`ScreenError::Refused`] when something is found and the action is to refuse.
    pub fn conversation(&self, conversation: &mut Conversation) -> Result<Screened, DataError> {
        let mut counts = Screened::new();
        let messages = conversation.messages.iter().map(|message| message.content.as_str());
        let texts: Vec<&str> = messages.chain(conversation.references.iter().map(String::as_str)).collect();
        let replaced = self.texts(&texts, |_, finding| *counts.entry(finding.kind).or_default() += 1);
        self.let_in(&counts, || conversation.origin.clone())?;
        let messages = conversation.messages.iter_mut().map(|message| &mut message.content);
        for (text, new) in messages.chain(&mut conversation.references).zip(replaced) {
            if let Some(new) = new {
                *text = new;
            }
        }
        Ok(counts)
    }
}

impl ScreenConfig {
    /// Checks the licences of the sources; gives a line for each that asks something.
    ///
    /// # Errors
    /// [`ScreenError::NoLicence`] and [`ScreenError::Licence`], with the first source that is not accepted.
    pub fn check_licences<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a SourceConfig>,
    ) -> Result<Vec<String>, DataError> {
        let Some(rules) = &self.licences else { return Ok(Vec::new()) };
        let mut owed = Vec::new();
        for source in sources {
            let named = |hub: &crate::config::HubSource| Path::new(&hub.dataset).join(&hub.file);
            let path = source.path.clone().or_else(|| source.hub.as_ref().map(named)).unwrap_or_default();
            owed.extend(rules.owed(&path, source.licence.as_deref())?);
        }
        Ok(owed)
    }
}

/// What was found, for the notes of a run: `screening (mask): 12 email, 3 person`.
pub(crate) fn note(action: Action, counts: &Screened) -> String {
    let parts: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let what = if parts.is_empty() { "nothing found".to_owned() } else { parts.join(", ") };
    format!("screening ({}): {what}", action.name())
}

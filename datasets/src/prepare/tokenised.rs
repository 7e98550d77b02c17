//! The conversations of a source, rendered and tokenised by all processes.
//!
//! Each process reads the whole source and works on every so-many-th batch; the first one gets what the others made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::DataConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::{DataError, with_causes};
use crate::peers::Peers;
use crate::samples::Lineage;
use crate::screen::{Screened, Screening};
use crate::source::{Format, Stream};
use crate::split::content_hash;
use crate::tokenize::{Example, Outcome, tokenize};
use crate::tokenizer::ChatTokenizer;

use super::build::Build;

/// What became of one conversation.
pub(super) struct Tokenised {
    pub(super) hash: [u8; 32],
    pub(super) lineage: Lineage,
    pub(super) origin: Origin,
    pub(super) outcome: Outcome,
    pub(super) screened: Screened,
}

impl Tokenised {
    fn of(
        config: &DataConfig,
        tokenizer: &ChatTokenizer,
        screening: Option<&Screening>,
        mut conversation: Conversation,
    ) -> Result<Self, DataError> {
        let lineage = std::mem::take(&mut conversation.lineage).named(&conversation.messages);
        let screened = match screening {
            Some(screening) => screening.conversation(&mut conversation)?,
            None => Screened::new(),
        };
        if let Some(content) = &config.system_prompt {
            conversation.set_default_system(content);
        }
        let hash = content_hash(&conversation);
        let outcome = tokenize(tokenizer, &conversation, config.max_length, config.overlong)?;
        Ok(Self { hash, lineage, origin: conversation.origin, outcome, screened })
    }
}

/// What a template printed of the date, by format.
pub(super) type Printed = BTreeMap<String, String>;

/// A source that is read.
pub(super) struct Reading<'a> {
    build: &'a Build<'a>,
    peers: &'a dyn Peers,
    name: &'a Arc<Path>,
    stream: Stream<'a>,
    is_given_up: bool,
}

impl<'a> Reading<'a> {
    pub(super) fn open(build: &'a Build<'a>, number: usize, peers: &'a dyn Peers) -> Result<Self, DataError> {
        let source = &build.sources[number];
        Ok(Self { build, peers, name: &source.name, stream: source.stream()?, is_given_up: false })
    }

    /// The next conversations, in the file's order; none when the source is over, or given up. Those of the others are known
    /// to the first process alone, which adds to `printed` what their templates printed.
    pub(super) fn next(&mut self, printed: &mut Printed) -> Result<Option<Vec<Tokenised>>, DataError> {
        let Build { config, tokenizer, screening, .. } = self.build;
        let ranks = self.peers.ranks();
        let work = |conversation| Tokenised::of(config, tokenizer, screening.as_ref(), conversation);
        let Some(own) = self.stream.next_share(self.peers.rank(), ranks, work) else { return Ok(None) };
        if ranks == 1 {
            return own.map(Some);
        }
        let part = match &own {
            Ok(made) => done(made, tokenizer.template()?.printed()),
            Err(error) => [&[FAILED], with_causes(error).as_bytes()].concat(),
        };
        let parts = self.peers.gather(&part)?;
        if parts[0] == ENDED {
            self.is_given_up = true;
            return Ok(None);
        }
        let failed = |part: &&Vec<u8>| part.first() == Some(&FAILED);
        if let Some((rank, part)) = parts.iter().enumerate().find(|(_, part)| failed(part)) {
            let reason = String::from_utf8_lossy(&part[1..]).into_owned();
            let anothers = DataError::Peer { rank, ranks, reason };
            return Err(own.err().filter(|_| rank == self.peers.rank()).unwrap_or(anothers));
        }
        if self.peers.rank() > 0 {
            return Ok(Some(Vec::new()));
        }
        let mut all = Vec::new();
        for (rank, part) in parts.iter().enumerate() {
            let read = read(part, self.name, printed);
            let reason = || "what it says cannot be read; start the same greffon everywhere".to_owned();
            all.extend(read.ok_or_else(|| DataError::Peer { rank, ranks, reason: reason() })?);
        }
        Ok(Some(all))
    }

    /// Whether the first process makes the file no longer: it cannot be written.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    /// The form of the records, after the first ones.
    pub(super) fn format(&self) -> Option<Format> {
        self.stream.format()
    }

    /// About how many bytes of the file are read.
    pub(super) fn done_bytes(&self) -> u64 {
        self.stream.done_bytes()
    }
}

/// What the first process says when nothing more is made together.
pub(super) const ENDED: [u8; 1] = [2];
/// The first byte of a part that could not be made; the reason follows.
const FAILED: u8 = 1;
/// The first byte of a part. The length of [`Heads`] in JSON follows, and they; then of each example the tokens in four
/// bytes each, and the mask in one each.
const DONE: u8 = 0;

#[derive(Serialize, Deserialize)]
struct Heads {
    heads: Vec<Head>,
    printed: Printed,
}

/// A conversation without its tokens.
#[derive(Serialize, Deserialize)]
struct Head {
    hash: [u8; 32],
    lineage: Lineage,
    line: usize,
    outcome: Made,
    screened: Screened,
}

#[derive(Serialize, Deserialize)]
enum Made {
    Kept { tokens: usize, truncated: bool, unsupervised_turns: usize },
    Dropped { tokens: usize },
}

fn done(made: &[Tokenised], printed: Printed) -> Vec<u8> {
    let head = |tokenised: &Tokenised| {
        let outcome = match &tokenised.outcome {
            Outcome::Kept { example, truncated, unsupervised_turns } => Made::Kept {
                tokens: example.input_ids.len(),
                truncated: *truncated,
                unsupervised_turns: *unsupervised_turns,
            },
            Outcome::Dropped { tokens } => Made::Dropped { tokens: *tokens },
        };
        let Tokenised { hash, lineage, origin, screened, .. } = tokenised;
        Head { hash: *hash, lineage: lineage.clone(), line: origin.line, outcome, screened: screened.clone() }
    };
    let heads = serde_json::to_vec(&Heads { heads: made.iter().map(head).collect(), printed }).expect("plain data");
    let mut bytes = vec![DONE];
    bytes.extend((heads.len() as u64).to_ne_bytes());
    bytes.extend(heads);
    for tokenised in made {
        if let Outcome::Kept { example, .. } = &tokenised.outcome {
            bytes.extend_from_slice(bytemuck::cast_slice(&example.input_ids));
            bytes.extend(example.loss_mask.iter().map(|learned| u8::from(*learned)));
        }
    }
    bytes
}

/// What [`done`] wrote; none where it did not.
fn read(part: &[u8], name: &Arc<Path>, printed: &mut Printed) -> Option<Vec<Tokenised>> {
    let (length, rest) = part.strip_prefix(&[DONE])?.split_first_chunk()?;
    let (heads, mut rest) = rest.split_at_checked(usize::try_from(u64::from_ne_bytes(*length)).ok()?)?;
    let Heads { heads, printed: others } = serde_json::from_slice(heads).ok()?;
    printed.extend(others);
    let mut all = Vec::with_capacity(heads.len());
    for Head { hash, lineage, line, outcome, screened } in heads {
        let origin = Origin { path: name.clone(), line };
        let outcome = match outcome {
            Made::Kept { tokens, truncated, unsupervised_turns } => {
                let (ids, after) = rest.split_at_checked(tokens.checked_mul(size_of::<u32>())?)?;
                let (mask, after) = after.split_at_checked(tokens)?;
                rest = after;
                let input_ids = ids.as_chunks().0.iter().map(|id| u32::from_ne_bytes(*id)).collect();
                let loss_mask = mask.iter().map(|learned| *learned != 0).collect();
                let example = Example { input_ids, loss_mask, origin: origin.clone() };
                Outcome::Kept { example, truncated, unsupervised_turns }
            }
            Made::Dropped { tokens } => Outcome::Dropped { tokens },
        };
        all.push(Tokenised { hash, lineage, origin, outcome, screened });
    }
    rest.is_empty().then_some(all)
}

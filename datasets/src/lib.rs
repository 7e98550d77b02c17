//! Text in, packed token rows out; no tensors.
//!
//! The data's way: a source reads files into [`Conversation`]s, the model's own chat template
//! renders them, the tokenizer makes token ids with a loss mask, and packing puts several examples into one row.

mod atomic;
mod cache;
mod config;
mod conversation;
mod decontaminate;
mod digest;
mod error;
pub mod filter;
mod hub;
mod key;
mod mixture;
mod near_duplicates;
mod pack;
mod peers;
mod prefix;
mod prepare;
pub mod probes;
mod samples;
pub mod screen;
mod select;
mod source;
mod split;
mod stats;
mod store;
pub mod synth;
mod template;
mod tokenize;
mod tokenizer;

pub use cache::Cache;
pub use config::{DataConfig, HubSource, MAX_WEIGHT, Overlong, SourceConfig};
pub use conversation::{Conversation, Message, Origin, Role};
pub use decontaminate::{Contaminated, Decontamination, contaminated};
pub use digest::{hex, sha256_files};
pub use error::{
    DataError, ExampleError, HubError, InstructionError, ProbeError, RecordError, ScreenError, SynthError,
    TemplateError, TokenizerError, with_causes,
};
pub use hub::{Hub, HubFile, Push, PushFile, Pushed, RepoKind, TransferProgress};
pub use mixture::{Order, permutation};
pub use near_duplicates::{
    Bands, Compare, DedupConfig, DedupExample, DedupFiles, DedupGroups, DedupMember, DedupText, NearDuplicates,
    Shingle, SimilarPair,
};
pub use pack::{Row, Segment, pack};
pub use peers::{Alone, Peers};
pub use prefix::{Family, families};
pub use prepare::{Prepared, Progress, load_conversations, prepare, prepare_together};
pub use samples::{
    Ancestry, Lineage, SampleRecord, SamplesFile, ScreeningRecord, SourceRecord, Split, read_samples, source_record,
    write_samples,
};
pub use select::{Criterion, SelectConfig, Traits, choose};
pub use source::{Format, Loaded, load, load_with};
pub use split::content_hash;
pub use stats::LengthStats;
pub use store::{Counts, ExampleRef, Examples};
pub use template::{ChatTemplate, Rendered, SpecialTokens};
pub use tokenize::{Example, Outcome, Tokenized, tokenize, tokenize_all};
pub use tokenizer::{ChatTokenizer, GgufVocabulary, TextStream};

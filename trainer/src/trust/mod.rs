//! What others need to rely on an export: who says what of it, and whether it can be made again.
//!
//! [`facts`] has what a manifest says, [`Statement`] is the file with the digests of the export's files, [`check()`] compares
//! it with what was signed, [`reproduce`] runs its recipe again. Each fact has one owner: `greffon.json`
//! ([`crate::prove::Manifest`]) has data, forgetting and proofs, the run folder all of the run, the files their digests.
//! The manifest repeats them for others, and is made anew when one of them changes.

mod check;
pub mod facts;
pub mod reproduce;
mod statement;

pub use check::{check, is_of_manifest, sign};
pub use facts::{BaseFacts, Checkpoint, Facts};
pub use statement::{MANIFEST, PAYLOAD_TYPE, Renewed, SIGNATURE, Statement, Subject, files};

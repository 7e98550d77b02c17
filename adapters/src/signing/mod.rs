//! Who says so: Ed25519 keys, and envelopes that carry a text with signatures over it.
//!
//! [`keys`] reads and writes the keys as every tool does (PKCS#8 and SPKI in PEM), [`dsse`] the envelopes. What is signed
//! is bytes; what they say is the caller's.

pub mod dsse;
pub mod keys;

pub use dsse::Envelope;
pub use keys::{PublicKey, SecretKey};

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::AdapterError;

/// Reads a file whole, unless it is larger than what is read can be.
///
/// # Errors
/// [`AdapterError::Io`]; [`AdapterError::Signature`] when it is larger.
pub fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, AdapterError> {
    let file = File::open(path).map_err(AdapterError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(AdapterError::io("read", path))?;
    if bytes.len() as u64 > most {
        let problem = format!("is larger than {most} bytes, which no such file needs");
        return Err(AdapterError::Signature { path: path.into(), problem });
    }
    Ok(bytes)
}

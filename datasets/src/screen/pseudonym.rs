//! The key that aliases follow from: read, or made by the first run.

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{Finding, Kind, aliases};
use crate::atomic;
use crate::digest::hex;
use crate::error::{DataError, ScreenError};

/// The environment variable that holds the key when no file is named.
pub const KEY_VARIABLE: &str = "GREFFON_SCREEN_KEY";
/// The fewest bytes of a key.
const LEAST_BYTES: usize = 16;

/// Replaces personal data with aliases of the same form. The same key gives the same value the same alias, in every
/// text and every run; without the key an alias does not tell what it stands for.
///
/// Two values may share an alias. Source of the construction: HMAC-SHA-256 as a pseudorandom function, RFC 2104.
#[derive(Clone)]
pub struct Pseudonymiser {
    key: Vec<u8>,
}

impl Debug for Pseudonymiser {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonymiser { .. }")
    }
}

impl Pseudonymiser {
    /// With a key of at least 16 bytes, white space at its ends left out; `place` is what errors name.
    ///
    /// # Errors
    /// [`ScreenError::Key`] when it is shorter.
    pub fn new(key: &[u8], place: &str) -> Result<Self, DataError> {
        let key = key.trim_ascii().to_vec();
        if key.len() < LEAST_BYTES {
            return Err(DataError::Screen(ScreenError::Key {
                place: place.to_owned(),
                bytes: key.len(),
                least: LEAST_BYTES,
            }));
        }
        Ok(Self { key })
    }

    /// With the key in a file, or in the environment variable [`KEY_VARIABLE`] when no file is named.
    ///
    /// # Errors
    /// [`ScreenError::NoKey`] when there is neither; [`DataError::Read`] when the file cannot be read.
    pub fn from_file_or_env(path: Option<&Path>) -> Result<Self, DataError> {
        match (path, std::env::var(KEY_VARIABLE)) {
            (Some(path), _) => {
                let key = fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
                Self::new(&key, &path.display().to_string())
            }
            (None, Ok(key)) => Self::new(key.as_bytes(), KEY_VARIABLE),
            (None, Err(_)) => Err(DataError::Screen(ScreenError::NoKey { variable: KEY_VARIABLE })),
        }
    }

    /// Makes a key of 32 random bytes in a file that only its owner reads, unless the file is there.
    ///
    /// # Errors
    /// [`DataError::Write`] when the file cannot be made.
    pub fn create_key(path: &Path) -> Result<(), DataError> {
        let failed = |source| DataError::Write { path: path.to_owned(), source };
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        let written = atomic::temporary(atomic::folder_of(path)).and_then(|mut file| {
            file.write_all(format!("{}\n", hex(&key)).as_bytes())?;
            atomic::publish_new(file, path)
        });
        match written {
            // Another program was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            written => written.map_err(failed),
        }
    }

    /// A digest of the key, which tells two keys apart and gives none away.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest([b"greffon screen key".as_slice(), &self.key].concat()))[..16].to_owned()
    }

    /// The alias of a value: of the same kind and form, with right check digits, and never the value itself.
    pub fn alias(&self, kind: Kind, value: &str) -> String {
        aliases::alias(&self.key, kind, value)
    }
}

/// Replaces each finding with what `by` gives for it; the findings are in order and do not overlap.
pub fn replace(text: &str, findings: &[Finding], by: impl Fn(Kind, &str) -> String) -> String {
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for finding in findings {
        out.push_str(&text[at..finding.range.start]);
        out.push_str(&by(finding.kind, &text[finding.range.clone()]));
        at = finding.range.end;
    }
    out.push_str(&text[at..]);
    out
}

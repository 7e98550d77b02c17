//! SHA-256 of files and of messages, and digests as text.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::conversation::Message;

/// A digest in lower-case hexadecimal.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The SHA-256 of messages as compact JSON (`[{"role":…,"content":…},…]`): what a conversation is known by.
pub(crate) fn of_messages(messages: &[Message]) -> [u8; 32] {
    Sha256::digest(serde_json::to_vec(messages).expect("roles and texts can be written as JSON")).into()
}

/// The name of messages: the first 16 digits of their SHA-256.
pub(crate) fn name_of(messages: &[Message]) -> String {
    hex(&of_messages(messages)[..8])
}

/// The SHA-256 of several files, read one after the other, in hexadecimal.
///
/// # Errors
/// When a file cannot be read.
pub fn sha256_files<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
    }
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_joined_content() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "ab").unwrap();
        std::fs::write(&paths[1], "c").unwrap();
        // FIPS 180-2, appendix B.1: the digest of "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_files(paths).unwrap(), expected);
    }
}

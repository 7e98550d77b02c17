//! Ed25519 keys as files: the secret one in PKCS#8, the public one in SPKI, both in PEM.
//!
//! Sources: RFC 8032 (the signatures), RFC 8410 (the keys in PKCS#8 and SPKI), RFC 7468 (PEM).

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::read_at_most;
use crate::AdapterError;
use crate::atomic::{write_atomic, write_private};

/// The most bytes that are read of a key's file.
const MOST: u64 = 1 << 16;
/// Who may read a secret key, as the system's mode: its owner.
const OWNER_ALONE: u32 = 0o600;

/// A key that signs.
pub struct SecretKey(SigningKey);

/// A key by which signatures are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for SecretKey {
    /// Never the secret itself.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretKey({})", self.public().id())
    }
}

impl SecretKey {
    /// A new key, drawn by the system.
    ///
    /// # Errors
    /// [`AdapterError::Io`] when the system has no randomness to give.
    pub fn generate() -> Result<Self, AdapterError> {
        let mut secret = [0; 32];
        let failed = |error: getrandom::Error| std::io::Error::other(error.to_string());
        getrandom::fill(&mut secret)
            .map_err(failed)
            .map_err(AdapterError::io("draw from", "the system's randomness"))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// Reads the key of a PKCS#8 file in PEM. Warns when others than its owner may read it.
    ///
    /// # Errors
    /// [`AdapterError::Io`]; [`AdapterError::File`] when it holds something else.
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        let text = read_pem(path)?;
        if label(&text) == Some("PUBLIC KEY") {
            return Err(not_a_key(path, "is a public key, which cannot sign; name the secret one, NAME.key"));
        }
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|error| {
            not_a_key(path, &format!("is no Ed25519 key in PKCS#8 and PEM ({error}); `greffon keys new` makes one"))
        })?;
        let mode = path.metadata().map_err(AdapterError::io("inspect", path))?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(
                "{}: others than its owner may read this secret key; chmod {OWNER_ALONE:o} {0}",
                path.display()
            );
        }
        Ok(Self(key))
    }

    /// Writes `NAME.key`, which its owner alone may read, and `NAME.pub`; gives the two paths.
    ///
    /// # Errors
    /// [`AdapterError::Exists`] when one of them is there, whatever the caller wants: a key that is gone cannot be made
    /// again. [`AdapterError::Io`].
    #[expect(clippy::missing_panics_doc, reason = "a key has a form in PKCS#8")]
    pub fn write(&self, name: &Path) -> Result<[PathBuf; 2], AdapterError> {
        let [secret, public] = [".key", ".pub"].map(|ending| {
            let mut path = name.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        });
        for path in [&secret, &public] {
            if path.symlink_metadata().is_ok() {
                let problem = "is there already, and keys are never replaced; choose another name".into();
                return Err(AdapterError::File { path: path.clone(), problem });
            }
        }
        // The first form of PKCS#8, without the public half, which is the one that OpenSSL reads.
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let text = bytes.to_pkcs8_pem(LineEnding::LF).expect("32 bytes can be written as PKCS#8");
        write_private(&secret, |out| out.write_all(text.as_bytes()))?;
        self.public().write(&public)?;
        Ok([secret, public])
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The signature of a message.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl PublicKey {
    /// Reads the key of an SPKI file in PEM.
    ///
    /// # Errors
    /// [`AdapterError::Io`]; [`AdapterError::File`] when it holds something else.
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        let text = read_pem(path)?;
        if label(&text) == Some("PRIVATE KEY") {
            return Err(not_a_key(
                path,
                "is a secret key; name the public one, NAME.pub, and keep this one to yourself",
            ));
        }
        let key = VerifyingKey::from_public_key_pem(&text).map_err(|error| {
            not_a_key(path, &format!("is no public Ed25519 key in SPKI and PEM ({error}); expected NAME.pub"))
        })?;
        Ok(Self(key))
    }

    /// Reads the public key of either file.
    ///
    /// # Errors
    /// As [`Self::read`] and [`SecretKey::read`].
    pub fn of_either(path: &Path) -> Result<Self, AdapterError> {
        match label(&read_pem(path)?) {
            Some("PRIVATE KEY") => Ok(SecretKey::read(path)?.public()),
            _ => Self::read(path),
        }
    }

    fn write(&self, path: &Path) -> Result<(), AdapterError> {
        let text = self.0.to_public_key_pem(LineEnding::LF).expect("32 bytes can be written as SPKI");
        write_atomic(path, false, |out| out.write_all(text.as_bytes()))
    }

    /// What it is known by: SHA-256 of its SPKI in DER, in hexadecimal.
    #[expect(clippy::missing_panics_doc, reason = "a key has a form in SPKI")]
    pub fn id(&self) -> String {
        let der = self.0.to_public_key_der().expect("32 bytes can be written as SPKI");
        Sha256::digest(der.as_bytes()).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// Whether a signature of a message is this key's. Signatures in forms that some tools take and others refuse are
    /// refused.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

fn read_pem(path: &Path) -> Result<String, AdapterError> {
    if fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Err(not_a_key(path, "is a folder, expected the file of a key"));
    }
    String::from_utf8(read_at_most(path, MOST)?).map_err(|_| not_a_key(path, "is no text, expected a key in PEM"))
}

/// What a PEM file says that it holds.
fn label(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix("-----BEGIN ")?.split_once("-----").map(|(label, _)| label)
}

fn not_a_key(path: &Path, problem: &str) -> AdapterError {
    AdapterError::File { path: path.into(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2: secret key, public key, message and signature.
    const SECRET: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn the_vector_of_rfc_8032_comes_through_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let key = SecretKey(SigningKey::from_bytes(&bytes(SECRET)));
        let [secret, public] = key.write(&folder.path().join("alice")).unwrap();
        assert_eq!(secret.metadata().unwrap().permissions().mode() & 0o777, OWNER_ALONE);
        let (secret, public) = (SecretKey::read(&secret).unwrap(), PublicKey::read(&public).unwrap());
        assert_eq!(public.0.to_bytes(), bytes(PUBLIC));
        assert_eq!(secret.sign(&[0x72]), bytes(SIGNATURE));
        assert!(public.verifies(&[0x72], &bytes::<64>(SIGNATURE)));
        assert!(!public.verifies(&[0x73], &bytes::<64>(SIGNATURE)) && !public.verifies(&[0x72], &[0; 64]));
        assert!(!public.verifies(&[0x72], b"short"));
        // The one example of RFC 8410, section 10.3, is read too.
        let path = folder.path().join("rfc8410.key");
        let text = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                    -----END PRIVATE KEY-----\n";
        fs::write(&path, text).unwrap();
        let expected = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert_eq!(SecretKey::read(&path).unwrap().public().0.to_bytes(), bytes(expected));
        assert_eq!(PublicKey::of_either(&path).unwrap(), SecretKey::read(&path).unwrap().public());
    }

    #[test]
    fn keys_are_never_replaced_and_each_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("alice");
        let [first, second] = [(); 2].map(|()| SecretKey::generate().unwrap());
        assert_ne!(first.public(), second.public());
        let [secret, public] = first.write(&name).unwrap();
        let refused = second.write(&name).unwrap_err().to_string();
        assert!(refused.contains("alice.key: is there already"), "{refused}");
        fs::remove_file(&secret).unwrap();
        let refused = second.write(&name).unwrap_err().to_string();
        assert!(refused.contains("alice.pub: is there already"), "{refused}");
        assert!(!secret.exists(), "nothing was written");
        assert_eq!(PublicKey::read(&public).unwrap(), first.public());
    }

    #[test]
    fn what_is_no_key_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let [secret, public] = SecretKey::generate().unwrap().write(&folder.path().join("bob")).unwrap();
        let other = folder.path().join("other.pub");
        for (bytes, expected) in [
            (&b"hello"[..], "is no public Ed25519 key"),
            (b"\xff\xfe", "is no text"),
            ("a".repeat(70_000).as_bytes(), "is larger than 65536 bytes"),
        ] {
            fs::write(&other, bytes).unwrap();
            let error = PublicKey::read(&other).unwrap_err().to_string();
            assert!(error.contains("other.pub") && error.contains(expected), "{error}");
        }
        let error = PublicKey::read(&secret).unwrap_err().to_string();
        assert!(error.contains("bob.key: is a secret key"), "{error}");
        let error = SecretKey::read(&public).unwrap_err().to_string();
        assert!(error.contains("bob.pub: is a public key, which cannot sign"), "{error}");
        let error = SecretKey::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a folder"), "{error}");
    }
}

//! DSSE envelopes: bytes with their type, and signatures over both.
//!
//! Source: DSSE 1.0, <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md> and `envelope.md` there.

use std::path::Path;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use super::{PublicKey, SecretKey, read_at_most};
use crate::AdapterError;

/// The most bytes that are read of an envelope.
pub const MOST: u64 = 64 << 20;

/// An envelope as its file has it. Keys that it has beyond these say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// What the payload is, as a media type.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// The payload, in base64.
    pub payload: String,
    /// The signatures over type and payload.
    pub signatures: Vec<EnvelopeSignature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// The key's [id](PublicKey::id): a hint that nothing relies on.
    #[serde(default)]
    pub keyid: Option<String>,
    /// The signature, in base64.
    pub sig: String,
}

/// What is signed: the type and the payload, each after its length, so that neither passes for the other.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let header = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [header.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a payload.
    pub fn sign(payload_type: &str, payload: &[u8], key: &SecretKey) -> Self {
        let base64 = GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new());
        let signature = key.sign(&pre_authentication_encoding(payload_type, payload));
        Self {
            payload_type: payload_type.to_owned(),
            payload: base64.encode(payload),
            signatures: vec![EnvelopeSignature { keyid: Some(key.public().id()), sig: base64.encode(signature) }],
        }
    }

    /// The file's text.
    #[expect(clippy::missing_panics_doc, reason = "texts can be written as JSON")]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("an envelope is texts") + "\n"
    }

    /// Reads an envelope's file.
    ///
    /// # Errors
    /// [`AdapterError::Io`]; [`AdapterError::Signature`] when it is too large or no envelope.
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        serde_json::from_slice(&read_at_most(path, MOST)?)
            .map_err(|error| refuse(path, format!("is no DSSE envelope: {error}")))
    }

    /// The payload as it stands there, signed or not.
    ///
    /// # Errors
    /// [`AdapterError::Signature`] when the type is not the one expected, or it is no base64. `path` is for messages.
    pub fn payload(&self, path: &Path, payload_type: &str) -> Result<Vec<u8>, AdapterError> {
        if self.payload_type != payload_type {
            let got = self.payload_type.chars().take(100).collect::<String>();
            return Err(refuse(path, format!("holds a payload of type {got:?}, expected {payload_type:?}")));
        }
        decode(&self.payload).ok_or_else(|| refuse(path, "its payload is no base64".to_owned()))
    }

    /// The payload, once one of the signatures is the key's.
    ///
    /// # Errors
    /// [`AdapterError::Signature`] when none is, and as [`Self::payload`].
    pub fn verify(&self, path: &Path, payload_type: &str, key: &PublicKey) -> Result<Vec<u8>, AdapterError> {
        let payload = self.payload(path, payload_type)?;
        let signed = pre_authentication_encoding(payload_type, &payload);
        let is_of_key =
            |signature: &EnvelopeSignature| decode(&signature.sig).is_some_and(|s| key.verifies(&signed, &s));
        if self.signatures.iter().any(is_of_key) {
            return Ok(payload);
        }
        let own = key.id();
        let claims: Vec<&str> = self.signatures.iter().filter_map(|signature| signature.keyid.as_deref()).collect();
        Err(refuse(
            path,
            if self.signatures.is_empty() {
                "has no signature".to_owned()
            } else if claims.iter().any(|claim| *claim == own) {
                format!("says that the key {own} signed it, but the signature is not of this content: it was altered")
            } else {
                format!(
                    "has no signature of the key {own}, but of {}",
                    if claims.is_empty() { "a key that it does not name".to_owned() } else { claims.join(", ") }
                )
            },
        ))
    }
}

/// Base64 in either alphabet, as DSSE wants verifiers to read it, with its padding or without.
fn decode(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&STANDARD, &URL_SAFE].into_iter().find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

fn refuse(path: &Path, problem: String) -> AdapterError {
    AdapterError::Signature { path: path.into(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "application/vnd.in-toto+json";

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // protocol.md, "Test Vectors".
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(decode("aGVsbG8gd29ybGQ=").unwrap(), b"hello world");
        // Lengths are of bytes.
        assert_eq!(pre_authentication_encoding("é", b""), "DSSEv1 2 é 0 ".as_bytes());
        for text in ["-_-_", "+/+/"] {
            assert_eq!(decode(text).unwrap(), [0xfb, 0xff, 0xbf]);
        }
    }

    #[test]
    fn a_signature_is_of_one_key_one_type_and_one_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.dsse.json");
        let [key, other] = [(); 2].map(|()| SecretKey::generate().unwrap());
        let envelope = Envelope::sign(TYPE, b"{}", &key);
        std::fs::write(&path, envelope.to_json()).unwrap();
        let envelope = Envelope::read(&path).unwrap();
        let verify = |envelope: &Envelope, key: &SecretKey| envelope.verify(&path, TYPE, &key.public());
        assert_eq!(verify(&envelope, &key).unwrap(), b"{}");

        let told = |envelope: &Envelope, key: &SecretKey, expected: &str| {
            let error = verify(envelope, key).unwrap_err().to_string();
            assert!(error.contains("manifest.dsse.json: ") && error.contains(expected), "{expected}: {error}");
        };
        told(
            &envelope,
            &other,
            &format!("has no signature of the key {}, but of {}", other.public().id(), key.public().id()),
        );
        told(&Envelope { payload: "e30K".into(), ..envelope.clone() }, &key, "it was altered");
        told(&Envelope { payload: "%".into(), ..envelope.clone() }, &key, "its payload is no base64");
        told(&Envelope { signatures: Vec::new(), ..envelope.clone() }, &key, "has no signature");
        told(
            &Envelope { payload_type: "text/plain".into(), ..envelope.clone() },
            &key,
            "type \"text/plain\", expected",
        );
        // The same bytes under another type are another message.
        let elsewhere = Envelope { payload_type: TYPE.into(), ..Envelope::sign("text/plain", b"{}", &key) };
        told(&elsewhere, &key, "it was altered");
        // A hint that is wrong or missing changes nothing; a second signature neither.
        let mut more = envelope.clone();
        more.signatures[0].keyid = None;
        assert_eq!(verify(&more, &key).unwrap(), b"{}");
        told(&more, &other, "of a key that it does not name");
        more.signatures.insert(0, Envelope::sign(TYPE, b"{}", &other).signatures.remove(0));
        assert_eq!(verify(&more, &key).unwrap(), b"{}");
        assert_eq!(verify(&more, &other).unwrap(), b"{}");

        for text in ["{", "[]", "{\"payloadType\": 1}", &"[".repeat(10_000)] {
            std::fs::write(&path, text).unwrap();
            let error = Envelope::read(&path).unwrap_err().to_string();
            assert!(error.contains("is no DSSE envelope"), "{error}");
        }
    }
}

//! What we sign, checked by others: securesystemslib, which TUF and in-toto are built on, and OpenSSL.

use std::path::Path;
use std::process::{Command, Output};

use adapters::signing::dsse::pre_authentication_encoding;
use adapters::signing::{Envelope, PublicKey, SecretKey};
use serde_json::Value;
use trainer::trust::PAYLOAD_TYPE;

use super::variable;
use crate::support::{fixture, greffon, tiny_recipe};

/// Reads envelope and public key, and prints the payload if the signature is good.
const VERIFY: &str = "
import json, sys
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
envelope = Envelope.from_dict(json.load(open(sys.argv[1])))
keyid = list(envelope.signatures)[0]
key = SSlibKey.from_crypto(load_pem_public_key(open(sys.argv[2], 'rb').read()), keyid)
envelope.verify([key], 1)
sys.stdout.buffer.write(envelope.payload)
";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn securesystemslib(envelope: &Path, key: &Path) -> Output {
    Command::new(variable("GREFFON_PEER_PYTHON")).args(["-c", VERIFY, text(envelope), text(key)]).output().unwrap()
}

fn openssl(arguments: &[&str]) -> Output {
    Command::new("openssl").args(arguments).output().expect("openssl is installed")
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn securesystemslib_and_openssl_accept_what_is_signed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let export = at("adapter");
    assert!(greffon(&["import", text(&fixture("parity/adapter_final")), "--to", text(&export)]).status.success());
    assert!(greffon(&["keys", "new", "--to", text(&at("alice"))]).status.success());
    let (key, public) = (at("alice.key"), at("alice.pub"));
    let signed = greffon(&["sign", text(&export), "--key", text(&key)]);
    assert!(signed.status.success(), "{}", said(&signed));

    let path = export.join("manifest.dsse.json");
    let manifest = std::fs::read(export.join("manifest.json")).unwrap();
    let out = securesystemslib(&path, &public);
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(out.stdout, manifest, "the payload is the manifest, byte for byte");

    let envelope = Envelope::read(&path).unwrap();
    let flipped = |change: &dyn Fn(&mut Value)| {
        let mut value = serde_json::to_value(&envelope).unwrap();
        change(&mut value);
        let path = at("flipped.json");
        std::fs::write(&path, value.to_string()).unwrap();
        path
    };
    let flip = |text: &Value| {
        // Another letter in the middle of the base64: one byte, or two, of what it stands for.
        let mut letters: Vec<char> = text.as_str().unwrap().chars().collect();
        let middle = letters.len() / 2;
        letters[middle] = if letters[middle] == 'A' { 'B' } else { 'A' };
        Value::from(letters.into_iter().collect::<String>())
    };
    for (what, change) in [
        ("the payload", &(|e: &mut Value| e["payload"] = flip(&e["payload"])) as &dyn Fn(&mut Value)),
        ("the signature", &|e: &mut Value| e["signatures"][0]["sig"] = flip(&e["signatures"][0]["sig"])),
    ] {
        let out = securesystemslib(&flipped(change), &public);
        assert!(!out.status.success() && said(&out).contains("VerificationError"), "{what}: {}", said(&out));
    }

    // OpenSSL reads both keys, knows our id, and accepts the signature over the encoding.
    let der = at("alice.der");
    let out = openssl(&["pkey", "-in", text(&key), "-pubout", "-outform", "DER", "-out", text(&der)]);
    assert!(out.status.success(), "{}", said(&out));
    let id = datasets::sha256_files([&der]).unwrap();
    assert_eq!(
        (PublicKey::read(&public).unwrap().id(), SecretKey::read(&key).unwrap().public().id()),
        (id.clone(), id)
    );
    let signed = pre_authentication_encoding(PAYLOAD_TYPE, &manifest);
    std::fs::write(at("signed"), &signed).unwrap();
    let signature = Command::new(variable("GREFFON_PEER_PYTHON"))
        .args([
            "-c",
            "import base64, sys; sys.stdout.buffer.write(base64.b64decode(sys.argv[1]))",
            &envelope.signatures[0].sig,
        ])
        .output()
        .unwrap();
    assert_eq!(signature.stdout.len(), 64);
    std::fs::write(at("signature"), signature.stdout).unwrap();
    let verify = |file: &Path| {
        let [public, file, signature] = [&public, file, &at("signature")].map(|path| text(path).to_owned());
        openssl(&["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &public, "-in", &file, "-sigfile", &signature])
    };
    let out = verify(&at("signed"));
    assert!(out.status.success() && said(&out).contains("Signature Verified Successfully"), "{}", said(&out));
    let mut other = signed;
    let middle = other.len() / 2;
    other[middle] ^= 1;
    std::fs::write(at("other"), other).unwrap();
    assert!(!verify(&at("other")).status.success());

    // And a key that OpenSSL made signs here.
    let theirs = at("theirs.key");
    let out = openssl(&["genpkey", "-algorithm", "ed25519", "-out", text(&theirs)]);
    assert!(out.status.success(), "{}", said(&out));
    let out = openssl(&["pkey", "-in", text(&theirs), "-pubout", "-out", text(&at("theirs.pub"))]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(greffon(&["sign", text(&export), "--key", text(&theirs)]).status.success());
    assert!(greffon(&["verify", text(&export), "--signed-by", text(&at("theirs.pub"))]).status.success());
    assert!(securesystemslib(&path, &at("theirs.pub")).status.success());
}

#[test]
fn a_run_of_two_processes_is_made_again_by_two_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=4"]);
    let done = |arguments: &[&str]| {
        let out = greffon(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", said(&out));
        said(&out)
    };
    done(&["launch", "-n", "2", &recipe]);
    done(&["export", text(&at("run")), "--to", text(&at("adapter"))]);
    let (base, files, to) = (fixture("tiny-llama"), folder.path().to_owned(), at("again"));
    let adapter = at("adapter");
    let reproduce = ["reproduce", text(&adapter), "--base", text(&base), "--files", text(&files), "--to", text(&to)];
    let alone = greffon(&reproduce);
    assert_eq!(alone.status.code(), Some(3), "{}", said(&alone));
    assert!(said(&alone).contains("greffon launch -n 2 reproduce"), "{}", said(&alone));
    let told = done(&[&["launch", "-n", "2"], &reproduce[..]].concat());
    assert!(told.contains("adapter_model.safetensors: the same bytes"), "{told}");
}

//! Large files, by the batch interface of Git LFS: in one piece, or in the parts that the hub asks for.
//!
//! Source: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>; the parts are the hub's own extension.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{Body, Client, Method};
use super::{Candidate, text};
use crate::error::DataError;

/// The media type of the batch interface.
pub(super) const KIND: &str = "application/vnd.git-lfs+json";

/// What the hub wants for one object.
#[derive(Deserialize)]
struct Object {
    oid: String,
    /// Absent when the hub has the object.
    actions: Option<Actions>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    /// `chunk_size` in bytes, and the addresses of the parts by their number from 1, where it goes up in parts.
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

/// Sends the large files among the candidates that the hub does not have.
pub(super) fn upload(client: &Client<'_>, candidates: &[Candidate<'_>]) -> Result<(), DataError> {
    #[derive(Deserialize)]
    struct Batch {
        objects: Vec<Object>,
    }
    // Two files of one content are one object.
    let large: BTreeMap<&str, &Candidate<'_>> =
        candidates.iter().filter(|candidate| candidate.is_large).map(|large| (large.sha256.as_str(), large)).collect();
    if large.is_empty() {
        return Ok(());
    }
    let what = "the list of large files";
    let objects: Vec<Value> = large.values().map(|file| json!({ "oid": file.sha256, "size": file.size })).collect();
    let body = json!({
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": objects,
        "hash_algo": "sha256",
        "ref": { "name": client.branch() },
    });
    let url = client.url(&format!("/{}.git/info/lfs/objects/batch", client.repo()));
    let answer = client.send(what, Method::Post, &url, &Body::Text { kind: KIND, content: body.to_string() })?;
    let batch: Batch = client.json(what, answer)?;
    for (oid, candidate) in large {
        let name = &candidate.file.name;
        let Some(object) = batch.objects.iter().find(|object| object.oid == oid) else {
            return Err(client.error(what, format!("the answer does not say what to do with {name}")));
        };
        if let Some(error) = &object.error {
            let reason = text(error, "message").unwrap_or("no reason given");
            return Err(client.error(name, format!("the large file storage refuses it: {reason:?}")));
        }
        if let Some(actions) = &object.actions {
            send(client, candidate, actions)?;
        }
    }
    Ok(())
}

fn send(client: &Client<'_>, candidate: &Candidate<'_>, actions: &Actions) -> Result<(), DataError> {
    let name = &candidate.file.name;
    if let Some(upload) = &actions.upload {
        match upload.header.get("chunk_size") {
            None => {
                let body = Body::Part {
                    path: candidate.file.path.clone(),
                    offset: 0,
                    length: candidate.size,
                    total: candidate.size,
                };
                client.accept(name, client.send(name, Method::Put, &upload.href, &body)?)?;
            }
            Some(size) => send_parts(client, candidate, upload, size)?,
        }
    }
    if let Some(verify) = &actions.verify {
        let body = Body::json(&json!({ "oid": candidate.sha256, "size": candidate.size }));
        client.accept(name, client.send(name, Method::Post, &verify.href, &body)?)?;
    }
    Ok(())
}

/// Sends a file in parts, and tells the hub the names that the storage gave them.
fn send_parts(
    client: &Client<'_>,
    candidate: &Candidate<'_>,
    upload: &Action,
    chunk_size: &Value,
) -> Result<(), DataError> {
    let name = &candidate.file.name;
    // The hub writes the number as a text.
    let size = chunk_size.as_u64().or_else(|| chunk_size.as_str()?.parse().ok()).filter(|size| *size > 0);
    let addresses: BTreeMap<u64, &str> =
        upload.header.iter().filter_map(|(number, url)| Some((number.parse().ok()?, url.as_str()?))).collect();
    let Some(size) = size.filter(|size| candidate.size.div_ceil(*size) == addresses.len() as u64) else {
        let message = format!(
            "the answer asks for parts of {chunk_size} bytes and has {} addresses for {} bytes",
            addresses.len(),
            candidate.size
        );
        return Err(client.error(name, message));
    };
    let mut parts = Vec::new();
    for (index, (number, url)) in addresses.into_iter().enumerate() {
        let offset = index as u64 * size;
        let length = size.min(candidate.size - offset);
        let body = Body::Part { path: candidate.file.path.clone(), offset, length, total: candidate.size };
        let answer = client.accept(name, client.send(name, Method::Put, url, &body)?)?;
        let Some(etag) = answer.header("etag").filter(|etag| !etag.is_empty()) else {
            return Err(client.error(name, format!("the storage gave part {number} no etag")));
        };
        parts.push(json!({ "partNumber": number, "etag": etag }));
    }
    let body = json!({ "oid": candidate.sha256, "parts": parts });
    let body = Body::Text { kind: KIND, content: body.to_string() };
    client.accept(name, client.send(name, Method::Post, &upload.href, &body)?).map(drop)
}

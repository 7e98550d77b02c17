//! Development.
#![allow(clippy::print_stdout, reason = "dev")]
use std::io::BufRead;
fn main() {
    let s = datasets::screen::Screener::default();
    for l in std::io::stdin().lock().lines() {
        let v: serde_json::Value = serde_json::from_str(&l.unwrap()).unwrap();
        let t = v["text"].as_str().unwrap();
        let f: Vec<_> = s.find(t).iter().map(|f| serde_json::json!({"kind": f.kind.name(), "start": t[..f.range.start].chars().count(), "end": t[..f.range.end].chars().count()})).collect();
        println!("{}", serde_json::json!({"id": v["id"], "found": f}));
    }
}

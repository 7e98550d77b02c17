//! The JSON Schema of recipes, for editors; also the source of hints and of the comments that `greffon init` writes.

use std::sync::LazyLock;

use datasets::synth::config::SynthConfig;
use serde_json::Value;

use super::Recipe;
use super::key_path::Segment;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = schemars::schema_for!(Recipe).to_value();
    tidy(&mut schema);
    schema["title"] = "Greffon recipe".into();
    schema
});

/// The JSON Schema of the recipes of sets of samples, `recipes/synth-schema.json`.
pub fn synth_schema() -> Value {
    let mut schema = schemars::schema_for!(SynthConfig).to_value();
    tidy(&mut schema);
    schema["title"] = "Greffon recipe of a set of samples".into();
    schema
}

/// The JSON Schema of recipes. `recipes/schema.json` is this, and recipes name it in their first line.
pub fn schema() -> Value {
    SCHEMA.clone()
}

/// Makes paragraphs of wrapped comments, and takes out the formats that are Rust's own (`uint64`, `double`).
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                let paragraphs: Vec<_> = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The top of the schema.
pub(super) fn root() -> &'static Value {
    &SCHEMA
}

/// What a `$ref` points to, directly or as the type beside null.
pub(super) fn target(node: &'static Value) -> &'static Value {
    let reference = node["$ref"].as_str().or_else(|| node["anyOf"].as_array()?.iter().find_map(|n| n["$ref"].as_str()));
    reference.and_then(|path| SCHEMA.pointer(path.strip_prefix('#')?)).unwrap_or(node)
}

/// The words that a node takes, where it takes words only.
pub(super) fn words(node: &Value) -> Vec<&str> {
    let listed = node["enum"].as_array().into_iter().flatten();
    let described = node["oneOf"].as_array().into_iter().flatten().map(|word| &word["const"]);
    listed.chain(described).filter_map(Value::as_str).collect()
}

/// The paths of the sections that have a key of this name; the top level is the empty path.
pub(super) fn sections_with(key: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    if SCHEMA["properties"].get(key).is_some() {
        found.push("");
    }
    let sections = SCHEMA["properties"].as_object().into_iter().flatten();
    found.extend(
        sections.filter(|(_, node)| target(node)["properties"].get(key).is_some()).map(|(name, _)| name.as_str()),
    );
    found
}

/// What a key of a section is for, in a sentence.
pub(super) fn describe(section: &[Segment], key: &str) -> Option<String> {
    let node = section.iter().fold(root(), |node, segment| match segment {
        Segment::Key(name) => &target(node)["properties"][name],
        Segment::Index(_) => &target(node)["items"],
    });
    summary(&target(node)["properties"][key], 0)
}

/// The first sentences of the description of a schema's node, as many as stand in `width` characters; at least one.
pub(super) fn summary(node: &Value, width: usize) -> Option<String> {
    let text = node["description"].as_str()?.split("\n\n").next()?;
    let ends: Vec<usize> = text.match_indices(". ").map(|(at, _)| at + 1).chain([text.len()]).collect();
    let end = ends.iter().rev().find(|end| **end <= width).or(ends.first())?;
    Some(text[..*end].to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_committed_schema_is_current() {
        for (name, schema) in [("schema.json", schema()), ("synth-schema.json", synth_schema())] {
            is_current(name, &schema);
        }
    }

    fn is_current(name: &str, schema: &Value) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes").join(name);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let current = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
        let of = if name == "schema.json" { "" } else { " synth" };
        assert!(
            committed == current,
            "recipes/{name} is not what the code says; renew it with: greffon schema{of} > recipes/{name}"
        );
    }

    #[test]
    fn every_section_refuses_unknown_keys_and_every_key_is_described() {
        let mut sections = vec![("Recipe", root())];
        sections.extend(root()["$defs"].as_object().unwrap().iter().map(|(name, node)| (name.as_str(), node)));
        let mut keys = 0;
        for (name, section) in sections {
            let Some(properties) = section["properties"].as_object() else {
                continue;
            };
            assert_eq!(section["additionalProperties"], false, "{name}");
            for (key, node) in properties {
                assert!(node["description"].is_string(), "{name}.{key}");
                assert!(!node["description"].as_str().unwrap().contains('\n'), "{name}.{key}");
                keys += 1;
            }
        }
        assert!(keys > 40, "{keys}");
    }

    #[test]
    fn defaults_and_required_keys_are_in_the_schema() {
        assert_eq!(root()["required"], serde_json::json!(["model", "data"]));
        assert_eq!(root()["$defs"]["TrainConfig"]["properties"]["learning_rate"]["default"], 2e-4);
        assert_eq!(root()["properties"]["device"]["default"], "flex");
        assert_eq!(root()["properties"]["output"].get("default"), None);
        assert_eq!(root()["title"], "Greffon recipe");
    }
}

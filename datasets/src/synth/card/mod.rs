//! The descriptions of a set: a data card as the hub shows it, and Croissant's metadata for search engines and loaders.
//!
//! Sources: Gebru et al. 2021, <https://arxiv.org/abs/1803.09010> (what a card says); Croissant 1.0,
//! <https://docs.mlcommons.org/croissant/docs/croissant-spec.html>.

use std::collections::BTreeMap;

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::run::{Report, SAMPLES};
use super::sample::Sample;
use crate::digest::hex;
use crate::stats::LengthStats;

/// Samples shown.
const EXAMPLES: usize = 3;

/// The card, in Markdown with the hub's metadata in front.
#[expect(clippy::missing_panics_doc, reason = "the program's own template, which its tests render")]
pub fn card(name: &str, report: &Report, samples: &[Sample]) -> String {
    let mut environment = Environment::new();
    environment
        .add_filter("cell", |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"));
    environment.add_filter("cut", |text: String, longest: usize| match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    });
    environment.add_filter("yaml", |text: String| serde_json::Value::from(text).to_string());
    environment.add_filter("percent", |share: f64| format!("{:.1} %", 100.0 * share));
    environment.add_template("card", include_str!("card.md.jinja")).expect("the program's own template");
    let words = |text: &str| text.split_whitespace().count();
    let lengths = |of: &dyn Fn(&Sample) -> usize| LengthStats::new(samples.iter().map(|sample| (of(sample), 0)));
    let mut prompts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut documents: BTreeMap<&str, usize> = BTreeMap::new();
    for Sample { provenance, grounding, .. } in samples {
        *prompts.entry((&provenance.method, &provenance.prompt)).or_default() += 1;
        if let Some(grounding) = grounding {
            *documents.entry(&grounding.document).or_default() += 1;
        }
    }
    let prompts: Vec<Value> = prompts
        .iter()
        .map(|((method, prompt), count)| context! { method => *method, prompt => *prompt, count })
        .collect();
    let step = (samples.len() / EXAMPLES).max(1);
    let examples: Vec<&Sample> = samples.iter().step_by(step).take(EXAMPLES).collect();
    let sizes = [("n<1K", 1000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000)];
    let size = sizes.iter().find(|(_, below)| samples.len() < *below).map_or("n>1M", |(size, _)| size);
    let values = context! {
        name,
        report => Serde(report),
        made => report.made.values().sum::<usize>(),
        prompts,
        documents => documents.len(),
        unanswered => samples.iter().filter(|sample| sample.grounding.as_ref().is_some_and(|g| g.answer.is_none())).count(),
        questions => Serde(lengths(&|sample| words(sample.question()))),
        answers => Serde(lengths(&|sample| words(sample.answer()))),
        examples => Serde(examples),
        size,
    };
    environment.get_template("card").and_then(|card| card.render(values)).expect("every value is given")
}

/// A field of the samples: its name, the column that has it, where in the column, and what it is.
type Field = (&'static str, &'static str, Option<&'static str>, &'static str);

/// What every sample has.
const FIELDS: [Field; 5] = [
    ("id", "id", None, "The first 16 digits of the SHA-256 of the messages."),
    ("roles", "messages", Some("$[*].role"), "Who says each message: system, user or assistant."),
    ("contents", "messages", Some("$[*].content"), "What each message says."),
    ("method", "provenance", Some("$.method"), "How the sample was made."),
    ("prompt", "provenance", Some("$.prompt"), "The prompt or layout that it was made with, and its version."),
];
/// What samples have that rest on a passage.
const GROUNDING: [Field; 4] = [
    ("document", "grounding", Some("$.document"), "The document that the sample rests on."),
    ("document_sha256", "grounding", Some("$.document_sha256"), "SHA-256 of the document's text."),
    ("context", "grounding", Some("$.context"), "The passage."),
    ("question", "grounding", Some("$.question"), "The question about the passage."),
];

/// The metadata of the set whose file of samples is `lines`. Fields that only some samples have are left out: loaders stop
/// at the first that lacks one.
pub fn croissant(name: &str, report: &Report, samples: &[Sample], lines: &str) -> serde_json::Value {
    let field = |(name, column, path, description): &Field| {
        let mut source = json!({"fileObject": {"@id": SAMPLES}, "extract": {"column": column}});
        if let Some(path) = path {
            source["transform"] = json!({"jsonPath": path});
        }
        json!({
            "@type": "cr:Field",
            "@id": format!("samples/{name}"),
            "name": name,
            "description": description,
            "dataType": "sc:Text",
            "repeated": *column == "messages",
            "source": source,
        })
    };
    let mut fields: Vec<serde_json::Value> = FIELDS.iter().map(field).collect();
    if samples.iter().all(|sample| sample.grounding.is_some()) {
        fields.extend(GROUNDING.iter().map(field));
    }
    let licences: Vec<&String> = report.licences.keys().collect();
    json!({
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "citeAs": "cr:citeAs",
            "column": "cr:column",
            "conformsTo": "dct:conformsTo",
            "cr": "http://mlcommons.org/croissant/",
            "data": {"@id": "cr:data", "@type": "@json"},
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "dct": "http://purl.org/dc/terms/",
            "equivalentProperty": "cr:equivalentProperty",
            "examples": {"@id": "cr:examples", "@type": "@json"},
            "extract": "cr:extract",
            "field": "cr:field",
            "fileObject": "cr:fileObject",
            "fileProperty": "cr:fileProperty",
            "fileSet": "cr:fileSet",
            "format": "cr:format",
            "includes": "cr:includes",
            "isLiveDataset": "cr:isLiveDataset",
            "jsonPath": "cr:jsonPath",
            "key": "cr:key",
            "md5": "cr:md5",
            "parentField": "cr:parentField",
            "path": "cr:path",
            "rai": "http://mlcommons.org/croissant/RAI/",
            "recordSet": "cr:recordSet",
            "references": "cr:references",
            "regex": "cr:regex",
            "repeated": "cr:repeated",
            "replace": "cr:replace",
            "samplingRate": "cr:samplingRate",
            "sc": "https://schema.org/",
            "separator": "cr:separator",
            "source": "cr:source",
            "subField": "cr:subField",
            "transform": "cr:transform"
        },
        "@type": "sc:Dataset",
        "name": name,
        "description": format!("{} conversations made by a program from documents, seeds or templates.", report.samples),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "datePublished": jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().to_string(),
        "version": "1.0.0",
        "license": licences,
        "inLanguage": report.languages.keys().filter(|lang| *lang != "unknown").collect::<Vec<_>>(),
        "rai:dataCollection": format!("synthetic: {}", report.methods.keys().cloned().collect::<Vec<_>>().join(", ")),
        "distribution": [{
            "@type": "cr:FileObject",
            "@id": SAMPLES,
            "name": SAMPLES,
            "contentUrl": SAMPLES,
            "contentSize": format!("{} B", lines.len()),
            "encodingFormat": "application/jsonlines",
            "sha256": hex(&Sha256::digest(lines)),
        }],
        "recordSet": [{
            "@type": "cr:RecordSet",
            "@id": "samples",
            "name": "samples",
            "key": {"@id": "samples/id"},
            "field": fields,
        }],
    })
}

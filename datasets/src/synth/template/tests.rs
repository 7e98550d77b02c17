//! Documents from schemas written here, and from the recipe for insurance statements.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::config::{Mode, NoiseConfig, TemplateConfig};
use super::make;
use super::marks::{map_inner, marked, unmarked, width};
use crate::conversation::Role;
use crate::screen::{Kind, Screener};
use crate::synth::sample::{Grounding, Sample};

const SCHEMA: &str = r#"
name: parcel
lang: fr
system: Réponds.
prompt: "{context}\n\n{question}"
absent: rien
layouts: [note.jinja]
fields:
  total: {kind: derived, expression: "items | map(attribute='weight') | sum", type: whole}
  sender: {kind: person}
  account: {kind: identifier, of: iban, forms: ["FR76 3000 1007 9412 3456 7890 185"]}
  reference: {kind: pattern, patterns: ['\P\-##-??']}
  sent: {kind: date, from: "2020-01-01", to: "2020-12-31"}
  due: {kind: date, from: "add_days(sent, 2)", to: "add_months(sent, 1)"}
  price: {kind: number, min: 1, max: 9.5, decimals: 2}
  items:
    kind: list
    min: 0
    max: 3
    sort: weight
    fields:
      weight: {kind: whole, min: 1, max: 40}
      label: {kind: choice, values: [été, livre]}
questions:
  - {id: reference, field: reference, ask: [référence ?, quelle référence ?]}
  - {id: due, field: due, ask: [quand ?]}
  - {id: price, field: price, ask: [combien ?]}
  - {id: total, field: total, derived_from: items, ask: [quel poids ?]}
  - {id: heaviest, field: "items[-1].label", ask: [quoi ?]}
"#;

const LAYOUT: &str = r#"Colis de {{ sender | name("{FAMILY} {Given}") }}, compte {{ account }}
{{- reference | within("\nn° {}") | upper }}
{{- due | date("long") | within("\navant le {}") }}
{{- price | number(",") | within("\nprix {} euros, {}") }}
{% if items is not none %}
{% for item in items %}
{{ item.label | ljust(10) }}{{ item.weight }}
{% else %}
{{ "vide" | tells("items") }}
{% endfor %}
{% endif %}"#;

/// A schema and its layout in a folder of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new(schema: &str, layout: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("schema.yaml"), schema).unwrap();
        fs::write(folder.path().join("note.jinja"), layout).unwrap();
        Self(folder)
    }

    fn config(&self, documents: usize, noise: f64) -> TemplateConfig {
        config(self.0.path().join("schema.yaml"), documents, 5, noise)
    }
}

fn config(schema: PathBuf, documents: usize, questions_per_document: usize, noise: f64) -> TemplateConfig {
    let noise = NoiseConfig { share: noise, ..NoiseConfig::default() };
    TemplateConfig { schema, documents, questions_per_document, omit: 0.2, noise }
}

/// The error of a schema or a layout that differ from the sound ones, without the folder.
fn refused(schema: &str, layout: &str) -> String {
    let files = Files::new(schema, layout);
    let error = make(&files.config(3, 0.0), 1).unwrap_err().to_string();
    error.replace(&format!("{}/", files.0.path().display()), "")
}

fn answer(sample: &Sample) -> &str {
    let last = sample.messages.last().unwrap();
    assert_eq!(last.role, Role::Assistant);
    &last.content
}

/// Every answer stands where it is said to, or is one that needs no place.
fn check(samples: &[Sample], absent: &str, derived: impl Fn(&str) -> bool) {
    for sample in samples {
        let grounding = sample.grounding.as_ref().unwrap();
        assert!(sample.messages[1].content.contains(&grounding.context));
        match &grounding.answer {
            Some(span) => {
                let tail: String = grounding.context.chars().skip(span.answer_start).collect();
                assert!(!span.text.is_empty() && tail.starts_with(&span.text), "{span:?} in {}", grounding.context);
                assert_eq!(answer(sample), span.text);
            }
            None => assert!(answer(sample) == absent || derived(answer(sample)), "{:?}", answer(sample)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn answers_are_spans_of_their_document_whatever_the_seed_and_the_noise(
        seed: u64, noise in 0.0..=1.0_f64, rate in 0.0..=1.0_f64, values: bool,
    ) {
        let files = Files::new(SCHEMA, LAYOUT);
        let mut config = files.config(4, noise);
        let mode = Mode { share: 0.7, rate, values };
        let (accents, upper_case, confusions) = (mode, mode, mode);
        config.noise = NoiseConfig { share: noise, accents, upper_case, confusions, spaces: mode, line_breaks: mode };
        let samples = make(&config, seed).unwrap();
        prop_assert_eq!(samples.len(), 20);
        check(&samples, "rien", |answer| answer.parse::<u32>().is_ok());
    }

    #[test]
    fn marks_go_out_as_they_went_in(name in "[a-z][a-z_]{0,8}(\\[[0-9]\\])?", text in "[^\\p{Co}]{0,20}") {
        let inner = marked("outer", &format!("a{}b", marked(&name, &text)));
        prop_assert_eq!(width(&inner), text.chars().count() + 2);
        let (plain, printed) = unmarked(&inner.to_uppercase()).unwrap();
        prop_assert_eq!(&plain, &format!("A{}B", text.to_uppercase()));
        let own = printed.iter().find(|printed| printed.field == name).unwrap();
        let upper = text.to_uppercase();
        prop_assert_eq!(&plain[own.range.clone()], upper.trim());
        let mapped = map_inner(&marked(&name, &text), |text| Ok::<_, ()>(format!("<{text}>"))).unwrap();
        prop_assert_eq!(unmarked(&mapped).unwrap().0, format!("<{text}>"));
    }
}

#[test]
fn a_document_follows_from_seed_and_number_alone() {
    let files = Files::new(SCHEMA, LAYOUT);
    let many = make(&files.config(6, 0.5), 3).unwrap();
    let few = make(&files.config(2, 0.5), 3).unwrap();
    assert_eq!(many[..10], few[..]);
    assert_ne!(make(&files.config(2, 0.5), 4).unwrap(), few);
    // A field more does not change what the others are.
    let more = SCHEMA.replacen("fields:\n", "fields:\n  extra: {kind: whole, min: 0, max: 9}\n", 1);
    assert_eq!(make(&Files::new(&more, LAYOUT).config(2, 0.5), 3).unwrap(), few);
    let provenance = &few[0].provenance;
    assert_eq!((provenance.method.as_str(), provenance.teacher.as_ref(), provenance.seed), ("template", None, 3));
    assert!(provenance.prompt.starts_with("note@") && provenance.prompt.len() == 13);
    assert_eq!(few[5].grounding.as_ref().unwrap().document, "parcel-000001");
}

#[test]
fn values_keep_their_form_and_their_order() {
    let files = Files::new(SCHEMA, LAYOUT);
    let mut config = files.config(200, 0.0);
    config.omit = 0.0;
    let samples = make(&config, 5).unwrap();
    let screener = Screener::new(&[Kind::Iban]);
    for document in samples.chunks(5) {
        let text = &document[0].grounding.as_ref().unwrap().context;
        assert_eq!(screener.find(text).len(), 1, "the account has its check digits: {text}");
        let by_question: BTreeMap<&str, &str> =
            document.iter().map(|sample| (&*sample.grounding.as_ref().unwrap().question, answer(sample))).collect();
        let weights: Vec<u32> = text
            .lines()
            .filter(|line| line.starts_with("été ") || line.starts_with("livre "))
            .map(|line| line[line.len() - 2..].trim().parse().unwrap())
            .collect();
        assert!(weights.is_sorted());
        assert_eq!(by_question["quel poids ?"], weights.iter().sum::<u32>().to_string(), "{text}");
        let heaviest = by_question["quoi ?"];
        assert_eq!(heaviest == "rien", weights.is_empty());
        assert!(weights.is_empty() || text.lines().last().unwrap().starts_with(heaviest));
        assert!(by_question["combien ?"].split_once(',').is_some_and(|(_, cents)| cents.len() == 2));
        assert!(text.contains(&format!("avant le {}", by_question["quand ?"])));
    }
}

#[test]
fn what_is_left_out_is_absent_and_its_words_are_too() {
    let files = Files::new(SCHEMA, LAYOUT);
    let mut config = files.config(50, 0.0);
    config.omit = 0.999;
    let samples = make(&config, 5).unwrap();
    let absent = samples.iter().filter(|sample| answer(sample) == "rien").count();
    assert!(absent > 240, "{absent} of 250");
    assert!(samples.iter().filter(|sample| answer(sample) == "rien").all(|sample| {
        let grounding = sample.grounding.as_ref().unwrap();
        grounding.answer.is_none() && (grounding.question != "combien ?" || !grounding.context.contains("prix"))
    }));
}

#[test]
fn a_wrong_schema_is_refused_with_its_key() {
    for (from, to, expected) in [
        ("kind: person", "kind: persons", "schema.yaml: fields.sender: unknown variant `persons`, expected one of"),
        ("kind: person}", "kind: person, age: 3}", "schema.yaml: fields.sender: unknown field `age`"),
        ("{kind: person}", "x", "schema.yaml: fields.sender: got \"x\", expected a section with the key kind"),
        ("min: 1, max: 9.5", "min: 9.6, max: 9.5", "schema.yaml: fields.price: min is above max, expected it below"),
        ("min: 1, max: 9.5", "min: due, max: 9.5", "schema.yaml: fields.price: got the bound 2020-"),
        ("decimals: 2", "decimals: 12", "schema.yaml: fields.price.decimals: got 12, expected 0 to 9"),
        ("\"2020-12-31\"", "\"2019-12-31\"", "schema.yaml: fields.sent: from 2020-01-01 is after to 2019-12-31"),
        ("\"2020-12-31\"", "\"2020-13-31\"", "schema.yaml: fields.sent.to: got \"2020-13-31\", expected a day"),
        (
            "add_days(sent, 2)",
            "add_days(snt, 2)",
            "schema.yaml: fields.due: uses \"snt\", which is no field, did you mean \"sent\"?",
        ),
        ("add_days(sent, 2)", "add_days(sent, )(", "schema.yaml: fields.due.from: "),
        (
            "from: \"2020-01-01\"",
            "from: due",
            "schema.yaml: fields.sent: is drawn from itself: sent from due from sent",
        ),
        ("values: [été, livre]", "values: []", "schema.yaml: fields.items.fields.label: expected either values"),
        (
            "values: [été, livre]",
            "values: [a], weights: [0]",
            "schema.yaml: fields.items.fields.label.weights: got [0.0]",
        ),
        (
            "patterns: ['\\P\\-##-??']",
            "patterns: []",
            "schema.yaml: fields.reference.patterns: got [], expected at least",
        ),
        (
            "sort: weight",
            "sort: wight",
            "schema.yaml: fields.items.sort: got \"wight\", expected a field of the list, did you",
        ),
        (
            "{kind: person}",
            "{kind: person, probability: 2}",
            "schema.yaml: fields.sender.probability: got 2, expected a share",
        ),
        (
            "field: price",
            "field: prize",
            "schema.yaml: questions[2].field: got \"prize\", but there is no field \"prize\", did",
        ),
        ("items[-1].label", "items.label", "schema.yaml: questions[4].field: got \"items.label\", but items is a list"),
        ("ask: [quand ?]", "ask: []", "schema.yaml: questions[1].ask: got [], expected at least one text"),
        ("id: due", "id: reference", "schema.yaml: questions[1].id: got \"reference\" again"),
        ("derived_from: items", "derived_from: item", "schema.yaml: questions[3].derived_from: got \"item\""),
        ("absent: rien", "absent: ''", "schema.yaml: absent: is empty, expected a text"),
        ("{context}", "{text}", "schema.yaml: prompt: got "),
        ("lang: fr", "langue: fr", "schema.yaml: the schema: unknown field `langue`"),
        ("lang: fr", "lang: fr\nname: b", "schema.yaml: line 4, column 1: the key \"name\" stands twice; remove one"),
        ("name: parcel", "name: &a [*a]", "schema.yaml: line "),
        ("absent: rien", r#"absent: "\uE000""#, "schema.yaml: the schema: holds a private-use character"),
        ("name: parcel", "name: [", "schema.yaml: line "),
        ("type: whole}", "type: date}", "schema.yaml: fields.total: got "),
        ("  reference:", "  Reference:", "schema.yaml: fields.Reference: is no name of a field"),
    ] {
        assert!(SCHEMA.contains(from), "{from}");
        let error = refused(&SCHEMA.replacen(from, to, 1), LAYOUT);
        assert!(error.starts_with(expected) && !error.contains('\n'), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_wrong_layout_is_refused_with_its_line() {
    for (layout, expected) in [
        ("a\n{{ sendr }}", "note.jinja:2: uses \"sendr\", which is no field of the schema, did you mean \"sender\"?"),
        ("a\n\n{{ sender ", "note.jinja:3: syntax error: "),
        ("{{ sender | date('long') }}", "note.jinja:1: invalid operation: date: got "),
        ("a\n{{ price }}", "note.jinja:2: invalid operation: a value is printed that the document does not have"),
        ("{{ price is none }}", "note.jinja:1: invalid operation: true or false is printed"),
        ("{{ 'x' | tells('prize') }}", "note.jinja:1: tells of \"prize\", which is no field of the schema"),
        ("{{ sender | list | first }}", "note.jinja:1: a filter cut a value apart; print it whole"),
        ("{% if false %}x{% endif %}", "note.jinja:1: prints nothing, expected a text"),
        ("a\n{{ pick() }}", "note.jinja:2: invalid operation: pick() has nothing to pick from"),
        ("a\u{e001}b", "note.jinja:1: holds a private-use character"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "note.jinja:1: engine ran out of fuel",
        ),
    ] {
        let error = refused(SCHEMA, layout);
        assert!(error.starts_with(expected) && !error.contains('\n'), "{layout}: {error}");
    }
    let error = refused(&SCHEMA.replace("[note.jinja]", "[]"), LAYOUT);
    assert!(error.starts_with("schema.yaml: layouts: names no layout"), "{error}");
}

#[test]
fn a_value_out_of_range_is_refused() {
    let files = Files::new(SCHEMA, LAYOUT);
    let sound = files.config(1, 0.0);
    for (config, expected) in [
        (TemplateConfig { documents: 0, ..sound.clone() }, "template.documents: got 0, expected at least 1"),
        (
            TemplateConfig { questions_per_document: 6, ..sound.clone() },
            "template.questions_per_document: got 6, expected at most 5",
        ),
        (TemplateConfig { omit: 1.0, ..sound.clone() }, "template.omit: got 1, expected a share from 0 to below 1"),
        (files.config(1, f64::NAN), "template.noise.share: got NaN, expected a share from 0 to 1"),
    ] {
        let error = make(&config, 0).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

fn statements(documents: usize, noise: f64) -> Vec<Sample> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/releve-information/schema.yaml");
    make(&config(schema, documents, 13, noise), 11).unwrap()
}

#[test]
fn statements_are_sound_in_every_layout() {
    let samples = statements(150, 0.3);
    check(&samples, "Information absente du document", |answer| answer.parse::<u32>().is_ok_and(|count| count <= 4));
    let layouts: BTreeSet<&str> = samples.iter().map(|sample| sample.provenance.prompt.as_str()).collect();
    assert!(layouts.len() >= 10, "{layouts:?}");
    let phrasings: BTreeSet<&str> =
        samples.iter().map(|sample| sample.grounding.as_ref().unwrap().question.as_str()).collect();
    assert!(phrasings.len() >= 13 * 5, "{}", phrasings.len());
    let spans = samples.iter().filter(|sample| sample.grounding.as_ref().unwrap().answer.is_some()).count();
    assert!(10 * spans > 7 * samples.len(), "{spans} of {}", samples.len());
}

#[test]
fn no_value_touches_another_word() {
    for sample in statements(400, 0.0) {
        let Grounding { context, answer: Some(span), .. } = sample.grounding.unwrap() else { continue };
        let letters: Vec<char> = context.chars().collect();
        let end = span.answer_start + span.text.chars().count();
        let before = span.answer_start.checked_sub(1).map(|at| letters[at]);
        let around = [before, letters.get(end).copied()];
        assert!(!around.into_iter().flatten().any(char::is_alphanumeric), "{span:?} in {context}");
    }
}

/// What a reader of French law computes by hand, for the values that the schema is given here.
#[test]
fn the_coefficient_follows_from_the_claims() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/releve-information");
    let text = fs::read_to_string(folder.join("schema.yaml")).unwrap();
    let start = text.find("  crm:\n").unwrap();
    let rule = &text[start..start + text[start..].find("\nquestions:").unwrap()];
    for (first, until, claims, expected) in [
        (100, "2018-06-30", "[]", "0.80"),
        (100, "2015-01-30", "[]", "1.00"),
        (50, "2017-06-30", "[]", "0.50"),
        // 1.25, 1.18, then at most 1.00 after two years without a claim.
        (100, "2016-06-30", "[{date: 2014-03-01, share: 100}]", "1.18"),
        (100, "2017-06-30", "[{date: 2014-03-01, share: 100}]", "1.00"),
        (100, "2015-06-01", "[{date: 2014-03-01, share: 50}, {date: 2014-09-09, share: 0}]", "1.12"),
        (100, "2015-06-01", "[{date: 2014-02-01, share: 100}, {date: 2014-03-01, share: 50}]", "1.40"),
        // After three years at 0.50 the first claim is free.
        (50, "2017-06-30", "[{date: 2016-03-01, share: 100}]", "0.62"),
        (50, "2018-06-30", "[{date: 2017-03-01, share: 100}]", "0.50"),
    ] {
        let day = |day: &str| format!("{{kind: date, from: \"{day}\", to: \"{day}\"}}");
        let (subscribed, until) = (day("2014-01-31"), day(until));
        let fields = format!(
            "  subscribed: {subscribed}\n  until: {until}\n  start: {{kind: whole, min: {first}, max: {first}}}\n{rule}\n"
        );
        let given = claims.replace("date: ", "\"date\": \"").replace(", share: ", "\", \"share\": ");
        let fields = fields.replace("for claim in claims", &format!("for claim in {given}"));
        let schema = format!(
            "name: a\nlang: fr\nprompt: \"{{context}} {{question}}\"\nabsent: rien\nlayouts: [note.jinja]\nfields:\n{fields}\
             questions:\n  - {{id: crm, field: crm, ask: [crm ?]}}\n"
        );
        let files = Files::new(&schema, "CRM {{ crm | within('{}') }}");
        let mut config = files.config(1, 0.0);
        (config.questions_per_document, config.omit) = (1, 0.0);
        let samples = make(&config, 0).unwrap();
        assert_eq!(answer(&samples[0]), expected, "{first} {until} {claims}");
    }
}

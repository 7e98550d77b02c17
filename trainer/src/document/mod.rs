//! Drafts of what people write about a run: its data card, and the technical documentation of the European AI Act.
//!
//! Texts are templates; facts are those of the manifest ([`crate::trust::facts`]). What only a person knows is marked, and
//! listed at the end of the draft. Nothing here says that a law is met.
//!
//! Source of the headings: Regulation (EU) 2024/1689, annexes IV and XI.

use std::fmt::Write as _;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;

use crate::error::TrainError;
use crate::language::Language;
use crate::prove::{ForgettingNote, Manifest};
use crate::provenance::{Data, Place};
use crate::recipe::Recipe;
use crate::track::RunFolder;
use crate::trust::facts::{BaseFacts, RunFacts};

/// The name of the data card's file.
pub const DATA_CARD: &str = "data-card.md";

/// What the texts are made of.
#[derive(Debug, Serialize)]
pub struct Known {
    base: BaseFacts,
    run: RunFacts,
    data: Option<Data>,
    forgetting: Option<ForgettingNote>,
    date: String,
}

/// A draft: the name of its file, and its template in each language.
struct Draft {
    file: &'static str,
    english: &'static str,
    french: &'static str,
}

const DRAFTS: [Draft; 2] = [
    Draft {
        file: "annex-iv.md",
        english: include_str!("annex-iv.en.md.jinja"),
        french: include_str!("annex-iv.fr.md.jinja"),
    },
    Draft {
        file: "annex-xi.md",
        english: include_str!("annex-xi.en.md.jinja"),
        french: include_str!("annex-xi.fr.md.jinja"),
    },
];

impl Language {
    /// How a blank begins that a person has to fill.
    fn mark(self) -> &'static str {
        match self {
            Self::En => "[to be filled: ",
            Self::Fr => "[à compléter : ",
        }
    }

    fn heading_of_blanks(self) -> &'static str {
        match self {
            Self::En => "What is left open",
            Self::Fr => "Ce qui reste à compléter",
        }
    }
}

impl Known {
    /// What a run folder knows.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn of_run(run: &RunFolder) -> Result<Self, TrainError> {
        let (info, recipe) = (run.info()?, Recipe::load(&run.recipe(), &[])?.recipe);
        let forgetting = Manifest::read_file(&run.adapter().join(Manifest::NAME))?.forgetting;
        Ok(Self {
            base: BaseFacts::of_run(&recipe, &info),
            run: RunFacts::new(run, info, recipe)?,
            data: Place::of_run(run.path()).data()?.map(Data::without_folders),
            forgetting,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        })
    }

    /// The card of the data that the run learned from, in Markdown; none where nobody recorded it.
    ///
    /// # Errors
    /// When the run's evaluation is not of the form that `greffon eval` writes.
    pub fn data_card(&self) -> Result<Option<String>, TrainError> {
        let card = || self.render(include_str!("data-card.md.jinja"), Language::En);
        self.data.as_ref().map(|_| card()).transpose()
    }

    /// The drafts of the technical documentation: the name of each file, and its text.
    ///
    /// # Errors
    /// As [`Self::data_card`].
    pub fn drafts(&self, language: Language) -> Result<Vec<(&'static str, String)>, TrainError> {
        let text = |draft: &Draft| {
            let template = match language {
                Language::En => draft.english,
                Language::Fr => draft.french,
            };
            Ok((draft.file, with_list_of_blanks(&self.render(template, language)?, language)))
        };
        DRAFTS.iter().map(text).collect()
    }

    fn render(&self, template: &str, language: Language) -> Result<String, TrainError> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A name that is misspelt in a template is a mistake of the program, which its tests are to find.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let lines = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(lines.expect("the usual delimiters"));
        let cell = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        environment.add_filter("cell", cell);
        environment.add_filter("digits", |number: f64, digits: usize| format!("{number:.digits$}"));
        environment.add_function("blank", move |what: String| format!("{}{what}]", language.mark()));
        let rendered = environment.template_from_str(template).and_then(|template| {
            template.render(context! {
                base => Serde(&self.base),
                run => Serde(&self.run),
                recipe => Serde(&self.run.recipe),
                data => Serde(&self.data),
                forgetting => Serde(&self.forgetting),
                date => self.date.clone(),
            })
        });
        // What the run itself wrote always fits; its evaluation may be from elsewhere.
        rendered.map_err(|error| TrainError::Run(format!("the run {} cannot be described: {error}", self.run.name)))
    }
}

/// Adds a list of the blanks, each with the heading that it stands under.
fn with_list_of_blanks(text: &str, language: Language) -> String {
    let mark = language.mark();
    let (mut heading, mut list) = ("", String::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim();
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once(mark) {
            let (what, after) = after.split_once(']').unwrap_or((after, ""));
            let _ = writeln!(list, "- {heading}: {what}");
            rest = after;
        }
    }
    format!("{}\n\n## {}\n\n{list}", text.trim_end(), language.heading_of_blanks())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_listed_with_their_headings() {
        let text =
            "# A\n\n[to be filled: one] and [to be filled: two]\n\n## B\n\nnone\n\n### C\n- [to be filled: three]\n";
        let listed = with_list_of_blanks(text, Language::En);
        assert!(listed.ends_with("## What is left open\n\n- A: one\n- A: two\n- C: three\n"), "{listed}");
    }
}

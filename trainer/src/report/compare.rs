//! Several runs side by side: their figures, and the recipe values that differ.

use serde::Serialize;

use super::tables::{Table, standing, steps};
use super::{Figures, RunReport, distinct_names};
use crate::language::Language;
use crate::recipe::{Differing, Recipe, differences};

/// What a run has of something.
type Of<'a> = &'a dyn Fn(&Figures, &RunReport) -> Option<String>;

/// Runs side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Their names, which tell them apart.
    pub names: Vec<String>,
    /// Their figures.
    pub figures: Vec<Figures>,
    /// The recipe values that are not the same in all; where they are written is none of these.
    pub differing: Vec<Differing>,
}

impl Compared {
    /// Puts runs side by side.
    pub fn new(runs: &[RunReport]) -> Self {
        let recipes: Vec<&Recipe> = runs.iter().map(|run| &run.recipe).collect();
        let mut differing = differences(&recipes);
        differing.retain(|value| value.key != "output");
        Self { names: distinct_names(runs), figures: runs.iter().map(RunReport::figures).collect(), differing }
    }

    /// The figures as rows, what each is and its value in every run; what no run has is left out.
    pub fn rows(runs: &[RunReport], lang: Language) -> Vec<(String, Vec<String>)> {
        let words = lang.words();
        let figures: Vec<(Figures, &RunReport)> = runs.iter().map(|run| (run.figures(), run)).collect();
        let all: [(&str, Of<'_>); 14] = [
            (words.status, &|figures, _| Some(standing(figures.standing, words).1.to_owned())),
            (words.base, &|figures, _| Some(figures.base.clone())),
            (words.steps, &|_, run| Some(steps(run, lang))),
            (words.best_loss, &|figures, _| {
                let step = figures.best_step.map(|step| format!(" ({} {})", words.at_step, lang.count(step)));
                Some(format!("{}{}", lang.number(figures.validation_loss?, 4), step.unwrap_or_default()))
            }),
            (words.last_loss, &|figures, _| figures.training_loss.map(|loss| lang.number(loss, 4))),
            (words.exact_match, &|figures, _| figures.exact_match.map(|share| lang.percent(share, 1))),
            (words.forgetting, &|figures, _| {
                figures.passed.map(|passed| if passed { words.passed } else { words.refused }.to_owned())
            }),
            (words.tokens_per_second, &|figures, _| figures.tokens_per_second.map(|speed| lang.number(speed, 0))),
            (words.time_in_steps, &|figures, _| (figures.seconds > 0.0).then(|| lang.seconds(figures.seconds))),
            (words.peak_memory, &|figures, _| figures.peak_bytes.map(|bytes| lang.bytes(bytes))),
            (words.energy, &|figures, _| figures.kwh.map(|kwh| lang.kwh(kwh))),
            (words.emitted, &|figures, _| figures.grams_co2e.map(|grams| format!("{} g CO2e", lang.short(grams)))),
            (words.trained_numbers, &|figures, _| figures.trained_numbers.map(|count| lang.count(count as u64))),
            (words.size, &|figures, _| Some(lang.bytes(figures.bytes))),
        ];
        let row = |(what, of): (&str, Of<'_>)| {
            let values: Vec<Option<String>> = figures.iter().map(|(figures, run)| of(figures, run)).collect();
            let is_known = values.iter().any(Option::is_some);
            is_known.then(|| (what.to_owned(), values.into_iter().map(Option::unwrap_or_default).collect()))
        };
        all.into_iter().filter_map(row).collect()
    }

    /// The figures as a table.
    pub(super) fn figures_table(&self, runs: &[RunReport], lang: Language) -> Table {
        let head = [String::new()].into_iter().chain(self.names.clone()).collect();
        let mut table = Table { head, words: 1, rows: Vec::new() };
        for (what, values) in Self::rows(runs, lang) {
            table.push("", [vec![what], values].concat());
        }
        table
    }

    /// The recipe values that differ as a table; `None` where none do.
    pub(super) fn recipe_table(&self, lang: Language) -> Option<Table> {
        let words = lang.words();
        let head = [words.key.to_owned()].into_iter().chain(self.names.clone()).collect();
        let mut table = Table { head, words: 1 + self.names.len(), rows: Vec::new() };
        for Differing { key, values } in &self.differing {
            let values = values.iter().map(|value| value.clone().unwrap_or_else(|| words.nothing.to_owned()));
            table.push("", [key.clone()].into_iter().chain(values).collect::<Vec<_>>());
        }
        (!table.rows.is_empty()).then_some(table)
    }
}

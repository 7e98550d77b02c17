//! Expressions and templates over drawn values: the environment of derived fields and of bounds.
//!
//! Days are texts of the form YYYY-MM-DD, which compare as the days do.

use std::collections::BTreeSet;
use std::fmt::Display;

use jiff::ToSpan as _;
use jiff::civil::Date;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

/// The environment, with all templates of a schema.
pub(super) struct Expressions {
    environment: Environment<'static>,
}

impl Default for Expressions {
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // An endless loop in a file ends as an error.
        environment.set_fuel(Some(1_000_000));
        environment.add_function("add_days", |day: String, days: i64| add(&day, days, |n| 0.days().try_days(n)));
        environment
            .add_function("add_months", |day: String, months: i64| add(&day, months, |n| 0.days().try_months(n)));
        environment.add_function("add_years", |day: String, years: i64| add(&day, years, |n| 0.days().try_years(n)));
        environment.add_function("days_between", |from: String, to: String| -> Result<i64, Error> {
            Ok(parse(&from)?.duration_until(parse(&to)?).as_hours() / 24)
        });
        environment.add_function("years_between", |from: String, to: String| -> Result<i64, Error> {
            let (from, to) = (parse(&from)?, parse(&to)?);
            let whole = i64::from(to.year()) - i64::from(from.year());
            Ok(whole - i64::from((to.month(), to.day()) < (from.month(), from.day())))
        });
        environment.add_function("year", |day: String| parse(&day).map(|day| i64::from(day.year())));
        environment.add_function("month", |day: String| parse(&day).map(|day| i64::from(day.month())));
        environment.add_function("day", |day: String| parse(&day).map(|day| i64::from(day.day())));
        Self { environment }
    }
}

impl Expressions {
    /// Checks an expression; the names that it uses.
    pub(super) fn check(&self, expression: &str) -> Result<BTreeSet<String>, String> {
        let compiled = self.environment.compile_expression(expression).map_err(|error| said(&error))?;
        Ok(self.without_globals(compiled.undeclared_variables(false)))
    }

    /// Takes a template in; the names that it uses.
    pub(super) fn add(&mut self, template: &str) -> Result<BTreeSet<String>, String> {
        let failed = |error: Error| format!("line {} of the template: {}", error.line().unwrap_or(1), said(&error));
        self.environment.add_template_owned(template.to_owned(), template.to_owned()).map_err(failed)?;
        let compiled = self.environment.get_template(template).map_err(failed)?;
        Ok(self.without_globals(compiled.undeclared_variables(false)))
    }

    fn without_globals(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        names.into_iter().filter(|name| !globals.contains(name.as_str())).collect()
    }

    /// The value of an expression.
    pub(super) fn evaluate(&self, expression: &str, scope: Value) -> Result<Value, String> {
        let compiled = self.environment.compile_expression_owned(expression.to_owned());
        compiled.and_then(|compiled| compiled.eval(scope)).map_err(|error| said(&error))
    }

    /// The text of a template that was taken in.
    pub(super) fn render(&self, template: &str, scope: Value) -> Result<String, String> {
        let rendered = self.environment.get_template(template).and_then(|template| template.render(scope));
        rendered
            .map(|text| text.trim().to_owned())
            .map_err(|error| format!("line {} of the template: {}", error.line().unwrap_or(1), said(&error)))
    }
}

/// What the engine says, in one line.
pub(super) fn said(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn failed(reason: impl Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_string())
}

fn parse(day: &str) -> Result<Date, Error> {
    day.parse().map_err(|_| failed(format!("got {day:?}, expected a day as YYYY-MM-DD")))
}

fn add(day: &str, count: i64, span: impl FnOnce(i64) -> Result<jiff::Span, jiff::Error>) -> Result<String, Error> {
    let sum = span(count).and_then(|span| parse(day).map_or_else(|_| Ok(None), |day| day.checked_add(span).map(Some)));
    match sum {
        Ok(Some(sum)) => Ok(sum.to_string()),
        Ok(None) => parse(day).map(|day| day.to_string()),
        Err(error) => Err(failed(error)),
    }
}

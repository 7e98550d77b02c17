//! What a set of samples may cost, over all runs that make it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Completion, Request};

/// The most that may be spent on a set, everything asked earlier included; null is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Requests, at least 1.
    pub requests: Option<u64>,
    /// Tokens read and written, at least 1.
    pub tokens: Option<u64>,
    /// Money, in the currency of the teacher's `price`, above 0.
    pub money: Option<f64>,
}

/// What one million tokens cost, in any currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens read.
    pub input: f64,
    /// Tokens written.
    pub output: f64,
}

/// What was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Requests answered.
    pub requests: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

impl Spent {
    /// What an answer took.
    pub fn of(completion: &Completion) -> Self {
        let Completion { prompt_tokens, completion_tokens, .. } = *completion;
        Self { requests: 1, prompt_tokens, completion_tokens }
    }

    /// The most that a request may take: a token a character is more than any tokenizer needs for most languages.
    pub(super) fn at_most(request: &Request) -> Self {
        let [prompt_tokens, completion_tokens] = [request.prompt.characters(), request.sampling.max_tokens];
        Self { requests: 1, prompt_tokens: prompt_tokens as u64, completion_tokens: completion_tokens as u64 }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }

    /// In money.
    pub fn cost(&self, price: Price) -> f64 {
        (self.prompt_tokens as f64 * price.input + self.completion_tokens as f64 * price.output) / 1e6
    }
}

impl Budget {
    /// Which limit would be passed by spending so much, in words.
    pub(super) fn passed_by(&self, spent: Spent, price: Price) -> Option<String> {
        let tokens = spent.prompt_tokens + spent.completion_tokens;
        let passed = |limit: Option<u64>, count: u64| limit.filter(|limit| count > *limit);
        if let Some(limit) = passed(self.requests, spent.requests) {
            return Some(format!("budget.requests, {limit}"));
        }
        if let Some(limit) = passed(self.tokens, tokens) {
            return Some(format!("budget.tokens, {limit}"));
        }
        let limit = self.money.filter(|limit| spent.cost(price) > *limit)?;
        Some(format!("budget.money, {limit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named_when_it_would_be_passed() {
        let spent = Spent { requests: 10, prompt_tokens: 1_000_000, completion_tokens: 500_000 };
        let price = Price { input: 0.5, output: 2.0 };
        assert!((spent.cost(price) - 1.5).abs() < 1e-12);
        let passed = |budget: Budget| budget.passed_by(spent, price);
        assert_eq!(passed(Budget::default()), None);
        assert_eq!(passed(Budget { requests: Some(10), tokens: Some(1_500_000), money: Some(1.5) }), None);
        assert_eq!(passed(Budget { requests: Some(9), ..Budget::default() }).unwrap(), "budget.requests, 9");
        assert_eq!(passed(Budget { tokens: Some(1_499_999), ..Budget::default() }).unwrap(), "budget.tokens, 1499999");
        assert_eq!(passed(Budget { money: Some(1.4), ..Budget::default() }).unwrap(), "budget.money, 1.4");
    }
}

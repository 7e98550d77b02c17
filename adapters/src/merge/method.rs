//! The methods by PEFT's names: **the one place to add one**, with its formula in `algebra`.

use std::fmt;
use std::str::FromStr;

use crate::config::nearest;

/// How the matrices of several adapters become one pair; the names are those of PEFT's `combination_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The weighted sum of the As and that of the Bs. Not the sum of the updates: products across adapters come in.
    Linear,
    /// As and Bs one after the other: exactly the weighted sum of the updates, at the price of a rank that is the sum of
    /// the ranks.
    Cat,
    /// TIES: small numbers are dropped, a sign is elected for each number, and those that have it are averaged. Source:
    /// Yadav et al. 2023, <https://arxiv.org/abs/2306.01708>.
    Ties,
    /// DARE, then the weighted sum: random numbers are dropped and the others enlarged to make up for it. Source: Yu et
    /// al. 2023, <https://arxiv.org/abs/2311.03099>.
    DareLinear,
    /// DARE, then TIES without its own pruning.
    DareTies,
    /// Small numbers are dropped, then the weighted sum.
    MagnitudePrune,
    /// The weighted sum of the updates, cut to its largest singular parts.
    Svd,
}

/// How numbers are dropped before they are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pruning {
    None,
    /// The smallest, each matrix for itself.
    Magnitude,
    /// At random; what stays is divided by the density.
    Random,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Linear, Self::Cat, Self::Ties, Self::DareLinear, Self::DareTies, Self::MagnitudePrune, Self::Svd];

    /// PEFT's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cat => "cat",
            Self::Ties => "ties",
            Self::DareLinear => "dare_linear",
            Self::DareTies => "dare_ties",
            Self::MagnitudePrune => "magnitude_prune",
            Self::Svd => "svd",
        }
    }

    /// Whether it drops numbers, and so needs a density.
    pub fn prunes(self) -> bool {
        self.pruning() != Pruning::None
    }

    /// Whether it elects signs.
    pub fn elects(self) -> bool {
        matches!(self, Self::Ties | Self::DareTies)
    }

    /// Whether the adapters' ranks may differ.
    pub fn takes_different_ranks(self) -> bool {
        matches!(self, Self::Cat | Self::Svd)
    }

    pub(super) fn pruning(self) -> Pruning {
        match self {
            Self::Linear | Self::Cat | Self::Svd => Pruning::None,
            Self::Ties | Self::MagnitudePrune => Pruning::Magnitude,
            Self::DareLinear | Self::DareTies => Pruning::Random,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.replace('-', "_");
        if let Some(method) = Self::ALL.into_iter().find(|method| method.name() == name) {
            return Ok(method);
        }
        let known = Self::ALL.map(Self::name);
        if name.ends_with("_svd") {
            return Err(format!(
                "the methods that prune dense updates are not supported; take svd, or another of {}",
                known.join(", ")
            ));
        }
        let hint = nearest(&name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Err(format!("expected one of {}{hint}", known.join(", ")))
    }
}

/// How TIES elects the sign of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MajoritySign {
    /// The sign of the sum over the adapters.
    #[default]
    Total,
    /// The sign that more of the adapters have.
    Frequency,
}

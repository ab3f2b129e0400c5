//! A figure: what was measured, beside which yardstick, and how far it was to reach. Measured and
//! yardstick take turns; the ratio is the median of the rounds' ratios, so that a neighbour's work
//! on the machine, which slows both sides of a round, does not decide.

use anyhow::Result;
use serde::Serialize;

/// How far a figure is to reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    AtLeast(f64),
    AtMost(f64),
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub what: String,
    pub measured: f64,
    pub unit: &'static str,
    /// Same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yardstick: Option<f64>,
    /// What is held against the reach: the ratio where there is a yardstick, else the figure itself.
    pub judged: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// `judged` of each round.
    pub rounds: Vec<f64>,
    pub note: String,
}

impl Figure {
    /// A figure beside its yardstick; each round has both.
    pub fn beside(
        what: impl Into<String>,
        unit: &'static str,
        rounds: &[(f64, f64)],
        reach: Option<Reach>,
    ) -> Self {
        let ratios: Vec<f64> = rounds.iter().map(|(measured, yardstick)| measured / yardstick).collect();
        Self {
            what: what.into(),
            measured: median(rounds.iter().map(|round| round.0)),
            unit,
            yardstick: Some(median(rounds.iter().map(|round| round.1))),
            judged: median(ratios.iter().copied()),
            reach,
            rounds: ratios,
            note: String::new(),
        }
    }

    /// A figure that stands for itself.
    pub fn alone(what: impl Into<String>, unit: &'static str, rounds: &[f64], reach: Option<Reach>) -> Self {
        let middle = median(rounds.iter().copied());
        Self {
            what: what.into(),
            measured: middle,
            unit,
            yardstick: None,
            judged: middle,
            reach,
            rounds: rounds.to_vec(),
            note: String::new(),
        }
    }

    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// `None` where nothing is to be reached.
    pub fn is_reached(&self) -> Option<bool> {
        self.reach.map(|reach| match reach {
            Reach::AtLeast(least) => self.judged >= least,
            Reach::AtMost(most) => self.judged <= most,
        })
    }
}

/// The middle one; the mean of the two middle ones of an even number; 0 of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Runs both sides by turns. Every other round begins with the other side, so that neither always
/// comes after the same thing.
pub fn alternate<A, B>(
    rounds: usize,
    mut measured: impl FnMut() -> Result<A>,
    mut yardstick: impl FnMut() -> Result<B>,
) -> Result<Vec<(A, B)>> {
    (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let a = measured()?;
                Ok((a, yardstick()?))
            } else {
                let b = yardstick()?;
                Ok((measured()?, b))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_ratios() {
        let figure =
            Figure::beside("x", "1/s", &[(1.0, 2.0), (9.0, 10.0), (6.0, 10.0)], Some(Reach::AtLeast(0.6)));
        assert!((figure.judged - 0.6).abs() < 1e-9);
        assert!((figure.measured - 6.0).abs() < 1e-9);
        assert_eq!(figure.is_reached(), Some(true));
    }

    #[test]
    fn medians_of_even_odd_and_none() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
        assert!(median(std::iter::empty()).abs() < 1e-9);
    }
}

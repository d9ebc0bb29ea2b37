//! Numbers that were measured one after the other, and what can be said of them.

use serde::{Deserialize, Serialize};

/// Where the middle half of the values is spread wider than this share of the median, they are noise.
const NOISE: f64 = 0.5;

/// Values in the order in which they were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// What came after the first round, which is not counted.
    pub(crate) fn after_first(&self) -> Self {
        self.0.iter().skip(1).copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.percentile(50)
    }

    /// The value that so many percent are not greater than.
    pub(crate) fn percentile(&self, of: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (sorted.len() * of).div_ceil(100).saturating_sub(1);
        sorted.get(place).copied()
    }

    /// How wide the middle half is, as a share of the median.
    pub(crate) fn spread(&self) -> Option<f64> {
        let (low, high) = (self.percentile(25)?, self.percentile(75)?);
        self.median().filter(|median| *median > 0.0).map(|median| (high - low) / median)
    }

    /// Whether it is spread too wide to be quoted.
    pub(crate) fn is_noise(&self) -> bool {
        self.spread().is_some_and(|spread| spread > NOISE)
    }

    /// Each value by the one of the same round in another series.
    pub(crate) fn pair_by_pair(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.filter(|(_, other)| **other > 0.0).map(|(ours, other)| ours / other).collect())
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        values.iter().copied().collect()
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let series = series(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(series.median(), Some(3.0));
        assert_eq!(series.percentile(99), Some(5.0));
        assert_eq!(series.percentile(1), Some(1.0));
        assert_eq!(Series::default().median(), None);
        assert_eq!((series.mean(), Series::default().mean()), (Some(3.0), None));
    }

    #[test]
    fn what_is_spread_wide_is_noise_and_one_slow_run_is_not() {
        assert!(series(&[1.0, 2.0, 3.0, 4.0]).is_noise());
        assert!(!series(&[10.0, 10.1, 10.2, 10.3, 99.0]).is_noise());
    }

    #[test]
    fn a_ratio_is_made_of_values_of_the_same_round() {
        let ratios = series(&[1.0, 4.0]).pair_by_pair(&series(&[2.0, 4.0, 9.0]));
        assert_eq!(ratios, series(&[0.5, 1.0]));
    }
}

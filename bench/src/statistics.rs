//! Order statistics of rounds.

/// The values of all rounds, in order of size.
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    /// Sorts values; there must be one at least.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "no rounds");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value below which the given share of rounds lies, 0 to 1.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let position = (self.0.len() - 1) as f64 * share;
        let (low, high) = (position.floor(), position.ceil());
        let (below, above) = (self.0[low as usize], self.0[high as usize]);
        below + (above - below) * (position - low)
    }

    /// The smallest value.
    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The value in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let sorted = Sorted::new([4.0, 1.0, 3.0, 2.0]);
        assert_eq!(sorted.min(), 1.0);
        assert_eq!(sorted.median(), 2.5);
        assert_eq!(sorted.quantile(1.0), 4.0);
    }
}

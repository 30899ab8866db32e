//! Whether to believe a list that lacks most of what was known.

/// Fewer objects may go at once without a second look.
const FEW: usize = 10;

/// What a new list does to the known objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shrinkage {
    /// Objects known before.
    pub(super) known: usize,
    /// Of these, objects that the list lacks.
    pub(super) missing: usize,
}

impl Shrinkage {
    /// More than half is gone, and that is more than a few.
    ///
    /// Routes and address blocks hang on these objects, and losing them all at once is rather a server set up anew or
    /// restored from a copy than somebody's will.
    pub(super) fn is_suspicious(self) -> bool {
        self.missing > FEW && self.missing * 2 > self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_losing_most_of_many_is_suspicious() {
        let suspicious = |known, missing| Shrinkage { known, missing }.is_suspicious();
        assert!(suspicious(11, 11));
        assert!(suspicious(1000, 501));
        assert!(!suspicious(1000, 500));
        assert!(
            !suspicious(10, 10),
            "somebody removes a small cluster's pools"
        );
        assert!(!suspicious(0, 0));
    }
}

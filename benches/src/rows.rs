//! Every row, one module for each group.

mod allocator;
mod call;
mod file;
mod frozen;
mod graph;
mod machine;
mod network;
mod operators;
mod optimizer;
mod random;
mod train;
mod vars;

use crate::harness::Entry;
use crate::peer::Peers;

/// The rows in the order that they run in.
pub(crate) fn all(peers: &Peers) -> Vec<Entry> {
    [
        random::rows(),
        vars::rows(),
        graph::rows(peers),
        call::rows(),
        network::rows(),
        operators::rows(),
        frozen::rows(),
        optimizer::rows(),
        train::rows(peers),
        allocator::rows(),
        file::rows(),
        machine::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_paths() {
        let mut seen = BTreeSet::new();
        for entry in all(&Peers::default()) {
            let plain = |part: &str| {
                !part.is_empty()
                    && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
            };
            assert!(entry.name.contains('/') && entry.name.split('/').all(plain), "{}", entry.name);
            assert!(seen.insert(entry.name.clone()), "{} is there twice", entry.name);
        }
    }
}
